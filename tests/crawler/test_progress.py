"""The progress line of a crawl: the estimated time left, or what the crawl waits for."""

from __future__ import annotations

import os
import threading
import time

import pytest

from crawler.crawl import crawl
from crawler.progress import Progress
from models.settings import Settings
from tests.crawler.empty_ledger import Ledger
from tests.crawler.http_stub import IRELAND, MEMBER, serving


def test_the_line_estimates_the_time_left() -> None:
    """Half of the scopes took as long as the other half will; without a finished scope, nothing is known."""
    progress = Progress(live=False)
    progress.accounts, progress.accounts_opened, progress.scopes = 2, 2, 10
    assert progress.line().endswith("scopes 0/10, 0 calls (0/s), 0 gaps, time left unknown")
    progress.scopes_done = 5
    progress._started = time.monotonic() - 60
    assert progress.line().endswith("about 1:00 left")


def test_the_line_names_what_a_crawl_waits_for(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """While only the last use of keys is polled, no time is estimated: the line says what is polled, and the limit."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOWN")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with serving() as aws:
        released = aws.stall(MEMBER, IRELAND, "kms:GetKeyLastUsage")
        values = {
            "database": f"sqlite:///{ledger.path}",
            "aws": {"endpoint_url": aws.url, "read_timeout": 60},
            "crawl": {"resource_types": ["AWS::SecretsManager::Secret"], "quota_share_percent": 100},
        }
        progress = Progress(live=False)
        thread = threading.Thread(target=crawl, args=(Settings.model_validate(values), "test", progress))
        thread.start()
        try:
            limit = time.monotonic() + 60
            expected = "waiting for the last use of keys: 3 polled, 1 account-region left, at most 30 minutes"
            while not (expected in (line := progress.line()) and "scopes 4/4" in line):
                assert time.monotonic() < limit, line
                time.sleep(0.05)
        finally:
            released.set()
            thread.join()

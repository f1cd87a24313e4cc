"""The command `kmsledger estimate`: against real crawls of a fake organization, from the ledger, and from given numbers."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import select

from benchmarks.fake_aws.client import FakeAws
from benchmarks.fake_aws.presets import preset
from crawler.crawl import crawl
from crawler.progress import Progress
from models.settings import load
from models.store.engine import connect
from models.tables.runs import ScopeCoverage
from tests import command


@pytest.fixture(scope="module")
def aws() -> Iterator[FakeAws]:
    parameters = preset(
        "tiny", seed=4, accounts=3, adversarial=False, key_denials=False, keys_per_account_region=3, resources=0.1
    )
    with FakeAws(parameters) as endpoint:
        yield endpoint


@pytest.fixture
def settings(aws: FakeAws, tmp_path: Path) -> Path:
    values = {
        "database": "sqlite:///ledger.db",
        "aws": {"endpoint_url": aws.url},
        "role": {"external_id": aws.world.parameters.external_id},
        "crawl": {"quota_share_percent": 100},
    }
    path = tmp_path / "kmsledger.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def estimated(aws: FakeAws, settings: Path, *options: str) -> dict[str, Any]:
    """The JSON document of `kmsledger estimate`."""
    arguments = ("estimate", "--format", "json", *options, "--config", str(settings))
    done = command.run(*arguments, env={**os.environ, **aws.environment()})
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_the_estimate_agrees_with_the_crawl(
    aws: FakeAws, settings: Path, sqlite_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All accounts are counted: the calls of the first run by operation; then the ledger answers, without a call."""
    before = estimated(aws, settings)
    assert before["basis"] == "3 accounts, 3 of them counted"
    assert before["size"]["customer_managed_keys"]["low"] == before["size"]["customer_managed_keys"]["high"]
    assert not (settings.parent / "ledger.db").exists()
    for name, value in aws.environment().items():
        monkeypatch.setenv(name, value)
    shutil.copy(sqlite_template, settings.parent / "ledger.db")
    aws.control.reset()
    result = crawl(load(settings), "test", Progress(live=False))
    made = aws.control.counters()["operations"]
    expected = before["runs"]["first"]["calls_by_operation"]
    assert set(expected) <= set(made) | {"elasticache:ListTagsForResource"}
    assert set(made) - set(expected) <= {"account:ListRegions"}
    # Empty pages, asymmetric keys without rotation, grants in further pages.
    assert expected["kms:DescribeKey"] == made["kms:DescribeKey"]
    assert sum(expected.values()) == pytest.approx(sum(made.values()), rel=0.15)
    aws.control.reset()
    after = estimated(aws, settings)
    assert not aws.control.counters()["operations"]
    assert after["basis"] == "the ledger, as run 1 left it"
    assert after["last_run"]["calls"] == result.calls
    assert after["size"]["customer_managed_keys"] == before["size"]["customer_managed_keys"]
    assert after["size"]["account_regions"] == before["size"]["account_regions"] == _regional_scopes(settings)
    assert after["runs"]["first"]["calls"]["expected"] == pytest.approx(result.calls, rel=0.15)
    assert after["runs"]["later"]["calls"]["expected"] < after["runs"]["first"]["calls"]["expected"]


def _regional_scopes(settings: Path) -> int:
    engine = connect(load(settings).database)
    try:
        with engine.connect() as connection:
            regions = connection.execute(select(ScopeCoverage.region)).scalars().all()
    finally:
        engine.dispose()
    return sum(region != "global" for region in regions)


def test_a_sample_gives_a_range(aws: FakeAws, settings: Path) -> None:
    """With one of three accounts counted, the numbers are scaled, and the range and its limits are named."""
    document = estimated(aws, settings, "--sample", "1")
    keys = document["size"]["customer_managed_keys"]
    assert keys["low"] <= keys["expected"] < keys["high"]
    calls, seconds = document["runs"]["first"]["calls"], document["runs"]["first"]["seconds"]
    assert calls["low"] <= calls["expected"] < calls["high"]
    assert seconds["low"] < seconds["high"]
    assert any("one large account that was not sampled can exceed the range" in note for note in document["notes"])


def test_given_numbers_need_no_call(aws: FakeAws, settings: Path) -> None:
    """The text states what is assumed, the price and its source; nothing is called."""
    aws.control.reset()
    arguments = ("estimate", "--accounts", "1000", "--keys", "20000", "--config", str(settings))
    done = command.run(*arguments, env={"PATH": os.environ["PATH"]})
    assert done.returncode == 0, done.stderr
    text = done.stdout
    assert text.startswith("Estimate, not a measurement. Size: given numbers.")
    assert "1,000 accounts, 17,000 account-regions, 20,000 customer managed keys" in text
    assert "decided by kms:ListGrants in the largest account-region" in text or "decided by processor time" in text
    assert "0.03 USD per 10,000" in text
    assert "aws.amazon.com/kms/pricing" in text
    assert not aws.control.counters()["operations"]


@pytest.mark.parametrize("options", [("--accounts", "5"), ("--keys", "5"), ("--regions", "5"), ("--accounts", "0")])
def test_incomplete_numbers_are_usage_errors(settings: Path, options: tuple[str, ...]) -> None:
    """Accounts and keys belong together; regions need both."""
    assert command.run("estimate", *options, "--config", str(settings), env={}).returncode == 2

"""The same organization gives the same findings and reports: night after night, and through either transport."""

from __future__ import annotations

import base64
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.fake_aws.client import FakeAws
from benchmarks.fake_aws.presets import preset
from demo.smtp import MailServer
from tests.end_to_end.conftest import Installation
from tests.reports.mart_schema import offer_schema

pytestmark = pytest.mark.deep

REPORTS = ("overview", "compliance")
OF_THE_RUN = re.compile(
    r"\b20\d\d-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?(\.\d+)?(Z| UTC)?\b|\b\d+(\.\d+)? (s|seconds|min|minutes)\b"
    r"|(?<=\brun )\d+|(?<=Run <b>)\d+|\b\d+(?= runs\b)|<svg .*?</svg>"
    r"|<section id=\"trends\".*?</section>",
    re.DOTALL,
)
"""What differs between any two runs: moments, durations, the number of the run, numbers of runs, and trends over runs."""
ROWS = re.compile(r'(?<=<template class="rows">).*?(?=</template>)')
GAPS = re.compile(r'<table[^>]*data-name="gaps">.*?(?:<template class="rows">.*?</template>\s*)+', re.DOTALL)
"""The table with a number of runs, in HTML and in its rows."""


@pytest.fixture(scope="module")
def aws() -> Iterator[FakeAws]:
    """An organization without changes, with the edge cases of every service."""
    with FakeAws(preset("tiny", seed=11, accounts=2, keys_per_account_region=4, resources=0.2)) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def install(aws: FakeAws, mail: MailServer, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Installation]:
    """Return an installation without a ledger, which reads the organization through a transport."""

    def make(transport: str) -> Installation:
        directory = tmp_path_factory.mktemp(transport)
        offer_schema(directory / "kmsledger.duckdb")
        values = {
            "database": "sqlite:///ledger.db",
            "aws": {"endpoint_url": aws.url},
            "crawl": {"quota_share_percent": 100, "iam": True, "transport": transport},
            "role": {"external_id": aws.world.parameters.external_id},
            "report": {"directory": "reports", "mart": "kmsledger.duckdb"},
        }
        settings = directory / "kmsledger.yaml"
        settings.write_text(yaml.safe_dump(values), encoding="utf-8")
        return Installation(mail, directory, settings, {**os.environ, **aws.environment()})

    return make


@pytest.fixture(scope="module")
def one_night(install: Callable[[str], Installation]) -> Installation:
    """An installation after its first run."""
    installation = install("curl")
    night(installation)
    return installation


def night(installation: Installation) -> None:
    done = installation.run("nightly")
    assert done.returncode == 3, done.stderr


def findings(installation: Installation) -> list[dict[str, Any]]:
    rows = installation.sql(
        "SELECT * EXCLUDE (first_failed, last_seen, since) FROM findings ORDER BY rule_id, resource_arn"
    )
    assert rows
    return rows


def page(installation: Installation, name: str, run: int) -> str:
    """Return a report without what differs between any two runs."""
    text = (installation.directory / "reports" / f"kmsledger-{name}-run{run}.html").read_text(encoding="utf-8")
    text = ROWS.sub(lambda chunk: zlib.decompress(base64.b64decode(chunk[0])).decode(), text)
    text = GAPS.sub(lambda table: re.sub(r"\d+", "", table[0]), text)
    return OF_THE_RUN.sub("", text)


def test_quiet_nights_change_nothing(one_night: Installation, tmp_path: Path) -> None:
    """Nights in which nothing changed have the same findings, no change, no difference, and the same text."""
    shutil.copytree(one_night.directory, tmp_path / "quiet")
    installation = replace(
        one_night, directory=tmp_path / "quiet", settings=tmp_path / "quiet" / one_night.settings.name
    )
    for _ in range(2):  # some findings need two runs with the same gap
        night(installation)
    before = findings(installation)
    pages = {name: page(installation, name, 3) for name in REPORTS}
    night(installation)
    assert findings(installation) == before
    assert installation.sql("FROM changes") == []
    assert installation.sql("FROM changes_as_of(2)") == []
    assert installation.sql("FROM findings_history WHERE valid_from > 2") == []
    for name, text in pages.items():
        assert page(installation, name, 4) == text, name


def test_both_transports_give_the_same_findings_and_reports(
    one_night: Installation, install: Callable[[str], Installation]
) -> None:
    """Findings and reports are the same, byte by byte, whichever transport read the organization."""
    curl, boto3 = one_night, install("boto3")
    night(boto3)
    assert findings(curl) == findings(boto3)
    for name in REPORTS:
        assert page(curl, name, 1) == page(boto3, name, 1), name

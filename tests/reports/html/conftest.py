"""The sample organization's mart with the rules' findings, and its report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from models.settings import Settings
from reports.html.registry import find, write
from reports.mart.connection import connect
from reports.pipeline import refresh
from tests.made_once import made_once
from tests.reports.html.page import Node, read
from tests.reports.ledger_builder import LedgerBuilder
from tests.reports.mart_schema import offer_schema
from tests.reports.sample_ledger import (
    DATA,
    IRELAND,
    LOCKED,
    PAYMENTS,
    SHOP,
    VENDOR,
    sample_world,
    second_run,
    third_run,
)

REVERSED = "invoice\u202egnp.exe\u200b"
LONG = "x" * 4000
INJECTED = "alias/\"><script>document.title='owned'</script><img src=http://probe.example/x>"

INVOICES = f"arn:aws:kms:{IRELAND}:{SHOP}:key/00000000-0000-4000-8000-000000000002"

Make = Callable[..., Settings]


@pytest.fixture(scope="session")
def make_settings(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Settings whose files are in a directory of their own."""

    def make(**values: Any) -> Settings:
        made = _settings_in(tmp_path_factory.mktemp("report"), **values)
        offer_schema(made.report.mart)
        return made

    return make


def _settings_in(folder: Path, **values: Any) -> Settings:
    parties = [{"name": "Vendor <b>Inc</b>", "accounts": [VENDOR]}]
    report = {"directory": "out", "mart": "mart.duckdb", **values.pop("report", {})}
    return Settings.model_validate(
        {"database": "sqlite:///ledger.db", "known_external_parties": parties, "report": report, **values},
        context={"base": str(folder)},
    )


TEAM = "../Team {} <b>'?\"</b>"
OWNERS = [{"tag": "Owner"}, {"account": DATA, "owner": TEAM}, {"account": LOCKED, "owner": "locked"}]


def world_of(settings: Settings) -> LedgerBuilder:
    """The sample organization before its first run."""
    return sample_world(Path(settings.database.removeprefix("sqlite:///")))


@pytest.fixture(scope="session")
def settings(shared_directory: Path) -> Settings:
    """Settings of the sample organization after three runs, with its mart built; some names are hostile.

    All processes of the test run share the ledger and the mart: do not write to them.
    """
    return _settings_in(made_once(shared_directory / "hostile-sample", _make_hostile_sample), owners=OWNERS)


def _make_hostile_sample(folder: Path) -> None:
    folder.mkdir()
    made = _settings_in(folder, owners=OWNERS)
    offer_schema(made.report.mart)
    world = world_of(made)
    hostile = world.key(SHOP, IRELAND, "00000000-0000-4000-8000-0000000000aa", description=LONG)
    world.alias(INJECTED, hostile)
    world.tag(hostile, **{REVERSED: "'\"`&amp;", "plain": LONG})
    secret = world.secret(SHOP, IRELAND, "evil/</script><script>document.title='owned'</script>")
    world.uses(secret, hostile, role="secret")
    unasked = "00000000-0000-4000-8000-0000000000bb"
    world.key(SHOP, IRELAND, unasked, manager="AWS", policy=None, rotation="unknown")
    world.crawl()
    second_run(world)
    # Its key will be deleted, and belongs to another account.
    world.uses(world.secret(PAYMENTS, IRELAND, "payments/shared"), INVOICES, role="secret")
    world.crawl()
    third_run(world)
    world.crawl()
    refresh(made)


@pytest.fixture
def mart(settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    """The sample organization's mart."""
    with connect(settings.report.mart) as connection:
        yield connection


def report_of(
    settings: Settings, directory: Path | None = None, name: str = "overview", subject: str | None = None
) -> Path:
    """Write a report; returns the path of the file whose name does not depend on the run."""
    directory = directory or settings.report.directory
    *_, latest = write([find(name, subject)], settings.report.mart, directory, settings, subject=subject)
    return latest


@pytest.fixture(scope="session")
def path(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample organization's report."""
    return report_of(settings, tmp_path_factory.mktemp("out"))


@pytest.fixture(scope="session")
def page(path: Path) -> Node:
    """The sample organization's report, parsed."""
    return read(path.read_text(encoding="utf-8"))

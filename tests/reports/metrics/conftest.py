"""A run and its mart, whose metrics the tests read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from models.settings import Settings
from models.store.engine import connect
from reports.pipeline import refresh
from tests.reports.ledger_builder import LedgerBuilder, settings_of

SHOP, LOCKED, IRELAND, VIRGINIA = "111122223333", "333344445555", "eu-west-1", "us-east-1"


@pytest.fixture(scope="module")
def analyzed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run with a denied call in one of three account-regions, and of its mart."""
    folder = tmp_path_factory.mktemp("analyzed")
    world = LedgerBuilder(settings_in(folder).database)
    world.account(SHOP, "shop", IRELAND, VIRGINIA)
    world.account(LOCKED, "locked", IRELAND)
    key = world.key(SHOP, IRELAND, "1234abcd-12ab-34cd-56ef-1234567890ab")
    world.gap(SHOP, IRELAND, "kms:ListGrants", key)
    world.crawl()
    engine = connect(world.url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE scope_coverage SET calls = 10, retries = 2, started_at = finished_at")
    engine.dispose()
    refresh(settings_in(folder))
    return folder


@pytest.fixture
def settings(analyzed: Path, tmp_path: Path) -> Settings:
    """A copy of this run and its mart."""
    return settings_in(Path(shutil.copytree(analyzed, tmp_path / "copy")))


def settings_in(folder: Path) -> Settings:
    """Settings with ledger, mart and metrics in a directory."""
    return settings_of(
        database=f"sqlite:///{folder / 'ledger.db'}",
        report={"mart": folder / "mart.duckdb"},
        metrics={"textfile": folder / "kmsledger.prom"},
    )

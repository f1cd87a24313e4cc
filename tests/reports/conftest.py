"""One sample ledger and its mart for the tests that only read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from models.settings import Settings
from reports.mart.connection import connect
from reports.pipeline import refresh
from tests.reports.ledger_builder import LedgerBuilder, settings_of
from tests.reports.sample_ledger import sample_ledger

SHOP, IRELAND = "111122223333", "eu-west-1"
RunQuery = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture(scope="session")
def sample_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("sample")
    url = sample_ledger(folder / "ledger.db")
    settings = settings_of(database=url, report={"mart": folder / "sample.duckdb"})
    refresh(settings)
    return settings


@pytest.fixture(scope="session")
def sample_mart(sample_settings: Settings) -> Path:
    return sample_settings.report.mart


@pytest.fixture
def mart(sample_mart: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    connection = connect(sample_mart)
    yield connection
    connection.close()


@pytest.fixture
def run_query(mart: duckdb.DuckDBPyConnection) -> RunQuery:
    def fetch_all(query: str, *values: Any) -> list[tuple[Any, ...]]:
        return mart.execute(query, values).fetchall()

    return fetch_all


@pytest.fixture
def world(tmp_path: Path) -> LedgerBuilder:
    """An organization of one account, not yet crawled."""
    world = LedgerBuilder(f"sqlite:///{tmp_path / 'store.db'}")
    world.account(SHOP, "Shop", IRELAND)
    return world

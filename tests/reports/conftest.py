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
from tests.made_once import made_once
from tests.reports.ledger_builder import LedgerBuilder, settings_of
from tests.reports.sample_ledger import sample_ledger
from tests.reports.situation_organization import situation_settings, write_organization

SHOP, IRELAND = "111122223333", "eu-west-1"
RunQuery = Callable[..., list[tuple[Any, ...]]]


def _sample_settings(folder: Path) -> Settings:
    return settings_of(database=f"sqlite:///{folder / 'ledger.db'}", report={"mart": folder / "sample.duckdb"})


def _make_sample(folder: Path) -> None:
    folder.mkdir()
    sample_ledger(folder / "ledger.db")
    refresh(_sample_settings(folder))


@pytest.fixture(scope="session")
def sample_settings(shared_directory: Path) -> Settings:
    """Settings of the sample ledger and its mart, which all processes of the test run share: do not write to them."""
    return _sample_settings(made_once(shared_directory / "sample", _make_sample))


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


def make_situations(folder: Path) -> None:
    """Write the organization with every kind of situation and its mart."""
    folder.mkdir()
    settings = situation_settings(folder)
    write_organization(settings.database)
    refresh(settings)


@pytest.fixture(scope="session")
def situation_mart(shared_directory: Path) -> Path:
    """The mart of the organization with every kind of situation, which all processes of the test run share."""
    return situation_settings(made_once(shared_directory / "situations", make_situations)).report.mart


@pytest.fixture
def situation_reader(situation_mart: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(situation_mart) as connection:
        yield connection


@pytest.fixture
def world(tmp_path: Path) -> LedgerBuilder:
    """An organization of one account, not yet crawled."""
    world = LedgerBuilder(f"sqlite:///{tmp_path / 'store.db'}")
    world.account(SHOP, "Shop", IRELAND)
    return world

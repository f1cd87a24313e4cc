"""The mart answers only for runs whose history is complete, not for pruned ones."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from sqlalchemy import select

from models.settings import Settings
from models.store.engine import connect as store
from models.store.retention import prune
from models.tables.keys import KeyMetadata
from models.tables.runs import Run, RunStatus
from reports.answers.run_diff import diff
from reports.mart import as_of_connection
from reports.mart.build import build
from reports.mart.connection import connect
from reports.mart.errors import QueryError
from tests.reports.ledger_builder import FIRST_RUN, LedgerBuilder

ACCOUNT, REGION = "111122223333", "eu-west-1"
DAY = dt.timedelta(days=1)


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A ledger of six runs, of which the last two are not pruned, and its mart.

    Each run changes a key's description; the tag added in the third run stays, and so does that run's number.
    """
    folder = tmp_path_factory.mktemp("pruned")
    world = LedgerBuilder(f"sqlite:///{folder / 'ledger.db'}")
    world.account(ACCOUNT, "Shop", REGION)
    arn = world.key(ACCOUNT, REGION, "k1")
    world.key(ACCOUNT, REGION, "k2")
    for index in range(6):
        world.change(KeyMetadata, arn, description=f"run {index + 1}")
        if index == 2:
            world.tag(arn, Tier="database")
        world.crawl(status="failed" if index == 5 else None)
    engine = store(world.url)
    horizon = prune(engine, 2 * DAY, now=FIRST_RUN + 6 * DAY).horizon
    assert horizon is not None
    assert horizon.versions == 5
    with engine.connect() as connection:
        left = {row.run_id: row.status for row in connection.execute(select(Run.run_id, Run.status))}
    engine.dispose()
    assert left == {1: "pruned", 3: "pruned", 4: "pruned", 5: "complete", 6: "failed"}
    build(world.url, folder / "mart.duckdb", Settings())
    return world.url, folder / "mart.duckdb"


@pytest.fixture
def mart(pruned: tuple[str, Path]) -> Iterator[duckdb.DuckDBPyConnection]:
    """The mart, open."""
    connection = connect(pruned[1])
    yield connection
    connection.close()


def test_the_mart_answers_for_an_unpruned_run(mart: duckdb.DuckDBPyConnection) -> None:
    """The default is the latest successful run; pruned runs have the status pruned."""
    assert mart.execute("SELECT max(run_id) FROM runs").fetchone() == (5,)
    statuses = dict(mart.execute("SELECT run_id, status FROM runs").fetchall())
    assert statuses == {1: RunStatus.PRUNED, 3: RunStatus.PRUNED, 4: RunStatus.PRUNED, 5: RunStatus.COMPLETE}
    assert mart.execute("SELECT DISTINCT freshness FROM keys").fetchall() == [("current",)]


def test_only_unpruned_runs_have_changes(mart: duckdb.DuckDBPyConnection) -> None:
    """The oldest unpruned run has its changes; pruned runs have none, because theirs may be incomplete."""
    changes = mart.execute("SELECT run_id, event_type, before, after FROM internal.change ORDER BY ALL").fetchall()
    assert [row for row in changes if row[0] < 5] == []
    assert (5, "metadata_changed", "description: run 4", "description: run 5") in changes


@pytest.mark.parametrize(
    "wanted", [1, "2", 4], ids=["some versions left", "no versions left", "just before the horizon"]
)
def test_a_pruned_run_is_refused(pruned: tuple[str, Path], tmp_path: Path, wanted: int | str) -> None:
    """Views as of a pruned run would lack versions; the message names the oldest unpruned run."""
    url, path = pruned
    sentence = f"run {wanted} has been pruned.*oldest available run is 5"
    with pytest.raises(QueryError, match=sentence) as refused:
        build(url, tmp_path / "mart.duckdb", Settings(), as_of=wanted)
    assert refused.value.exit_code == 2
    assert not (tmp_path / "mart.duckdb").exists()
    with pytest.raises(QueryError, match=sentence):
        as_of_connection.connect(path, wanted)
    with pytest.raises(QueryError, match=sentence):
        diff(path, str(wanted))


def test_a_date_before_the_first_unpruned_run_is_refused(pruned: tuple[str, Path], tmp_path: Path) -> None:
    """A date does not resolve to a pruned run."""
    url, path = pruned
    date = f"{FIRST_RUN + 3 * DAY:%Y-%m-%d}"
    sentence = "no run had ended by .*, or it has been pruned: the first is run 5"
    with pytest.raises(QueryError, match=sentence):
        build(url, tmp_path / "mart.duckdb", Settings(), as_of=date)
    with pytest.raises(QueryError, match=sentence):
        as_of_connection.connect(path, date)
    connection, moment = as_of_connection.connect(path, f"{FIRST_RUN + 4 * DAY:%Y-%m-%d}")
    connection.close()
    assert moment.run_id == 5


def test_the_first_unpruned_run_has_no_predecessor(pruned: tuple[str, Path]) -> None:
    """A diff does not start at a pruned run."""
    assert diff(pruned[1]).start is None

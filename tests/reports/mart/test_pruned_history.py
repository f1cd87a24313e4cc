"""What the mart says of runs that were pruned: nothing that is not whole."""

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
    """A ledger of six nights, of which the last two are kept whole, and its mart.

    Each night one key's description changes; the tag that it got in the third night stays, and that run's number with it.
    """
    folder = tmp_path_factory.mktemp("pruned")
    world = LedgerBuilder(f"sqlite:///{folder / 'ledger.db'}")
    world.account(ACCOUNT, "Shop", REGION)
    arn = world.key(ACCOUNT, REGION, "k1")
    world.key(ACCOUNT, REGION, "k2")
    for night in range(6):
        world.change(KeyMetadata, arn, description=f"night {night + 1}")
        if night == 2:
            world.tag(arn, Tier="database")
        world.crawl(status="failed" if night == 5 else None)
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


def test_the_mart_answers_for_a_whole_run(mart: duckdb.DuckDBPyConnection) -> None:
    """By default it is the latest run that ended well; pruned runs are listed as what they are."""
    assert mart.execute("SELECT max(run_id) FROM runs").fetchone() == (5,)
    statuses = dict(mart.execute("SELECT run_id, status FROM runs").fetchall())
    assert statuses == {1: RunStatus.PRUNED, 3: RunStatus.PRUNED, 4: RunStatus.PRUNED, 5: RunStatus.COMPLETE}
    assert mart.execute("SELECT DISTINCT freshness FROM keys").fetchall() == [("yes",)]


def test_only_changes_of_whole_runs_are_told(mart: duckdb.DuckDBPyConnection) -> None:
    """The oldest whole run still tells what changed in it; of a pruned one nothing is told that may be half of it."""
    told = mart.execute("SELECT run_id, event_type, before, after FROM internal.change ORDER BY ALL").fetchall()
    assert [row for row in told if row[0] < 5] == []
    assert (5, "metadata_changed", "description: night 4", "description: night 5") in told


@pytest.mark.parametrize("wanted", [1, "2", 4], ids=["a trace is left", "nothing is left", "just before"])
def test_a_pruned_run_is_refused(pruned: tuple[str, Path], tmp_path: Path, wanted: int | str) -> None:
    """Views as of a pruned run would lack versions; the sentence names the first run that is left."""
    url, path = pruned
    sentence = f"run {wanted} has been pruned.*oldest whole run is 5"
    with pytest.raises(QueryError, match=sentence) as refused:
        build(url, tmp_path / "mart.duckdb", Settings(), as_of=wanted)
    assert refused.value.exit_code == 2
    assert not (tmp_path / "mart.duckdb").exists()
    with pytest.raises(QueryError, match=sentence):
        as_of_connection.connect(path, wanted)
    with pytest.raises(QueryError, match=sentence):
        diff(path, str(wanted))


def test_a_date_before_the_first_whole_run_is_refused(pruned: tuple[str, Path], tmp_path: Path) -> None:
    """A date at which only pruned runs had ended is not answered with one of those."""
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


def test_the_first_whole_run_has_none_before_it(pruned: tuple[str, Path]) -> None:
    """The differences since the run before are not taken from a pruned one."""
    assert diff(pruned[1]).start is None

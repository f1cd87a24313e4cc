"""A mart is published atomically while readers have the previous one open."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from models.settings import Settings
from reports.mart.build import build
from reports.mart.connection import connect
from reports.mart.extension import Extension
from tests.reports.ledger_builder import LedgerBuilder, settings_of
from tests.reports.mart.test_incremental import renew
from tests.reports.sample_ledger import sample_world

_READER = """
import sys, pathlib
from reports.mart.connection import connect
path, stop = map(pathlib.Path, sys.argv[1:])
consecutive_runs = set()
held = connect(path)
while True:
    last = stop.exists()
    connection = connect(path)
    (run, keys), = connection.execute("SELECT max(run_id), (SELECT count(*) FROM keys) FROM runs").fetchall()
    assert keys > 0
    consecutive_runs.add(run)
    connection.close()
    assert held.execute("SELECT max(run_id) FROM runs").fetchall() == [(1,)]
    if last:
        break
print(*sorted(consecutive_runs))
"""


class _FailingExtension(Extension):
    """Fails after the views are created."""

    def create(self, duck: duckdb.DuckDBPyConnection, run_id: int) -> None:
        duck.execute(f"SELECT error('run {run_id}')")


@pytest.fixture
def world(tmp_path: Path) -> LedgerBuilder:
    made = sample_world(tmp_path / "ledger.db")
    made.crawl()
    return made


@pytest.fixture
def settings(world: LedgerBuilder, tmp_path: Path) -> Settings:
    made = settings_of(database=world.url, report={"mart": tmp_path / "mart.duckdb"})
    renew(made)
    return made


@pytest.mark.deep
def test_concurrent_readers_have_no_errors(world: LedgerBuilder, settings: Settings, tmp_path: Path) -> None:
    """A process that queries continuously and keeps the first mart open reads only complete marts."""
    stop = tmp_path / "stop"
    command = [sys.executable, "-c", _READER, str(settings.report.mart), str(stop)]
    reader = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    held = connect(settings.report.mart)
    for _ in range(2):
        world.crawl()
        renew(settings)
        assert held.execute("SELECT max(run_id) FROM runs").fetchall() == [(1,)]
    stop.touch()
    seen, errors = reader.communicate(timeout=120)
    assert reader.returncode == 0, errors
    assert seen.split()[-1] == "3"


def test_a_failure_leaves_the_old_mart(world: LedgerBuilder, settings: Settings, tmp_path: Path) -> None:
    """If an incremental build fails, readers keep the old mart, no file is left, and the next build succeeds."""
    world.crawl()
    with pytest.raises(duckdb.Error, match="run 2"):
        build(settings.database, settings.report.mart, settings, extensions=(_FailingExtension(),))
    assert connect(settings.report.mart).execute("SELECT max(run_id) FROM runs").fetchall() == [(1,)]
    assert [one.name for one in tmp_path.glob(".mart*")] == []
    renew(settings)
    assert connect(settings.report.mart).execute("SELECT max(run_id) FROM runs").fetchall() == [(2,)]


@pytest.mark.deep
def test_incremental_builds_do_not_grow_the_file(world: LedgerBuilder, settings: Settings) -> None:
    """Runs without changes do not make the file much larger than the first one did."""
    sizes = []
    for _ in range(10):
        world.crawl()
        renew(settings)
        sizes.append(settings.report.mart.stat().st_size)
    for size in (sizes[3], sizes[-1]):
        assert size <= 1.5 * sizes[1]

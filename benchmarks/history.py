"""Thirty runs of a large organization in which 1 % of the facts change, merged into SQLite and PostgreSQL.

Compares the rows that a run writes with the facts that changed, and the size of the history with full
snapshots. One snapshot is written from the same facts: tables with the same columns and without indexes,
and each policy document once, as in the history. The size of thirty snapshots is thirty times that.

    python -m benchmarks history
    python -m benchmarks.history --runs 3 --keys 10000 --engines sqlite
"""

from __future__ import annotations

import argparse
import datetime as dt
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Engine, MetaData, Table, func, insert, select

from benchmarks.metrics import Figure, machine, table
from benchmarks.synthetic_organization import SCOPE, TABLES, SyntheticOrganization
from models.store.engine import connect, upgrade
from models.store.scd2_merge import Batch, Merged, merge
from models.store.staging import stage_rows
from models.tables import Base
from models.tables.keys import PolicyDocument
from models.tables.runs import Outcome, Run, RunStatus, ScopeCoverage
from tests import postgres

ENGINES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
DOCUMENTS = Base.metadata.tables[PolicyDocument.__tablename__]
COVERAGE = Base.metadata.tables[ScopeCoverage.__tablename__]


@dataclass(slots=True)
class Cost:
    """Elapsed seconds, and CPU seconds of this process (a database server only adds to the elapsed time)."""

    wall: float = 0.0
    cpu: float = 0.0

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Add the cost of the block."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu


@dataclass(slots=True)
class RunCost:
    """What one run wrote."""

    changed: int = 0
    """Facts that differ from the previous run."""
    merged: Merged = field(default_factory=Merged)
    """Opened and closed versions, as reported by the merge."""
    versions: int = 0
    """Opened and closed versions, as counted in the tables."""
    other_rows: int = 0
    """Rows of policies, coverage and runs, as counted in the tables."""
    cost: Cost = field(default_factory=Cost)


class Ledger:
    """The history on one engine."""

    def __init__(self, kind: str, url: str) -> None:
        self.name = ENGINES[kind]
        self.engine = connect(url)
        upgrade(self.engine)
        self.runs: list[RunCost] = []
        self._policies = 0

    def begin(self) -> None:
        """Insert the next run."""
        self.runs.append(RunCost())
        now = dt.datetime.now(dt.UTC)
        values = {"run_id": len(self.runs), "started_at": now, "status": RunStatus.COMPLETE, "version": "0"}
        with self.engine.begin() as connection:
            connection.execute(insert(Run), values)

    def merge(self, batch: Batch, scope: int) -> None:
        """Merge one scope and its coverage in one transaction, like a crawl."""
        run, run_id = self.runs[-1], len(self.runs)
        coverage = {"run_id": run_id, "account_id": f"{scope:012d}", "region": "eu-west-1", "outcome": Outcome.COMPLETE}
        with run.cost.measured(), self.engine.begin() as connection:
            run.merged += merge(connection, run_id, batch)
            connection.execute(insert(ScopeCoverage), coverage)

    def end(self, changed: int) -> None:
        """Count the rows that the run wrote."""
        run, run_id = self.runs[-1], len(self.runs)
        run.changed = changed
        with self.engine.connect() as connection:
            for table in (model.table() for model in TABLES):
                began, ended = (func.count().filter(edge == run_id) for edge in (table.c.valid_from, table.c.valid_to))
                run.versions += sum(connection.execute(select(began, ended)).one())
            policies = connection.execute(select(func.count()).select_from(DOCUMENTS)).scalar_one()
            covered = select(func.count()).select_from(COVERAGE).where(COVERAGE.c.run_id == run_id)
            run.other_rows = policies - self._policies + connection.execute(covered).scalar_one() + 1
        self._policies = policies


class Snapshot:
    """The facts of one run in tables with the same columns, without history."""

    def __init__(self, url: str) -> None:
        self.engine = connect(url)
        self.cost = Cost()
        self.rows = 0
        self._policies: set[bytes] = set()
        kept = MetaData()
        self._tables = {
            model: Table(model.table().name, kept, *(_bare(model.table().c[name]) for name in model.value_columns()))
            for model in TABLES
        }
        self._documents = Table(DOCUMENTS.name, kept, *(_bare(column) for column in DOCUMENTS.columns))
        kept.create_all(self.engine)

    def write(self, batch: Batch) -> None:
        """Add one scope in one transaction, with the fastest method of the engine (executemany, COPY)."""
        filled = {
            self._tables[model]: [row[:-1] for row in stage_rows(model, rows, self.engine.dialect.name)]
            for model, rows in batch.rows.items()
        }
        filled[self._documents] = [
            (digest, document.canonical, document.received)
            for digest, document in batch.documents.items()
            if digest not in self._policies
        ]
        self._policies.update(batch.documents)
        self.rows += sum(map(len, filled.values()))
        with self.cost.measured(), self.engine.begin() as connection:
            for table, rows in filled.items():
                names = ", ".join(f'"{column.name}"' for column in table.columns)
                if self.engine.dialect.name == "postgresql":
                    cursor: Any = connection.connection.cursor()
                    with cursor, cursor.copy(f"COPY {table.name} ({names}) FROM STDIN") as copy:
                        for row in rows:
                            copy.write_row(row)
                elif rows:
                    marks = ", ".join("?" * len(table.columns))
                    connection.exec_driver_sql(f"INSERT INTO {table.name} ({names}) VALUES ({marks})", rows)


def measure(
    *, quick: bool = False, keys: int = 100_000, runs: int = 30, engines: Sequence[str] = tuple(ENGINES)
) -> list[Figure]:
    """Merge all runs on all engines and return the metrics."""
    if quick:
        keys, runs = min(keys, 5000), min(runs, 4)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kmsledger-benchmark-")))
        databases = {kind: _databases(kind, folder, stack) for kind in engines}
        ledgers = {kind: Ledger(kind, url) for kind, (url, _) in databases.items()}
        snapshots = {kind: Snapshot(url) for kind, (_, url) in databases.items()}
        for kind in engines:
            stack.callback(ledgers[kind].engine.dispose)
            stack.callback(snapshots[kind].engine.dispose)
        organization = SyntheticOrganization(keys)
        for run in range(1, runs + 1):
            for ledger in ledgers.values():
                ledger.begin()
            organization.changed = 0
            for scope in range(-(-keys // SCOPE)):
                batch = organization.scope(scope, run)
                for kind, ledger in ledgers.items():
                    ledger.merge(batch, scope)
                    if run == 1:
                        snapshots[kind].write(batch)
            for ledger in ledgers.values():
                ledger.end(organization.changed)
                cost = ledger.runs[-1].cost
                print(
                    f"{ledger.name}, run {run}: {cost.wall:.1f} s, {ledger.runs[-1].versions:,} versions",
                    flush=True,
                )
        return [figure for kind in engines for figure in _figures(ledgers[kind], snapshots[kind])]


def _figures(ledger: Ledger, snapshot: Snapshot) -> Iterator[Figure]:
    first, *later = ledger.runs
    facts = first.merged.opened
    written = sum(run.versions + run.other_rows for run in later)
    merged_versions = sum(run.merged.opened + run.merged.closed for run in later)
    changed = sum(run.changed for run in later)
    size, snapshot_size = _size(ledger.engine), _size(snapshot.engine)
    wall, cpu = (statistics.median(getattr(run.cost, kind) for run in later) for kind in ("wall", "cpu"))
    snapshots = len(ledger.runs)

    def figure(what: str, value: float, unit: str = "", budget: float | None = None) -> Figure:
        return Figure(f"{ledger.name}: {what}", value, unit, budget)

    yield figure("facts per run", facts)
    yield figure("facts that change per run (mean)", changed / len(later))
    yield figure("rows written per later run (mean), in all tables", written / len(later))
    yield figure("of these, versions reported by the merge", merged_versions / len(later))
    yield figure("rows written / facts changed", written / changed, budget=3)
    yield figure(f"history of {snapshots} runs", size / 1e6, "MB")
    yield figure("one full snapshot, without indexes", snapshot_size / 1e6, "MB")
    yield figure(
        f"history / {snapshots} full snapshots",
        size / snapshot_size / snapshots,
        budget=0.1 if snapshots >= 30 else None,
    )
    yield figure("first run, elapsed", first.cost.wall, "s")
    yield figure("first run, CPU of the client", first.cost.cpu, "s")
    yield figure("later run, elapsed (median)", wall, "s")
    yield figure("later run, CPU of the client (median)", cpu, "s")
    yield figure("writing a full snapshot, elapsed", snapshot.cost.wall, "s")
    yield figure("writing a full snapshot, CPU of the client", snapshot.cost.cpu, "s")
    yield figure("later run / full snapshot, elapsed", wall / snapshot.cost.wall)


def _databases(kind: str, folder: Path, stack: ExitStack) -> tuple[str, str]:
    """The URLs of two new databases: for the history and for the snapshot."""
    if kind == "sqlite":
        return f"sqlite:///{folder / 'ledger.db'}", f"sqlite:///{folder / 'snapshot.db'}"
    server = stack.enter_context(postgres.server())
    return stack.enter_context(postgres.database(server)), stack.enter_context(postgres.database(server))


def _bare(column: Column[Any]) -> Column[Any]:
    return Column(column.name, column.type)


def _size(engine: Engine) -> int:
    """Size in bytes: the SQLite file without the WAL, or all PostgreSQL tables with indexes and dead rows."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.rollback()
            connection.connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return Path(str(engine.url.database)).stat().st_size
        query = (
            "SELECT sum(pg_total_relation_size(oid)) FROM pg_class "
            "WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        )
        return int(connection.exec_driver_sql(query).scalar_one())


def main() -> None:
    """Run with other sizes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.history")
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    options = parser.parse_args()
    figures = measure(keys=options.keys, runs=max(options.runs, 2), engines=options.engines)
    print(f"\n{machine()}\n\n{table(figures)}")


if __name__ == "__main__":
    main()

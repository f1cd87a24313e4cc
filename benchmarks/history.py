"""Thirty nights of a big estate in which 1 % of the facts change, through the real merge, on SQLite and PostgreSQL.

Measured are the rows that a night writes against the facts that changed, and the bytes that the history takes against full
snapshots. The snapshot is really written, once, from the same facts: bare tables of the same columns without any index,
policies once per content as in the history; thirty of them are taken to be thirty times that.

    python -m benchmarks history
    python -m benchmarks.history --nights 3 --keys 10000 --engines sqlite
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
from benchmarks.synthetic_organization import FACETS, SCOPE, Estate
from models.store.engine import connect, upgrade
from models.store.scd2_merge import Batch, Merged, merge
from models.store.staging import stage_rows
from models.tables import Base
from models.tables.keys import PolicyDocument
from models.tables.runs import Outcome, Run, RunStatus, ScopeRun
from tests import postgres

ENGINES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
DOCUMENTS = Base.metadata.tables[PolicyDocument.__tablename__]
COVERAGE = Base.metadata.tables[ScopeRun.__tablename__]


@dataclass(slots=True)
class Spent:
    """Seconds: of the clock, and of this process's processors (a server's own are in the clock's only)."""

    wall: float = 0.0
    cpu: float = 0.0

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Add what is done meanwhile."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu


@dataclass(slots=True)
class Night:
    """What one night wrote."""

    changed: int = 0
    """Facts that differ from the night before."""
    merged: Merged = field(default_factory=Merged)
    """Versions that began and ended, as the merge tells it."""
    versions: int = 0
    """The same, as counted in the tables."""
    others: int = 0
    """Rows of policies, coverage and the run, as counted in the tables."""
    spent: Spent = field(default_factory=Spent)


class Ledger:
    """The history on one engine."""

    def __init__(self, kind: str, url: str) -> None:
        self.name = ENGINES[kind]
        self.engine = connect(url)
        upgrade(self.engine)
        self.nights: list[Night] = []
        self._policies = 0

    def begin(self) -> None:
        """Open the run of the next night."""
        self.nights.append(Night())
        now = dt.datetime.now(dt.UTC)
        values = {"run_id": len(self.nights), "started_at": now, "status": RunStatus.COMPLETE, "version": "0"}
        with self.engine.begin() as connection:
            connection.execute(insert(Run), values)

    def merge(self, batch: Batch, scope: int) -> None:
        """Merge one scope with its coverage in one transaction, as a crawl does."""
        night, run = self.nights[-1], len(self.nights)
        coverage = {"run_id": run, "account_id": f"{scope:012d}", "region": "eu-west-1", "outcome": Outcome.COMPLETE}
        with night.spent.measured(), self.engine.begin() as connection:
            night.merged += merge(connection, run, batch)
            connection.execute(insert(ScopeRun), coverage)

    def end(self, changed: int) -> None:
        """Count in the tables what the night wrote."""
        night, run = self.nights[-1], len(self.nights)
        night.changed = changed
        with self.engine.connect() as connection:
            for one in (model.table() for model in FACETS):
                began, ended = (func.count().filter(edge == run) for edge in (one.c.valid_from, one.c.valid_to))
                night.versions += sum(connection.execute(select(began, ended)).one())
            policies = connection.execute(select(func.count()).select_from(DOCUMENTS)).scalar_one()
            covered = select(func.count()).select_from(COVERAGE).where(COVERAGE.c.run_id == run)
            night.others = policies - self._policies + connection.execute(covered).scalar_one() + 1
        self._policies = policies


class Snapshot:
    """One night's facts as bare tables of the same columns."""

    def __init__(self, url: str) -> None:
        self.engine = connect(url)
        self.spent = Spent()
        self.rows = 0
        self._policies: set[bytes] = set()
        kept = MetaData()
        self._tables = {
            model: Table(model.table().name, kept, *(_bare(model.table().c[name]) for name in model.value_columns()))
            for model in FACETS
        }
        self._documents = Table(DOCUMENTS.name, kept, *(_bare(column) for column in DOCUMENTS.columns))
        kept.create_all(self.engine)

    def write(self, batch: Batch) -> None:
        """Add one scope in one transaction, by the engine's fastest way (executemany, COPY)."""
        filled = {
            self._tables[model]: [row[:-1] for row in stage_rows(model, rows, self.engine.dialect.name)]
            for model, rows in batch.rows.items()
        }
        filled[self._documents] = [
            (digest, one.canonical, one.received)
            for digest, one in batch.documents.items()
            if digest not in self._policies
        ]
        self._policies.update(batch.documents)
        self.rows += sum(map(len, filled.values()))
        with self.spent.measured(), self.engine.begin() as connection:
            for one, rows in filled.items():
                names = ", ".join(f'"{column.name}"' for column in one.columns)
                if self.engine.dialect.name == "postgresql":
                    cursor: Any = connection.connection.cursor()
                    with cursor, cursor.copy(f"COPY {one.name} ({names}) FROM STDIN") as copy:
                        for row in rows:
                            copy.write_row(row)
                elif rows:
                    marks = ", ".join("?" * len(one.columns))
                    connection.exec_driver_sql(f"INSERT INTO {one.name} ({names}) VALUES ({marks})", rows)


def measure(
    *, quick: bool = False, keys: int = 100_000, nights: int = 30, engines: Sequence[str] = tuple(ENGINES)
) -> list[Figure]:
    """Run the nights, on all engines in turn, and return what they cost."""
    if quick:
        keys, nights = min(keys, 5000), min(nights, 4)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kmsledger-benchmark-")))
        places = {kind: _places(kind, folder, stack) for kind in engines}
        ledgers = {kind: Ledger(kind, url) for kind, (url, _) in places.items()}
        snapshots = {kind: Snapshot(url) for kind, (_, url) in places.items()}
        for kind in engines:
            stack.callback(ledgers[kind].engine.dispose)
            stack.callback(snapshots[kind].engine.dispose)
        estate = Estate(keys)
        for night in range(1, nights + 1):
            for ledger in ledgers.values():
                ledger.begin()
            estate.changed = 0
            for scope in range(-(-keys // SCOPE)):
                batch = estate.scope(scope, night)
                for kind, ledger in ledgers.items():
                    ledger.merge(batch, scope)
                    if night == 1:
                        snapshots[kind].write(batch)
            for ledger in ledgers.values():
                ledger.end(estate.changed)
                spent = ledger.nights[-1].spent
                print(
                    f"{ledger.name}, night {night}: {spent.wall:.1f} s, {ledger.nights[-1].versions:,} versions",
                    flush=True,
                )
        return [figure for kind in engines for figure in _figures(ledgers[kind], snapshots[kind])]


def _figures(ledger: Ledger, snapshot: Snapshot) -> Iterator[Figure]:
    first, *later = ledger.nights
    facts = first.merged.opened
    written = sum(night.versions + night.others for night in later)
    told = sum(night.merged.opened + night.merged.closed for night in later)
    changed = sum(night.changed for night in later)
    size, bare = _size(ledger.engine), _size(snapshot.engine)
    wall, cpu = (statistics.median(getattr(night.spent, kind) for night in later) for kind in ("wall", "cpu"))
    snapshots = len(ledger.nights)

    def figure(what: str, value: float, unit: str = "", budget: float | None = None) -> Figure:
        return Figure(f"{ledger.name}: {what}", value, unit, budget)

    yield figure("facts of a night", facts)
    yield figure("facts that change in a night (mean)", changed / len(later))
    yield figure("rows written in a later night (mean), in all tables", written / len(later))
    yield figure("of them versions, as the merge tells", told / len(later))
    yield figure("rows written / facts changed", written / changed, budget=3)
    yield figure(f"history of {snapshots} nights", size / 1e6, "MB")
    yield figure("one full snapshot, bare", bare / 1e6, "MB")
    yield figure(
        f"history / {snapshots} full snapshots", size / bare / snapshots, budget=0.1 if snapshots >= 30 else None
    )
    yield figure("first night, clock", first.spent.wall, "s")
    yield figure("first night, CPU of the client", first.spent.cpu, "s")
    yield figure("later night, clock (median)", wall, "s")
    yield figure("later night, CPU of the client (median)", cpu, "s")
    yield figure("writing a full snapshot, clock", snapshot.spent.wall, "s")
    yield figure("writing a full snapshot, CPU of the client", snapshot.spent.cpu, "s")
    yield figure("later night / full snapshot, clock", wall / snapshot.spent.wall)


def _places(kind: str, folder: Path, stack: ExitStack) -> tuple[str, str]:
    """Two new databases: for the history and for the snapshot."""
    if kind == "sqlite":
        return f"sqlite:///{folder / 'ledger.db'}", f"sqlite:///{folder / 'snapshot.db'}"
    server = stack.enter_context(postgres.server())
    return stack.enter_context(postgres.database(server)), stack.enter_context(postgres.database(server))


def _bare(column: Column[Any]) -> Column[Any]:
    return Column(column.name, column.type)


def _size(engine: Engine) -> int:
    """Bytes: the whole file of SQLite without its log, all tables of PostgreSQL with their indexes and dead rows."""
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
    """The same in other sizes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.history")
    parser.add_argument("--nights", type=int, default=30)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    options = parser.parse_args()
    figures = measure(keys=options.keys, nights=max(options.nights, 2), engines=options.engines)
    print(f"\n{machine()}\n\n{table(figures)}")


if __name__ == "__main__":
    main()

"""Forgetting: versions that ended long ago, coverage of long ago, and what nothing points to any more.

A run is kept if it finished within the days to keep; so are all later ones, the last one, and the last that ended well. What
was known in a kept run stays as it was, version for version. Older runs lose what has ended since: their rows stay only where
an interval begins or ends with them, with the status ``pruned``, because what they tell is no longer whole.

Questions of the kind "since when" are answered from the versions that are left, and so reach back no further than those.
"""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    MetaData,
    Select,
    Table,
    and_,
    delete,
    exists,
    func,
    select,
    union,
    update,
)
from sqlalchemy import literal_column as sql

from models.store.engine import translate_errors
from models.store.maintenance_lock import MaintenanceLock, exclusive
from models.store.staging import stage
from models.tables import versioned_tables
from models.tables.access_analysis import AccessAnalysis, AccessHygiene, AccessPolicy, AccessVerdict, KeyAnalysis
from models.tables.keys import Key, KeyLastUseAsked, PolicyDocument
from models.tables.runs import Delivery, Gap, Outcome, Run, RunStatus, ScopeRun
from models.versioned import Base, VersionedTable

PRUNED = str(RunStatus.PRUNED)

VERSIONS_AT_A_TIME = 20_000
RUNS_AT_A_TIME = 30

_DOCUMENTS = Base.metadata.tables[PolicyDocument.__tablename__]
_DELIVERIES = Base.metadata.tables[Delivery.__tablename__]
_COVERAGE = Base.metadata.tables[ScopeRun.__tablename__]
_RUNS = Base.metadata.tables[Run.__tablename__]
_ASKED = Base.metadata.tables[KeyLastUseAsked.__tablename__]
_ANALYSES = Base.metadata.tables[AccessAnalysis.__tablename__]
_OF_ANALYSES = tuple(Base.metadata.tables[mapped.__tablename__] for mapped in (AccessVerdict, AccessHygiene))
_LOOKS = Base.metadata.tables[AccessPolicy.__tablename__]
_SCOPE = ("account_id", "region")
_KEPT = Table(
    "kept_coverage",
    MetaData(),
    *(Column(name, _COVERAGE.c[name].type, primary_key=True, autoincrement=False) for name in ("run_id", *_SCOPE)),
    prefixes=["TEMPORARY"],
    postgresql_on_commit="DELETE ROWS",
)


@dataclass(frozen=True, slots=True)
class Horizon:
    """The oldest runs that are kept: for versions and deliveries, and for coverage."""

    versions: int
    coverage: int


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was deleted, or would be."""

    horizon: Horizon | None
    """``None`` for a ledger without runs."""
    rows: dict[str, int] = field(default_factory=dict)
    """Rows by table, only tables that lose some."""
    freed: int | None = None
    """Bytes by which SQLite's file became smaller; ``None`` where that is not known."""
    note: str = ""
    """What the user should know about the space."""


def prune(
    engine: Engine,
    keep: dt.timedelta,
    coverage_keep: dt.timedelta | None = None,
    *,
    dry_run: bool = False,
    now: dt.datetime | None = None,
) -> Pruned:
    """Delete what no kept run needs; with ``dry_run`` only count it. Ended half-way, it can simply be run again.

    Raises models.store.crawl_lock.LockedError while a crawl is running, except for counting. Holds the lock meanwhile.
    """
    now = now or dt.datetime.now(dt.UTC)
    wanted = (now - keep, now - (keep if coverage_keep is None else coverage_keep))
    if dry_run:
        with translate_errors(engine), engine.connect() as connection:
            horizon = _horizon(connection, *wanted)
            return Pruned(horizon, _present(_count(connection, horizon)) if horizon else {})
    with exclusive(engine) as lock:
        with lock.transaction() as connection:
            horizon = _horizon(connection, *wanted)
            if horizon is None:
                return Pruned(None)
            # First of all: from here on, what older runs tell is no longer whole.
            connection.execute(update(_RUNS).where(_RUNS.c.run_id < horizon.versions).values(status=PRUNED))
        rows = _present(_delete(lock, horizon))
        freed, note = _give_back(engine) if rows else (None, "")
    return Pruned(horizon, rows, freed, note)


def _horizon(connection: Connection, since: dt.datetime, coverage_since: dt.datetime) -> Horizon | None:
    runs = connection.execute(
        select(_RUNS.c.run_id, _RUNS.c.started_at, _RUNS.c.finished_at, _RUNS.c.status).order_by(_RUNS.c.run_id)
    ).all()
    if not runs:
        return None
    ended: list[int] = [run.run_id for run in runs if run.status in {RunStatus.COMPLETE, RunStatus.PARTIAL}]
    # Reports are made of the last run that ended well, however old it is.
    needed: int = ended[-1] if ended else runs[-1].run_id

    def oldest(instant: dt.datetime) -> int:
        kept: list[int] = [run.run_id for run in runs if (run.finished_at or run.started_at) >= instant]
        return min([needed, *kept])

    return Horizon(oldest(since), oldest(coverage_since))


def _present(counts: Iterable[tuple[str, int]]) -> dict[str, int]:
    rows: dict[str, int] = {}
    for name, count in counts:
        if count:
            rows[name] = rows.get(name, 0) + count
    return rows


def _count(connection: Connection, horizon: Horizon) -> Iterator[tuple[str, int]]:
    """What :func:`_delete` would delete, in the same order."""

    def count(table: Table, *where: ColumnElement[bool]) -> int:
        return connection.execute(select(func.count()).select_from(table).where(*where)).scalar_one()

    for table in _versioned():
        yield table.name, count(table, table.c.valid_to < horizon.versions)
    coverage = _kept_coverage(connection, horizon)
    yield _COVERAGE.name, count(_COVERAGE, _COVERAGE.c.run_id < horizon.coverage) - len(coverage)
    yield _DELIVERIES.name, count(_DELIVERIES, _DELIVERIES.c.run_id < horizon.versions)
    yield _DOCUMENTS.name, count(_DOCUMENTS, _unused_document(horizon))
    yield _ASKED.name, count(_ASKED, _of_forgotten_key(horizon))
    for table, unused in _unused_analyses(horizon):
        yield table.name, count(table, unused)
    yield _RUNS.name, len(_unused_runs(connection, horizon, {run for run, *_ in coverage}))


def _delete(lock: MaintenanceLock, horizon: Horizon) -> Iterator[tuple[str, int]]:
    for table in _versioned():
        for first, last in _id_ranges(lock, table, horizon):
            with lock.transaction() as connection:
                gone = delete(table).where(table.c.version_id.between(first, last), table.c.valid_to < horizon.versions)
                yield table.name, connection.execute(gone).rowcount
    with lock.transaction() as connection:
        coverage = _kept_coverage(connection, horizon)
        old = select(_COVERAGE.c.run_id).where(_COVERAGE.c.run_id < horizon.coverage).distinct()
        runs = sorted(connection.scalars(old))
    for start in range(0, len(runs), RUNS_AT_A_TIME):
        with lock.transaction() as connection:
            yield _COVERAGE.name, _delete_coverage(connection, runs[start : start + RUNS_AT_A_TIME], coverage)
    with lock.transaction() as connection:
        unsent = delete(_DELIVERIES).where(_DELIVERIES.c.run_id < horizon.versions)
        yield _DELIVERIES.name, connection.execute(unsent).rowcount
        for table, unneeded in _unused_analyses(horizon):
            yield table.name, connection.execute(delete(table).where(unneeded)).rowcount
        yield _DOCUMENTS.name, connection.execute(delete(_DOCUMENTS).where(_unused_document(horizon))).rowcount
        yield _ASKED.name, connection.execute(delete(_ASKED).where(_of_forgotten_key(horizon))).rowcount
        unused = sorted(_unused_runs(connection, horizon, {run for run, *_ in coverage}))
        for start in range(0, len(unused), 500):
            connection.execute(delete(_RUNS).where(_RUNS.c.run_id.in_(unused[start : start + 500])))
        yield _RUNS.name, len(unused)


def _versioned() -> list[Table]:
    return [model.table() for _, model in sorted(versioned_tables().items())]


def _survives(table: Table, horizon: Horizon) -> ColumnElement[bool]:
    return table.c.valid_to.is_(None) | (table.c.valid_to >= horizon.versions)


def _id_ranges(lock: MaintenanceLock, table: Table, horizon: Horizon) -> Iterator[tuple[int, int]]:
    """Ranges of version ids that contain what goes; so a batch reads a part of the table and not all of it."""
    edges = select(func.min(table.c.version_id), func.max(table.c.version_id)).where(
        table.c.valid_to < horizon.versions
    )
    with lock.transaction() as connection:
        first, last = connection.execute(edges).one()
    if first is not None:
        for start in range(first, last + 1, VERSIONS_AT_A_TIME):
            yield start, start + VERSIONS_AT_A_TIME - 1


def _unused_document(horizon: Horizon) -> ColumnElement[bool]:
    pointing = [
        # A fact without a policy would make every document a used one: nothing is NOT IN a list with a NULL.
        select(table.c.policy_hash).where(_survives(table, horizon), table.c.policy_hash.is_not(None))
        for table in _versioned()
        if "policy_hash" in table.c
    ]
    return _DOCUMENTS.c.policy_hash.not_in(union(*pointing))


def _unused_analyses(horizon: Horizon) -> list[tuple[Table, ColumnElement[bool]]]:
    """Analyses of policies that no kept run knew, and of grants that such a policy was part of."""
    model: type[VersionedTable] = KeyAnalysis
    found = model.table()
    kept = select(found.c.analysis_id).where(_survives(found, horizon))
    of_policy = and_(_ANALYSES.c.path == "policy", _ANALYSES.c.analysis_id.not_in(kept))
    of_grant = and_(_ANALYSES.c.policy_analysis_id.is_not(None), _ANALYSES.c.policy_analysis_id.not_in(kept))
    unused = select(_ANALYSES.c.analysis_id).where(of_policy | of_grant)
    looked = _LOOKS.c.policy_hash.in_(select(_DOCUMENTS.c.policy_hash).where(_unused_document(horizon)))
    return [
        *((table, table.c.analysis_id.in_(unused)) for table in _OF_ANALYSES),
        (_ANALYSES, of_policy | of_grant),
        (_LOOKS, looked),
    ]


def _of_forgotten_key(horizon: Horizon) -> ColumnElement[bool]:
    """When a key was asked that no kept run knew."""
    model: type[VersionedTable] = Key
    key = model.table()
    # The open ones by their index, those that ended since as a short list.
    still_there = exists(select(sql("1")).where(key.c.key_arn == _ASKED.c.key_arn, key.c.valid_to.is_(None)))
    ended_since = select(key.c.key_arn).where(key.c.valid_to >= horizon.versions)
    return and_(~still_there, _ASKED.c.key_arn.not_in(ended_since))


def _unused_runs(connection: Connection, horizon: Horizon, covered: set[int]) -> set[int]:
    """Runs that no version, coverage or delivery refers to once the rest is deleted."""
    unused = set(connection.scalars(select(_RUNS.c.run_id).where(_RUNS.c.run_id < horizon.versions)))
    recent = select(_COVERAGE.c.run_id).where(_COVERAGE.c.run_id >= horizon.coverage).distinct()
    unused -= covered | set(connection.scalars(recent))
    for table in _versioned():
        for edge in (table.c.valid_from, table.c.valid_to):
            if not unused:
                return unused
            unused -= set(connection.scalars(select(edge).where(_survives(table, horizon)).distinct()))
    return unused


def _kept_coverage(connection: Connection, horizon: Horizon) -> list[tuple[int, str, str]]:
    """Old coverage that answers for kept runs: when a scope was last seen, and since when its outcome is what it is.

    A few rows for each scope, whatever the number of nights.
    """
    found: set[tuple[int, str, str]] = set()
    for query in (_last_seen(horizon), _last_listed(horizon), *_unbroken(horizon)):
        found.update((run, account, region) for run, account, region in connection.execute(query) if run is not None)
    return sorted(found)


def _last_seen(horizon: Horizon) -> Select[Any]:
    """The last run before the horizon that saw the scope."""
    scope = [_COVERAGE.c[name] for name in _SCOPE]
    return (
        select(func.max(_COVERAGE.c.run_id), *scope)
        .where(_seen(), _COVERAGE.c.run_id < horizon.coverage)
        .group_by(*scope)
    )


def _last_listed(horizon: Horizon) -> Select[Any]:
    """The last run that saw a listing which has been missing since before the horizon."""
    gap: type[VersionedTable] = Gap
    missing = gap.table()
    where = and_(
        _same_scope(_COVERAGE, missing),
        _COVERAGE.c.run_id < missing.c.valid_from,
        _COVERAGE.c.run_id < horizon.coverage,
    )
    return (
        select(func.max(_COVERAGE.c.run_id), missing.c.account_id, missing.c.region)
        .select_from(missing)
        .join(_COVERAGE, where)
        .where(_seen(), missing.c.subject == "", _survives(missing, horizon))
        .group_by(missing.c.version_id, missing.c.account_id, missing.c.region)
    )


def _unbroken(horizon: Horizon) -> tuple[Select[Any], Select[Any]]:
    """The last run with another outcome than the scope's first kept one, and the first run after that."""
    scope = [_COVERAGE.c[name] for name in _SCOPE]
    edge = select(*scope, func.min(_COVERAGE.c.run_id).label("run_id")).where(_COVERAGE.c.run_id >= horizon.coverage)
    first = edge.group_by(*scope).cte("first_kept")
    outcome = _COVERAGE.alias("first_coverage")
    past = _COVERAGE.alias("past")
    current = (
        select(first.c.account_id, first.c.region, outcome.c.outcome)
        .join(outcome, and_(_same_scope(outcome, first), outcome.c.run_id == first.c.run_id))
        .cte("current")
    )
    own = [current.c[name] for name in _SCOPE]
    before = and_(_same_scope(past, current), past.c.run_id < horizon.coverage)
    broken = (
        select(func.max(past.c.run_id).label("run_id"), *own)
        .select_from(current)
        .join(past, and_(before, past.c.outcome != current.c.outcome))
        .group_by(*own)
    )
    last = broken.cte("broken")
    steady = (
        select(func.min(past.c.run_id), *own)
        .select_from(current)
        .join(past, before)
        .outerjoin(last, _same_scope(last, current))
        .where(past.c.run_id > func.coalesce(last.c.run_id, 0))
        .group_by(*own)
    )
    return broken, steady


def _seen() -> ColumnElement[bool]:
    return _COVERAGE.c.outcome.in_([str(Outcome.COMPLETE), str(Outcome.PARTIAL)])


def _same_scope(one: Any, other: Any) -> ColumnElement[bool]:
    return and_(*(one.c[name] == other.c[name] for name in _SCOPE))


def _delete_coverage(connection: Connection, runs: list[int], kept: list[tuple[int, str, str]]) -> int:
    stage(connection, _KEPT, [row for row in kept if runs[0] <= row[0] <= runs[-1]])
    stays = exists(select(sql("1")).where(_KEPT.c.run_id == _COVERAGE.c.run_id, _same_scope(_KEPT, _COVERAGE)))
    return connection.execute(delete(_COVERAGE).where(_COVERAGE.c.run_id.in_(runs), ~stays)).rowcount


def _give_back(engine: Engine) -> tuple[int | None, str]:
    """Give the space back to the file system where that needs no more than a moment alone with the file."""
    if engine.dialect.name != "sqlite":
        return None, "PostgreSQL uses the space again for new rows; VACUUM FULL gives it back to the disk"
    file = Path(str(engine.url.database))
    with closing(engine.raw_connection()) as pooled:
        raw: Any = pooled.driver_connection
        try:
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            before = file.stat().st_size
            raw.execute("VACUUM")
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            return None, f"the file could not be made smaller ({error}); later crawls use the space again"
    return before - file.stat().st_size, ""

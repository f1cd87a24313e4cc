"""Retention: deletes versions closed long ago, old coverage, and rows without references.

A run is kept if it finished within the retention period. All later runs, the last run and the last successful run are kept as
well. Every version valid in a kept run stays. Older runs lose the versions closed since; a run itself stays only if a validity
interval refers to it, with the status ``pruned``, because its data is incomplete.

Answers to "since when" come from the remaining versions and reach back no further than those.
"""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    MetaData,
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
from sqlalchemy import text as sql_text

from models.store.crawl_lock import MaintenanceLock, exclusive
from models.store.engine import translate_errors
from models.store.staging import stage
from models.tables import versioned_tables
from models.tables.access_analysis import AccessAnalysis, AccessPolicy, AccessVerdict, KeyAnalysis, PolicyLint
from models.tables.keys import Key, KeyLastUsePoll, PolicyDocument
from models.tables.runs import Delivery, Run, RunStatus, ScopeCoverage

VERSIONS_PER_BATCH = 20_000

_DOCUMENTS = PolicyDocument.table()
_COVERAGE = ScopeCoverage.table()
_RUNS = Run.table()
_POLLS = KeyLastUsePoll.table()
_ANALYSES = AccessAnalysis.table()
_KEPT = Table(
    "kept_coverage",
    MetaData(),
    *(Column(name, _COVERAGE.c[name].type, primary_key=True) for name in ("run_id", "account_id", "region")),
    prefixes=["TEMPORARY"],
)
"""Old coverage that stays."""


@dataclass(frozen=True, slots=True)
class Horizon:
    """The oldest kept run, for versions and deliveries and for coverage."""

    versions: int
    coverage: int


@dataclass(frozen=True, slots=True)
class Pruned:
    """The result of pruning, or of a dry run."""

    horizon: Horizon | None
    """``None`` for a ledger without runs."""
    rows: dict[str, int] = field(default_factory=dict)
    """Deleted rows by table, without tables that lose none."""
    freed: int | None = None
    """Bytes by which the SQLite file shrank; ``None`` if unknown."""
    note: str = ""
    """A note for the user about disk space."""


def prune(
    engine: Engine,
    keep: dt.timedelta,
    coverage_keep: dt.timedelta | None = None,
    *,
    dry_run: bool = False,
    now: dt.datetime | None = None,
) -> Pruned:
    """Delete rows that no kept run needs, or only count them with ``dry_run``. After an interruption, run it again.

    Holds the crawl lock, except for a dry run. Raises models.store.crawl_lock.LockedError while a crawl is running.
    """
    now = now or dt.datetime.now(dt.UTC)
    since = (now - keep, now - (keep if coverage_keep is None else coverage_keep))
    if dry_run:
        with translate_errors(engine), engine.connect() as connection:
            horizon = _horizon(connection, *since)
            return Pruned(horizon, _present(_count(connection, horizon)) if horizon else {})
    with exclusive(engine) as lock:
        with lock.transaction() as connection:
            horizon = _horizon(connection, *since)
            if horizon is None:
                return Pruned(None)
            # First, because from here on the data of older runs is incomplete.
            connection.execute(
                update(_RUNS).where(_RUNS.c.run_id < horizon.versions).values(status=str(RunStatus.PRUNED))
            )
        rows = _present(_delete(lock, horizon))
        freed, note = _shrink_file(engine) if rows else (None, "")
    return Pruned(horizon, rows, freed, note)


def _horizon(connection: Connection, since: dt.datetime, coverage_since: dt.datetime) -> Horizon | None:
    runs = connection.execute(
        select(_RUNS.c.run_id, _RUNS.c.started_at, _RUNS.c.finished_at, _RUNS.c.status).order_by(_RUNS.c.run_id)
    ).all()
    if not runs:
        return None
    successful: list[int] = [run.run_id for run in runs if run.status in {RunStatus.COMPLETE, RunStatus.PARTIAL}]
    # Reports use the last successful run, whatever its age.
    needed: int = successful[-1] if successful else runs[-1].run_id

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
    """The rows that :func:`_delete` would delete, in the same order."""
    closed = [(table, table.c.valid_to < horizon.versions) for table in _versioned()]
    for table, unneeded in [*closed, *_unneeded(connection, horizon)]:
        yield table.name, connection.execute(select(func.count()).select_from(table).where(unneeded)).scalar_one()


def _delete(lock: MaintenanceLock, horizon: Horizon) -> Iterator[tuple[str, int]]:
    for table in _versioned():
        for closed in _id_ranges(lock, table, table.c.valid_to < horizon.versions):
            with lock.transaction() as connection:
                yield table.name, connection.execute(delete(table).where(closed)).rowcount
    with lock.transaction() as connection:
        for table, unneeded in _unneeded(connection, horizon):
            yield table.name, connection.execute(delete(table).where(unneeded)).rowcount


def _versioned() -> list[Table]:
    return [model.table() for model in versioned_tables().values()]


def _survives(table: Table, horizon: Horizon) -> ColumnElement[bool]:
    return table.c.valid_to.is_(None) | (table.c.valid_to >= horizon.versions)


def _id_ranges(lock: MaintenanceLock, table: Table, unneeded: ColumnElement[bool]) -> Iterator[ColumnElement[bool]]:
    """The condition for ranges of version IDs, so that a transaction reads only a part of the table."""
    with lock.transaction() as connection:
        edges = select(func.min(table.c.version_id), func.max(table.c.version_id)).where(unneeded)
        first, last = connection.execute(edges).one()
    if first is not None:
        for start in range(first, last + 1, VERSIONS_PER_BATCH):
            yield and_(table.c.version_id.between(start, start + VERSIONS_PER_BATCH - 1), unneeded)


def _unused_document(horizon: Horizon) -> ColumnElement[bool]:
    references = [
        # Without NULLs: NOT IN a list with a NULL is never true, so every document would count as used.
        select(table.c.policy_hash).where(_survives(table, horizon), table.c.policy_hash.is_not(None))
        for table in _versioned()
        if "policy_hash" in table.c
    ]
    return _DOCUMENTS.c.policy_hash.not_in(union(*references))


def _unneeded(connection: Connection, horizon: Horizon) -> list[tuple[Table, ColumnElement[bool]]]:
    """Rows that no kept run needs, of tables without versions; a condition may refer to tables that follow."""
    kept_coverage = connection.execute(OLD_COVERAGE, asdict(horizon))
    stage(connection, _KEPT, sorted((run, account, region) for run, account, region in kept_coverage))
    delivery, access_policy, key, analysis = Delivery.table(), AccessPolicy.table(), Key.table(), KeyAnalysis.table()
    # Analyses of policies that are valid in no kept run, and of grants analyzed together with such a policy.
    analyzed = select(analysis.c.analysis_id).where(_survives(analysis, horizon))
    of_policy = and_(_ANALYSES.c.path == "policy", _ANALYSES.c.analysis_id.not_in(analyzed))
    of_grant = and_(_ANALYSES.c.policy_analysis_id.is_not(None), _ANALYSES.c.policy_analysis_id.not_in(analyzed))
    analyses = select(_ANALYSES.c.analysis_id).where(of_policy | of_grant)
    documents = _unused_document(horizon)
    # Polls of keys that are valid in no kept run: open versions by their index, recently closed ones as a short list.
    exists_now = exists(select(sql("1")).where(key.c.key_arn == _POLLS.c.key_arn, key.c.valid_to.is_(None)))
    closed_since = select(key.c.key_arn).where(key.c.valid_to >= horizon.versions)
    kept = and_(*(column == _COVERAGE.c[column.name] for column in _KEPT.c))
    run_references = [
        select(_KEPT.c.run_id),
        select(_COVERAGE.c.run_id).where(_COVERAGE.c.run_id >= horizon.coverage),
        *(
            select(edge).where(_survives(table, horizon), edge.is_not(None))
            for table in _versioned()
            for edge in (table.c.valid_from, table.c.valid_to)
        ),
    ]
    return [
        (_COVERAGE, and_(_COVERAGE.c.run_id < horizon.coverage, ~exists(select(sql("1")).where(kept)))),
        (delivery, delivery.c.run_id < horizon.versions),
        *((table, table.c.analysis_id.in_(analyses)) for table in (AccessVerdict.table(), PolicyLint.table())),
        (_ANALYSES, of_policy | of_grant),
        (access_policy, access_policy.c.policy_hash.in_(select(_DOCUMENTS.c.policy_hash).where(documents))),
        (_DOCUMENTS, documents),
        (_POLLS, and_(~exists_now, _POLLS.c.key_arn.not_in(closed_since))),
        (_RUNS, and_(_RUNS.c.run_id < horizon.versions, _RUNS.c.run_id.not_in(union(*run_references)))),
    ]


OLD_COVERAGE = sql_text("""
WITH first_kept AS (
    SELECT account_id, region, min(run_id) AS run_id FROM scope_coverage WHERE run_id >= :coverage GROUP BY account_id, region
), present AS (
    SELECT account_id, region, outcome FROM first_kept JOIN scope_coverage USING (account_id, region, run_id)
), past AS MATERIALIZED (
    -- Otherwise SQLite reads the coverage of all old runs again for each scope.
    SELECT account_id, region, run_id, outcome FROM scope_coverage WHERE run_id < :coverage
), broken AS (
    SELECT account_id, region, max(past.run_id) AS run_id FROM present JOIN past USING (account_id, region)
    WHERE past.outcome <> present.outcome GROUP BY account_id, region
)
-- The last run whose outcome differs from the first kept outcome of the scope, and the first run after it.
SELECT run_id, account_id, region FROM broken
UNION
SELECT min(past.run_id), account_id, region
FROM present JOIN past USING (account_id, region) LEFT JOIN broken USING (account_id, region)
WHERE past.run_id > coalesce(broken.run_id, 0) GROUP BY account_id, region
UNION
-- The last run before the horizon that read the scope.
SELECT max(run_id), account_id, region FROM past WHERE outcome IN ('complete', 'partial') GROUP BY account_id, region
UNION
-- The last run that read a listing which has been missing since before the horizon.
SELECT max(past.run_id), account_id, region FROM gap g JOIN past USING (account_id, region)
WHERE past.run_id < g.valid_from AND past.outcome IN ('complete', 'partial')
    AND g.subject = '' AND (g.valid_to IS NULL OR g.valid_to >= :versions)
GROUP BY g.version_id, account_id, region
""")
"""Old coverage that kept runs need: when a scope was last read, and since when it has its current outcome.

A few rows for each scope, whatever the number of runs.
"""


def _shrink_file(engine: Engine) -> tuple[int | None, str]:
    """Shrink the SQLite file; returns the freed bytes, and a note for the user."""
    if engine.dialect.name != "sqlite":
        return None, "PostgreSQL reuses the space for new rows; VACUUM FULL returns it to the file system"
    file = Path(str(engine.url.database))
    with closing(engine.raw_connection()) as pooled:
        raw: Any = pooled.driver_connection
        try:
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            before = file.stat().st_size
            raw.execute("VACUUM")
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            return None, f"the file could not be shrunk ({error}); later crawls reuse the space"
    return before - file.stat().st_size, ""

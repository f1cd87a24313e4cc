"""The analysis stage after a crawl: analyze who can use which key, incrementally, and store the results in the ledger."""

from __future__ import annotations

import datetime as dt
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Engine, Table, delete, func, insert, select, text

from models.settings import Settings
from models.store.engine import check, opened, translate_errors
from models.tables import Account
from models.tables.access_analysis import (
    AccessAnalysis,
    AccessPolicy,
    AccessVerdict,
    AnalysisWatermark,
    KeyAnalysis,
    PolicyLint,
)
from models.tables.runs import Run
from models.versioned import Base
from reports.access.analysis.dedup_grants import find_pending_grants, organization_digest
from reports.access.analysis.dedup_policies import Watermark, assign_analyses, find_pending, policy_texts
from reports.access.analysis.runner import AnalysisRequest, run_analyses
from reports.access.engine.analysis_key import ENGINE
from reports.access.engine.model import Organization

_WATERMARK_TABLES = {
    "key_policy": "policy_hash",
    "key_metadata": "content_hash",
    "key_grant": "content_hash",
    "key_analysis": "content_hash",
}
_BATCH = 1_000
"""Analyses per insertion."""
_DERIVED_TABLES: tuple[type[Base], ...] = (
    AccessVerdict,
    PolicyLint,
    AccessAnalysis,
    AccessPolicy,
    AnalysisWatermark,
    KeyAnalysis,
)


@dataclass(frozen=True, slots=True)
class AnalysisSummary:
    """The size and duration of an analysis."""

    policies: int
    """Policy analyses; equivalent policies of many keys count once."""
    grants: int
    """Grant shapes."""
    keys: int
    """Policy versions that received an analysis."""
    seconds: float


def analyze_access(settings: Settings, *, redo: bool = False) -> AnalysisSummary:
    """Analyze new policies and grants; all of them with ``redo``, or if the engine version has changed.

    Does nothing for a ledger without runs. Raises DatabaseError.
    """
    started = time.monotonic()
    with opened(settings.database, must_exist=True) as engine:
        check(engine)
        with translate_errors(engine):
            return _analyze(engine, settings.database, redo, started)


def _analyze(engine: Engine, engine_url: str, redo: bool, started: float) -> AnalysisSummary:
    with engine.begin() as connection:
        run_id = connection.execute(select(func.max(Run.run_id))).scalar()
        if run_id is None:
            return AnalysisSummary(0, 0, 0, time.monotonic() - started)
        organization = load_organization(connection)
        state = load_state(connection)
        if redo or not state:
            state = {}
            clear(connection)
            # Ids are reused: a new value tells the mart to reload everything.
            save_state(connection, {"rebuilt": (0, uuid.uuid4().hex)})
        digest = organization_digest(organization)
        unchanged = state.get("organization") == (0, digest)
        watermark = Watermark(_last_seen(state, "key_policy"), _last_seen(state, "key_metadata"), unchanged)
        pending = find_pending(connection, organization, watermark)
        requests = (pending.requests[new_id] for new_id in missing(connection, pending.requests))
        policies = insert_results(connection, requests, organization)
        assign_analyses(connection, run_id)
        save_state(connection, {"organization": (0, digest), "engine": (0, ENGINE)})
        save_state(connection, {name: _latest(connection, name) for name in ("key_policy", "key_metadata")})
        versions = pending.versions
        del pending, requests  # before the grants are read
    engine.dispose()  # no connection may be open while find_pending_grants copies the ledger
    after = _last_seen(state, "key_grant") if unchanged else 0
    with (
        find_pending_grants(engine_url, digest, after, _last_seen(state, "key_analysis")) as grants,
        engine.begin() as connection,
    ):
        shapes = insert_results(connection, grants.requests(connection), organization)
        save_state(connection, {name: _latest(connection, name) for name in ("key_grant", "key_analysis")})
    return AnalysisSummary(policies, shapes, versions, time.monotonic() - started)


def load_organization(connection: Connection) -> Organization:
    """Return the organization and its accounts, as of the latest data."""
    organization = connection.execute(
        select(Run.organization_id).where(Run.organization_id.is_not(None)).order_by(Run.run_id.desc()).limit(1)
    ).scalar()
    account = Account.table()
    rows = connection.execute(
        select(account.c.account_id, account.c.ou_ids).where(
            account.c.valid_to.is_(None), func.coalesce(account.c.state, "") != "LEFT"
        )
    ).all()
    paths = {row.account_id: f"{organization}/{row.ou_ids.strip('/')}/" for row in rows if organization and row.ou_ids}
    now = dt.datetime.now(dt.UTC)
    return Organization(organization, frozenset(row.account_id for row in rows), {}, paths, now)


def load_state(connection: Connection) -> dict[str, tuple[int, str]]:
    """Return the stored state, or nothing if it does not match the engine or the tables any more."""
    state = {
        row.name: (row.version_id, row.identity) for row in connection.execute(select(AnalysisWatermark.table())).all()
    }
    if state.get("engine") != (0, ENGINE):
        return {}
    for name in _WATERMARK_TABLES:
        # The row was pruned, or its id was reused: the state is not reliable.
        if name not in state or state[name] != _version(connection, name, state[name][0]):
            return {}
    return state


def _last_seen(state: dict[str, tuple[int, str]], name: str) -> int:
    return state.get(name, (0, ""))[0]


def _latest(connection: Connection, name: str) -> tuple[int, str]:
    last = connection.execute(text(f"SELECT max(version_id) FROM {name}")).scalar()
    return _version(connection, name, last or 0)


def _version(connection: Connection, name: str, version_id: int) -> tuple[int, str]:
    if not version_id:
        return 0, ""
    query = f"SELECT key_arn, {_WATERMARK_TABLES[name]}, valid_from FROM {name} WHERE version_id = :version"
    row = connection.execute(text(query), {"version": version_id}).first()
    return (version_id, "") if row is None else (version_id, f"{row[0]} {bytes(row[1]).hex()} {row[2]}")


def save_state(connection: Connection, state: dict[str, tuple[int, str]]) -> None:
    """Replace the named entries of the stored state."""
    table = AnalysisWatermark.table()
    connection.execute(delete(table).where(table.c.name.in_(list(state))))
    connection.execute(
        insert(table),
        [{"name": name, "version_id": version, "identity": identity} for name, (version, identity) in state.items()],
    )


def clear(connection: Connection) -> None:
    """Delete all stored analyses and the state."""
    for mapped in _DERIVED_TABLES:
        connection.execute(delete(mapped.table()))


def missing(connection: Connection, analysis_ids: Iterable[bytes]) -> list[bytes]:
    """Return the ids without a stored analysis."""
    ids = list(analysis_ids)
    table = AccessAnalysis.table()
    stored: set[bytes] = set()
    for start in range(0, len(ids), 500):
        chunk = table.c.analysis_id.in_(ids[start : start + 500])
        stored.update(map(bytes, connection.scalars(select(table.c.analysis_id).where(chunk))))
    return [analysis_id for analysis_id in ids if analysis_id not in stored]


def insert_results(connection: Connection, requests: Iterable[AnalysisRequest], organization: Organization) -> int:
    """Run analyses; insert them with their verdicts and lint findings while the results arrive. Return how many."""
    pairs = run_analyses(requests, partial(policy_texts, connection), organization)
    count = 0
    while batch := list(islice(pairs, _BATCH)):
        count += len(batch)
        for table, rows in (
            (AccessAnalysis.table(), [request.row() | {"engine": ENGINE} for request, _ in batch]),
            (AccessVerdict.table(), [row for _, result in batch for row in result.verdicts]),
            (PolicyLint.table(), [row for _, result in batch for row in result.lint_findings]),
        ):
            if rows:
                _insert(connection, table, rows)
    return count


def _insert(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    names = list(rows[0])
    if connection.dialect.name != "sqlite":
        connection.execute(insert(table), rows)
        return
    # Bypasses SQLAlchemy, which processes rows more slowly than SQLite writes them.
    marks = ", ".join("?" * len(names))
    values = [tuple(row.values()) for row in rows]
    connection.exec_driver_sql(f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({marks})", values)

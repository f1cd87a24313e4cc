"""The stage after a crawl: whoever can use which key, worked out for what is new since the last time and kept in the ledger."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Table, delete, func, insert, select, text

from models.settings import Settings
from models.store.engine import check, connect, translate_errors
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
from reports.access.analysis.dedup_grants import ask_grants, organization_digest
from reports.access.analysis.dedup_policies import Since, ask, spread
from reports.access.analysis.runner import Answer, answers
from reports.access.engine.analysis_key import ENGINE
from reports.access.engine.model import Organization

_WATCHED = {
    "key_policy": "policy_hash",
    "key_metadata": "content_hash",
    "key_grant": "content_hash",
    "key_analysis": "content_hash",
}
_MADE: tuple[type[Base], ...] = (
    AccessVerdict,
    PolicyLint,
    AccessAnalysis,
    AccessPolicy,
    AnalysisWatermark,
    KeyAnalysis,
)


@dataclass(frozen=True, slots=True)
class Assessed:
    """What was done."""

    policies: int
    """Analyses of policies that were made; policies of many keys that are alike count once."""
    grants: int
    """Shapes of grants that were analysed."""
    keys: int
    """Policy versions of keys that were looked at."""
    seconds: float


def assess(settings: Settings, *, redo: bool = False) -> Assessed:
    """Analyse the policies and grants that are new; all of them with ``redo``, or when the engine is another one.

    Raises DatabaseError. A ledger without a run that ended has nothing to analyse.
    """
    began = time.monotonic()
    engine = connect(settings.database, must_exist=True)
    try:
        check(engine)
        with translate_errors(engine):
            return _assess(engine, settings.database, redo, began)
    finally:
        engine.dispose()


def _assess(engine: Engine, engine_url: str, redo: bool, began: float) -> Assessed:
    with engine.begin() as connection:
        run_id = connection.execute(select(func.max(Run.run_id))).scalar()
        if run_id is None:
            return Assessed(0, 0, 0, time.monotonic() - began)
        organization = load_organization(connection)
        known = _known(connection)
        if redo or not known:
            known = {}
            _forget(connection)
            # Ids are given out again: who keeps a copy has to know that all of it was made anew.
            _remember(connection, {"rebuilt": (0, uuid.uuid4().hex)})
        same = known.get("organization") == (0, organization_digest(organization))
        since = Since(_after(known, "key_policy"), _after(known, "key_metadata"), same)
        asked = ask(connection, organization, since)
        new = _unanswered(connection, asked.questions)
        questions = [asked.questions[one] for one in new]
        made: list[dict[str, Any]] = [
            {"analysis_id": one, "path": "policy", "policy_hash": asked.hashes[one], "engine": ENGINE} for one in new
        ]
        _keep(connection, made, answers(questions, organization))
        spread(connection, run_id)
        _remember(connection, {"organization": (0, organization_digest(organization)), "engine": (0, ENGINE)})
        _remember(connection, {name: _last(connection, name) for name in ("key_policy", "key_metadata")})
    # DuckDB reads by another copy of SQLite, and two copies in one process do not see each other's locks on a file: none of
    # our connections may be open meanwhile.
    engine.dispose()
    after = _after(known, "key_grant") if same else 0
    asked_grants = ask_grants(engine, engine_url, organization, after, _after(known, "key_analysis"))
    with engine.begin() as connection:
        made = [
            {
                "analysis_id": one.analysis_id,
                "path": "grant",
                "policy_hash": asked_grants.policies.get(one.analysis_id, (None, None))[0],
                "policy_analysis_id": asked_grants.policies.get(one.analysis_id, (None, None))[1],
                "engine": ENGINE,
            }
            for one in asked_grants.questions
        ]
        _keep(connection, made, answers(asked_grants.questions, organization))
        _remember(connection, {name: _last(connection, name) for name in ("key_grant", "key_analysis")})
    return Assessed(len(questions), len(asked_grants.questions), asked.versions, time.monotonic() - began)


def load_organization(connection: Connection) -> Organization:
    """Our organization and its accounts, as last known."""
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
    return Organization(organization, frozenset(row.account_id for row in rows), {}, paths)


def _table(mapped: type[Base]) -> Table:
    return Base.metadata.tables[mapped.__tablename__]


def _known(connection: Connection) -> dict[str, tuple[int, str]]:
    """The state, if what was looked at is still what it was; else nothing."""
    state = {
        row.name: (row.version_id, row.identity) for row in connection.execute(select(_table(AnalysisWatermark))).all()
    }
    if state.get("engine") != (0, ENGINE):
        return {}
    for name in _WATCHED:
        # A missing row may be one that was pruned, or one whose id was given out again: then nothing is sure.
        if name not in state or state[name] != _version(connection, name, state[name][0]):
            return {}
    return state


def _after(known: dict[str, tuple[int, str]], name: str) -> int:
    return known.get(name, (0, ""))[0]


def _last(connection: Connection, name: str) -> tuple[int, str]:
    last = connection.execute(text(f"SELECT max(version_id) FROM {name}")).scalar()
    return _version(connection, name, last or 0)


def _version(connection: Connection, name: str, version_id: int) -> tuple[int, str]:
    if not version_id:
        return 0, ""
    query = f"SELECT key_arn, {_WATCHED[name]}, valid_from FROM {name} WHERE version_id = :version"
    row = connection.execute(text(query), {"version": version_id}).first()
    return (version_id, "") if row is None else (version_id, f"{row[0]} {bytes(row[1]).hex()} {row[2]}")


def _remember(connection: Connection, state: dict[str, tuple[int, str]]) -> None:
    table = _table(AnalysisWatermark)
    connection.execute(delete(table).where(table.c.name.in_(list(state))))
    connection.execute(
        insert(table),
        [{"name": name, "version_id": version, "identity": identity} for name, (version, identity) in state.items()],
    )


def _forget(connection: Connection) -> None:
    for mapped in _MADE:
        connection.execute(delete(_table(mapped)))


def _unanswered(connection: Connection, questions: Iterable[bytes]) -> list[bytes]:
    wanted = list(questions)
    table = _table(AccessAnalysis)
    known: set[bytes] = set()
    for start in range(0, len(wanted), 500):
        some = table.c.analysis_id.in_(wanted[start : start + 500])
        known.update(map(bytes, connection.scalars(select(table.c.analysis_id).where(some))))
    return [one for one in wanted if one not in known]


def _keep(connection: Connection, made: list[dict[str, Any]], found: Iterable[Answer]) -> None:
    verdicts: list[dict[str, Any]] = []
    lint_findings: list[dict[str, Any]] = []
    for answer in found:
        verdicts += answer.verdicts
        lint_findings += answer.lint_findings
    filled: tuple[tuple[type[Base], list[dict[str, Any]]], ...] = (
        (AccessAnalysis, made),
        (AccessVerdict, verdicts),
        (PolicyLint, lint_findings),
    )
    for mapped, rows in filled:
        if rows:
            _insert(connection, _table(mapped), rows)


def _insert(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    names = list(rows[0])
    if connection.dialect.name != "sqlite":
        connection.execute(insert(table), rows)
        return
    # Past SQLAlchemy, which takes longer to look at the rows than SQLite takes to write them.
    marks = ", ".join("?" * len(names))
    values = [tuple(row.values()) for row in rows]
    connection.exec_driver_sql(f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({marks})", values)

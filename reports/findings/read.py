"""Findings as typed records, with what their rule says: for lists, and for whatever form another system wants them in."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import duckdb

SEVERITIES = ("critical", "high", "medium", "low", "info")
STATUSES = ("fail", "unknown", "waived", "pass", "not_applicable")
_FETCH = 2_000


@dataclass(frozen=True, slots=True)
class FindingRecord:
    """One row of the view ``findings`` with the row of its rule. Times are UTC, without a zone as DuckDB gives them."""

    rule_id: str
    title: str
    severity: str
    family: str | None
    status: str
    verdict: str
    resource_arn: str
    resource_type: str | None
    resource_name: str
    account_id: str | None
    account_name: str | None
    ou_path: str | None
    region: str | None
    key_arn: str | None
    reason: str
    owner: str | None
    first_failed: dt.datetime | None
    last_seen: dt.datetime | None
    resolved_at: dt.datetime | None
    reopened: int
    age_days: int | None
    since: dt.datetime | None
    waiver: str | None
    waived_until: dt.date | None
    why: str | None
    fix: str | None
    console: str | None
    cli: str | None
    terraform: str | None
    frameworks: list[str]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which findings; an empty filter lets everything through. ``severity`` is the lowest that is wanted."""

    statuses: Sequence[str] = ("fail", "unknown")
    severity: str | None = None
    rules: Sequence[str] = ()
    families: Sequence[str] = ()
    accounts: Sequence[str] = ()
    """Ids or names."""
    owners: Sequence[str] = ()
    framework: str | None = None
    """A part of a framework's or control's name, in any case."""


_QUERY = """
SELECT {columns}
FROM findings f
LEFT JOIN (SELECT rule_id, why, fix, console, cli, terraform, frameworks FROM rules) u ON u.rule_id = f.rule_id
WHERE {where}
ORDER BY list_position($severities, f.severity), f.rule_id, list_position($ranks, f.status), f.account_id, f.region,
  f.resource_arn
"""
_OF_RULE = ("why", "fix", "console", "cli", "terraform")


def read_findings(connection: duckdb.DuckDBPyConnection, wanted: Wanted) -> Iterator[FindingRecord]:
    """Yield the findings of a mart, the gravest first; the connection is the caller's and reads nothing else meanwhile."""
    conditions, values = ["list_contains($statuses, f.status)"], {"statuses": list(wanted.statuses)}
    lists = (("rules", "f.rule_id"), ("families", "f.family"), ("owners", "f.owner"))
    for name, column in lists:
        if getattr(wanted, name):
            conditions.append(f"list_contains(${name}, {column})")
            values[name] = list(getattr(wanted, name))
    if wanted.accounts:
        conditions.append("(list_contains($accounts, f.account_id) OR list_contains($accounts, f.account_name))")
        values["accounts"] = list(wanted.accounts)
    if wanted.severity is not None:
        conditions.append("list_contains($enough, f.severity)")
        values["enough"] = list(SEVERITIES[: SEVERITIES.index(wanted.severity) + 1])
    if wanted.framework is not None:
        conditions.append("len(list_filter(u.frameworks, lambda one: contains(lower(one), lower($framework[1])))) > 0")
        values["framework"] = [wanted.framework]
    names = [field.name for field in fields(FindingRecord) if field.name != "frameworks"]
    columns = [f"{'u' if name in _OF_RULE else 'f'}.{name}" for name in names]
    columns.append("coalesce(u.frameworks, CAST([] AS VARCHAR[])) AS frameworks")
    query = _QUERY.format(columns=", ".join(columns), where=" AND ".join(conditions))
    cursor = connection.execute(query, {**values, "severities": list(SEVERITIES), "ranks": list(STATUSES)})
    while rows := cursor.fetchmany(_FETCH):
        for row in rows:
            yield FindingRecord(*row)


def failing(connection: duckdb.DuckDBPyConnection, threshold: str) -> int:
    """How many resources fail a rule at or above a severity, without those that a waiver accepts; 0 for ``never``."""
    if threshold == "never":
        return 0
    found = connection.execute(
        "SELECT coalesce(sum(fail), 0) FROM rule_results WHERE list_contains($enough, severity)",
        {"enough": list(SEVERITIES[: SEVERITIES.index(threshold) + 1])},
    ).fetchone()
    return int(found[0]) if found else 0

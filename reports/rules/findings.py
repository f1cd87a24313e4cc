"""Findings as typed records, with what their rule says: for lists, and for whatever form another system wants them in."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from models.severities import SEVERITIES

if TYPE_CHECKING:
    import duckdb

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
    unwaived_status: str
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
    resolved: bool = False
    """Also those of other statuses that failed before and are resolved."""


_QUERY = """
SELECT {columns}
FROM findings f
WHERE {where}
ORDER BY {order}list_position($severities, f.severity), f.rule_id, list_position($ranks, f.status), f.account_id, f.region,
  f.resource_arn
"""
_OF_RULE = ("why", "fix", "console", "cli", "terraform", "frameworks")


def read_findings(
    connection: duckdb.DuckDBPyConnection, wanted: Wanted, *, by_place: bool = False
) -> Iterator[FindingRecord]:
    """Yield the findings of a mart; the connection is the caller's and reads nothing else meanwhile.

    The gravest come first; with ``by_place`` those of an account in a region stand together, and of these the gravest first.
    """
    # What a rule says is put to its findings here: DuckDB would sort it with each of a million rows.
    texts = {
        row[0]: row[1:]
        for row in connection.execute(
            f"SELECT rule_id, {', '.join(_OF_RULE[:-1])}, coalesce(frameworks, []) FROM rules"
        ).fetchall()
    }
    unsaid: tuple[Any, ...] = (*(None for _ in _OF_RULE[:-1]), [])
    conditions, values = ["list_contains($statuses, f.status)"], {"statuses": list(wanted.statuses)}
    if wanted.resolved:
        conditions[0] = f"({conditions[0]} OR f.resolved_at IS NOT NULL)"
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
        part = wanted.framework.lower()
        conditions.append("list_contains($answering, f.rule_id)")
        values["answering"] = [rule for rule, said in texts.items() if any(part in one.lower() for one in said[-1])]
    columns = ", ".join(f"f.{field.name}" for field in fields(FindingRecord) if field.name not in _OF_RULE)
    order = "f.account_id, f.region, " if by_place else ""
    query = _QUERY.format(columns=columns, where=" AND ".join(conditions), order=order)
    cursor = connection.execute(query, {**values, "severities": list(SEVERITIES), "ranks": list(STATUSES)})
    while rows := cursor.fetchmany(_FETCH):
        for row in rows:
            yield FindingRecord(*row, *texts.get(row[0], unsaid))


def failing(connection: duckdb.DuckDBPyConnection, threshold: str) -> int:
    """How many resources fail a rule at or above a severity, without those that a waiver accepts; 0 for ``never``."""
    if threshold == "never":
        return 0
    found = connection.execute(
        "SELECT coalesce(sum(failed), 0) FROM rule_results WHERE list_contains($enough, severity)",
        {"enough": list(SEVERITIES[: SEVERITIES.index(threshold) + 1])},
    ).fetchone()
    return int(found[0]) if found else 0

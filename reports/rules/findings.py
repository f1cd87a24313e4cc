"""Findings as typed records, joined with the texts of their rule: for lists and exports."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from models.errors import UserError
from models.severities import SEVERITIES

if TYPE_CHECKING:
    import duckdb

STATUSES = ("fail", "unknown", "waived", "pass", "not_applicable")
_FETCH = 2_000


@dataclass(frozen=True, slots=True)
class FindingRecord:
    """One row of the view ``findings`` with its rule. Times are UTC without a time zone, as DuckDB returns them."""

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
class FindingFilter:
    """Selects findings; an empty field matches everything. ``severity`` is the minimum severity."""

    statuses: Sequence[str] = ("fail", "unknown")
    severity: str | None = None
    rules: Sequence[str] = ()
    families: Sequence[str] = ()
    accounts: Sequence[str] = ()
    """IDs or names."""
    owners: Sequence[str] = ()
    framework: str | None = None
    """Part of the name of a framework or control, case-insensitive."""
    resolved: bool = False
    """Include findings of other statuses that failed before and are resolved."""


_QUERY = """
SELECT {columns}
FROM findings f
WHERE {where}
ORDER BY {order}list_position($severities, f.severity), f.rule_id, list_position($ranks, f.status), f.account_id, f.region,
  f.resource_arn
"""
_CONDITIONS = {
    "rules": "list_contains($rules, f.rule_id)",
    "families": "list_contains($families, f.family)",
    "owners": "list_contains($owners, f.owner)",
    "accounts": "(list_contains($accounts, f.account_id) OR list_contains($accounts, f.account_name))",
}
"""The conditions of the filters that list alternatives."""
_RULE_FIELDS = ("why", "fix", "console", "cli", "terraform", "frameworks")


class UnknownNameError(UserError):
    """A filter names a rule, family or account that the mart does not have."""

    exit_code = 2


_NAMES = {
    "rules": ("rule", "SELECT rule_id FROM rules UNION SELECT rule_id FROM findings_history", "rules list"),
    "families": ("family", "SELECT family FROM rules", "rules list"),
    "accounts": (
        "account",
        "SELECT unnest([account_id, name]) FROM accounts_history UNION SELECT account_id FROM rule_results",
        'sql "SELECT account_id, name FROM accounts"',
    ),
}
"""The filters whose values must exist: what they name, a query for the names, and the command that lists them."""


def note_on_passes(statuses: Sequence[str]) -> str | None:
    """A note for a list with these statuses if it is incomplete: of results that never were a problem, only counts are kept."""
    if {"pass", "not_applicable"}.isdisjoint(statuses):
        return None
    return "pass and not_applicable: only former problems are listed; `kmsledger rules run RULE` lists every result of a rule"


def check_names(connection: duckdb.DuckDBPyConnection, criteria: FindingFilter) -> None:
    """Raise UnknownNameError if a filter names something that does not exist: an empty list would look like good news."""
    for attribute, (noun, query, listing) in _NAMES.items():
        if wanted := set(getattr(criteria, attribute)):
            missing = wanted - {row[0] for row in connection.execute(query).fetchall()}
            if missing:
                raise UnknownNameError(
                    f"there is no {noun} {min(missing)!r} in the mart: `kmsledger {listing}` lists them"
                )


def read_findings(
    connection: duckdb.DuckDBPyConnection, criteria: FindingFilter, *, by_account_region: bool = False
) -> Iterator[FindingRecord]:
    """Yield the findings of a mart, highest severity first; with ``by_account_region``, grouped by account and region.

    The caller must not use the connection until the iterator ends.
    """
    # Rule texts are joined here: DuckDB would carry them through the sort of a million rows.
    texts = {
        row[0]: row[1:]
        for row in connection.execute(
            f"SELECT rule_id, {', '.join(_RULE_FIELDS[:-1])}, coalesce(frameworks, []) FROM rules"
        ).fetchall()
    }
    no_texts: tuple[Any, ...] = (*(None for _ in _RULE_FIELDS[:-1]), [])
    conditions, values = ["list_contains($statuses, f.status)"], {"statuses": list(criteria.statuses)}
    if criteria.resolved:
        conditions[0] = f"({conditions[0]} OR f.resolved_at IS NOT NULL)"
    for name, condition in _CONDITIONS.items():
        if alternatives := list(getattr(criteria, name)):
            conditions.append(condition)
            values[name] = alternatives
    if criteria.severity is not None:
        conditions.append("list_contains($severities_in_scope, f.severity)")
        values["severities_in_scope"] = list(SEVERITIES[: SEVERITIES.index(criteria.severity) + 1])
    if criteria.framework is not None:
        part = criteria.framework.lower()
        conditions.append("list_contains($mapped_rules, f.rule_id)")
        values["mapped_rules"] = [
            rule for rule, rule_texts in texts.items() if any(part in control.lower() for control in rule_texts[-1])
        ]
    columns = ", ".join(f"f.{field.name}" for field in fields(FindingRecord) if field.name not in _RULE_FIELDS)
    order = "f.account_id, f.region, " if by_account_region else ""
    query = _QUERY.format(columns=columns, where=" AND ".join(conditions), order=order)
    cursor = connection.execute(query, {**values, "severities": list(SEVERITIES), "ranks": list(STATUSES)})
    while rows := cursor.fetchmany(_FETCH):
        for row in rows:
            yield FindingRecord(*row, *texts.get(row[0], no_texts))


def failing(connection: duckdb.DuckDBPyConnection, threshold: str) -> int:
    """The number of unwaived failures at or above a severity; 0 for ``never``."""
    if threshold == "never":
        return 0
    row = connection.execute(
        "SELECT count(*) FROM internal.finding WHERE internal.known(valid_from, valid_to, internal.view_run()) "
        "AND status = 'fail' AND list_contains($severities_in_scope, severity)",
        {"severities_in_scope": list(SEVERITIES[: SEVERITIES.index(threshold) + 1])},
    ).fetchone()
    return int(row[0]) if row else 0

"""Run the rules over the mart: facts to findings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import duckdb

from models.settings import Settings
from reports.compliance.rules import Rule, RuleError, load_rules

COLUMNS = ("resource_arn", "account_id", "region", "key_arn", "status", "reason")
STATUSES = frozenset({"pass", "fail", "unknown", "not_applicable"})


def assess(
    mart: duckdb.DuckDBPyConnection, settings: Settings, rules: Iterable[Rule] | None = None
) -> list[dict[str, Any]]:
    """What the rules in force (or those given) say: rows of :class:`models.findings.Finding`."""
    chosen = load_rules(settings) if rules is None else rules
    return [row for rule in chosen for row in assess_rule(mart, rule)]


def assess_rule(mart: duckdb.DuckDBPyConnection, rule: Rule) -> list[dict[str, Any]]:
    """What one rule says of every resource that it considers. Raises RuleError when it does not keep to its form."""
    try:
        cursor = mart.execute(rule.query, dict(rule.parameters)) if rule.parameters else mart.execute(rule.query)
        names = [column[0] for column in cursor.description or ()]
        if sorted(names) != sorted(COLUMNS):
            raise RuleError(f"{rule.source}: expected the columns {', '.join(COLUMNS)}, found {', '.join(names)}")
        answers = cursor.fetchall()
    except duckdb.Error as error:
        cause = " ".join(str(error).split("LINE ")[0].split())
        raise RuleError(f"{rule.source}: rule {rule.rule_id} failed: {cause}") from error
    rows: dict[str, dict[str, Any]] = {}
    for answer in answers:
        row = dict(zip(names, answer, strict=True))
        _check(rule, row, rows)
        rows[row["resource_arn"]] = row | {"rule_id": rule.rule_id, "severity": rule.severity}
    return list(rows.values())


def _check(rule: Rule, row: dict[str, Any], seen: dict[str, dict[str, Any]]) -> None:
    resource = row["resource_arn"]
    if not isinstance(resource, str) or not resource:
        raise RuleError(f"{rule.source}: a row has no resource_arn; every row needs one")
    if resource in seen:
        raise RuleError(f"{rule.source}: {resource} is returned twice; a rule says one thing of a resource")
    if row["status"] not in STATUSES:
        raise RuleError(
            f"{rule.source}: {resource} has status {row['status']!r}; expected {', '.join(sorted(STATUSES))}"
        )
    if not isinstance(row["reason"], str) or not row["reason"]:
        raise RuleError(f"{rule.source}: {resource} has no reason; every row needs one")

"""The facts of an example: the ledger rows that a crawl of its accounts would write, run by run."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Boolean, Integer, LargeBinary

from models.hashing import canonical_json
from models.tables import Gap, KeyLastUseGap
from models.types import UtcDateTime
from models.versioned import VersionedTable
from reports.rules.loader import RuleError
from reports.rules.testing.loader import Lined
from reports.rules.testing.operation_facts import OPERATIONS

LAST_RUN = dt.datetime(2026, 11, 22, 3, 0, tzinfo=dt.UTC)
HOME = "eu-west-1"
GLOBAL = "global"
ORGANIZATION, MANAGEMENT = "o-exampleorg1", "123456789012"
OUTSIDE, VENDOR = "999900001111", "222200001111"
_NAME = re.compile(r"\{([a-z][a-z0-9_-]*)\}")
POLICY = "policy"
"""The key under which rows hold a policy's text in place of its hash."""
Row = dict[str, Any]


@dataclass(slots=True)
class Facts:
    """What one run reads of an example's accounts."""

    own: str
    other: str
    names: dict[str, str]
    """The values of placeholders: ARNs of the example's items, and its accounts."""
    rows: dict[type[VersionedTable], list[Row]] = field(default_factory=dict)
    outcomes: dict[tuple[str, str], str] = field(default_factory=dict)
    """By account and region."""
    source: str = ""

    def add(self, model: type[VersionedTable], stated: Mapping[str, Any], **defaults: Any) -> Row:
        """Add a row of defaults overridden by stated values; mappings become JSON in text columns. Raises RuleError."""
        row: Row = {name: None for name in model.value_columns() if name != "policy_hash"}
        if "policy_hash" in model.value_columns():
            row[POLICY] = None
        for name, value in {**defaults, **stated}.items():
            if name not in row:
                line = stated.lines.get(name, stated.line) if isinstance(stated, Lined) else 0
                raise RuleError(
                    f"{self.source}:{line}: {model.__tablename__} has no {name!r}: choose from {', '.join(row)}"
                )
            row[name] = self._typed(model, name, value, stated)
        self.rows.setdefault(model, []).append(row)
        return row

    def text(self, value: Any) -> Any:
        """The value with all placeholders replaced, at any depth."""
        if isinstance(value, str):
            return _NAME.sub(lambda match: self.names.get(match[1], match[0]), value)
        if isinstance(value, dict):
            return {self.text(name): self.text(inner) for name, inner in value.items()}
        return [self.text(item) for item in value] if isinstance(value, list) else value

    def _typed(self, model: type[VersionedTable], name: str, value: Any, stated: Mapping[str, Any]) -> Any:
        if value is None or name == POLICY:
            return value
        column_type = model.table().columns[name].type
        try:
            if isinstance(column_type, UtcDateTime):
                return to_datetime(value)
            if isinstance(column_type, Boolean):
                return {True: True, False: False}[value]
            if isinstance(column_type, Integer):
                return int(value)
        except (ValueError, KeyError, TypeError) as error:
            line = stated.lines.get(name, stated.line) if isinstance(stated, Lined) else 0
            raise RuleError(
                f"{self.source}:{line}: {value!r} does not fit {name!r}, which is {column_type!r}"
            ) from error
        if isinstance(column_type, LargeBinary):
            return value
        value = self.text(value)
        return canonical_json(value) if isinstance(value, dict | list) else str(value)

    def translation_from(self, account: str) -> Callable[[Any], Any]:
        """A function that replaces the accounts of another example with this example's in a value."""
        other = str(int(account) + 1)

        def translated(value: Any) -> Any:
            return value.replace(account, self.own).replace(other, self.other) if isinstance(value, str) else value

        return translated


def to_datetime(value: Any) -> dt.datetime:
    """A date (its midnight) or a time as a datetime in UTC."""
    if isinstance(value, dt.datetime):
        return value
    parsed = dt.datetime.fromisoformat(str(value))
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=dt.UTC)


def account_of(facts: Facts, stated: Mapping[str, Any]) -> str:
    """The account ID for ``account`` of an item: own (the default), other, or an ID."""
    named = str(stated.get("account", "own"))
    return str(facts.text({"own": "{account}", "other": "{other}"}.get(named, named)))


def add_gap(facts: Facts, action: str, subject: str, account_region: tuple[str, str], cause: str) -> None:
    """Add a gap, unless it exists."""
    account, region = account_region
    service, _, name = action.partition(":")
    if action == "kms:GetKeyLastUsage":
        values = {"key_arn": subject, "action": action, "cause": cause}
        facts.add(KeyLastUseGap, {}, **values, code="AccessDeniedException", message=f"not authorized: {action}")
        return
    row = {
        "account_id": account,
        "region": region,
        "service": service,
        "operation": OPERATIONS.get(action, name),
        "subject": subject,
    }
    if any(all(gap[key] == value for key, value in row.items()) for gap in facts.rows.get(Gap, ())):
        return
    facts.add(
        Gap, {}, **row, action=action, cause=cause, code="AccessDeniedException", message=f"not authorized: {action}"
    )
    if facts.outcomes.get((account, region)) == "complete":
        facts.outcomes[account, region] = "partial"

"""From an example to facts: the rows of the ledger that a crawl of the example's accounts would write, night by night."""

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

LAST_NIGHT = dt.datetime(2026, 11, 22, 3, 0, tzinfo=dt.UTC)
HOME = "eu-west-1"
GLOBAL = "global"
ORGANIZATION, MANAGEMENT = "o-exampleorg1", "123456789012"
OUTSIDE, VENDOR = "999900001111", "222200001111"
_NAME = re.compile(r"\{([a-z][a-z0-9_-]*)\}")
POLICY = "policy"
"""In rows, the text of the policy in place of its hash."""
Row = dict[str, Any]


@dataclass(slots=True)
class Facts:
    """What a night shows of an example's accounts."""

    own: str
    other: str
    names: dict[str, str]
    """What names in texts stand for: ARNs of the example's things, and its accounts."""
    rows: dict[type[VersionedTable], list[Row]] = field(default_factory=dict)
    outcomes: dict[tuple[str, str], str] = field(default_factory=dict)
    """By account and region."""
    source: str = ""

    def add(self, model: type[VersionedTable], stated: Mapping[str, Any], **defaults: Any) -> Row:
        """Add a row: defaults, replaced by what is stated; in columns that are texts, mappings become JSON."""
        row: Row = {name: None for name in model.value_columns() if name != "policy_hash"}
        if "policy_hash" in model.value_columns():
            row[POLICY] = None
        for name, value in {**defaults, **stated}.items():
            if name not in row:
                line = stated.lines.get(name, stated.line) if isinstance(stated, Lined) else 0
                raise RuleError(f"{self.source}:{line}: {model.__tablename__} has no {name!r}; it has {', '.join(row)}")
            row[name] = self._typed(model, name, value, stated)
        self.rows.setdefault(model, []).append(row)
        return row

    def text(self, value: Any) -> Any:
        """The value with names replaced in every text of it."""
        if isinstance(value, str):
            return _NAME.sub(lambda found: self.names.get(found[1], found[0]), value)
        if isinstance(value, dict):
            return {self.text(name): self.text(one) for name, one in value.items()}
        return [self.text(one) for one in value] if isinstance(value, list) else value

    def _typed(self, model: type[VersionedTable], name: str, value: Any, stated: Mapping[str, Any]) -> Any:
        if value is None or name == POLICY:
            return value
        kind = model.table().columns[name].type
        try:
            if isinstance(kind, UtcDateTime):
                return moment(value)
            if isinstance(kind, Boolean):
                return {True: True, False: False}[value]
            if isinstance(kind, Integer):
                return int(value)
        except (ValueError, KeyError, TypeError) as error:
            line = stated.lines.get(name, stated.line) if isinstance(stated, Lined) else 0
            raise RuleError(f"{self.source}:{line}: {value!r} does not fit {name!r}, which is {kind!r}") from error
        if isinstance(kind, LargeBinary):
            return value
        value = self.text(value)
        return canonical_json(value) if isinstance(value, dict | list) else str(value)

    def cross(self, account: str) -> Callable[[Any], Any]:
        """A function that moves the values of another example's rows here."""
        other = str(int(account) + 1)

        def moved(value: Any) -> Any:
            return value.replace(account, self.own).replace(other, self.other) if isinstance(value, str) else value

        return moved


def moment(value: Any) -> dt.datetime:
    """A day (its midnight) or a time, in UTC."""
    if isinstance(value, dt.datetime):
        return value
    found = dt.datetime.fromisoformat(str(value))
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def account_of(facts: Facts, stated: Mapping[str, Any]) -> str:
    """``account`` of a thing: own (the default), other, or an id."""
    named = str(stated.get("account", "own"))
    return str(facts.text({"own": "{account}", "other": "{other}"}.get(named, named)))


def add_gap(facts: Facts, action: str, subject: str, place: tuple[str, str], cause: str) -> None:
    """Add the gap itself, once; ``place`` is its account and region."""
    account, region = place
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
    if any(all(one[key] == value for key, value in row.items()) for one in facts.rows.get(Gap, ())):
        return
    facts.add(
        Gap, {}, **row, action=action, cause=cause, code="AccessDeniedException", message=f"not authorized: {action}"
    )
    if facts.outcomes.get((account, region)) == "complete":
        facts.outcomes[account, region] = "partial"

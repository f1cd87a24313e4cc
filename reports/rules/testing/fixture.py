"""The facts of an example: the ledger rows that a crawl of its accounts would write, run by run."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sqlalchemy import Boolean, Integer, LargeBinary

from models import tables
from models.hashing import canonical_json
from models.tables import Gap, KeyLastUseGap, VersionedTable
from models.types import UtcDateTime
from reports.rules.loader import RuleError
from reports.rules.testing.operation_facts import OPERATIONS
from reports.rules.yaml_files import Lined

HOME = "eu-west-1"
GLOBAL = "global"
ORGANIZATION, MANAGEMENT = "o-exampleorg1", "123456789012"
OUTSIDE, VENDOR = "999900001111", "222200001111"
READ = frozenset({"complete", "partial"})
"""Outcomes of accounts and regions that a run read."""
POLICY = "policy"
"""The key under which rows hold a policy's text in place of its hash."""
CREATED = "2024-01-15T09:30:00"
Row = dict[str, Any]
Scope = tuple[str, str]
"""An account and a region."""

DEFAULTS: Mapping[type[VersionedTable], Mapping[str, Any]] = {
    tables.Account: {
        "state": "ACTIVE",
        "ou_path": "/Production",
        "ou_ids": "r-abcd/ou-abcd-11111111",
        "joined_at": "2020-05-01",
        "is_management": False,
        "selection": "crawled",
    },
    tables.AccountRegion: {"status": "ENABLED", "selection": "crawled"},
    tables.KeyMetadata: {
        "manager": "CUSTOMER",
        "state": "Enabled",
        "description": "",
        "key_usage": "ENCRYPT_DECRYPT",
        "key_spec": "SYMMETRIC_DEFAULT",
        "origin": "AWS_KMS",
        "created_at": CREATED,
        "multi_region": False,
    },
    tables.KeyGrant: {"operations": ["Decrypt", "GenerateDataKey"], "created_at": "2025-03-01T12:00:00"},
    tables.KeyRotationEvent: {"rotation_type": "AUTOMATIC"},
    tables.Alias: {"created_at": CREATED},
    tables.CustomKeyStore: {"name": "store", "store_type": "AWS_CLOUDHSM", "connection_state": "CONNECTED"},
    tables.Trail: {"global_events": True},
    tables.TrailStatus: {"logging": True},
    tables.IamGroup: {"path": "/"},
    tables.IamPrincipal: {"path": "/", "created_at": CREATED},
    tables.IamManagedPolicy: {"default_version": "v1"},
    Gap: {"code": "AccessDeniedException"},
    KeyLastUseGap: {"code": "AccessDeniedException"},
}
"""Values of columns that are not stated; the others are NULL."""
_NAME = re.compile(r"\{([a-z][a-z0-9_-]*)\}")


@dataclass(slots=True)
class Facts:
    """What one run reads of an example's accounts."""

    own: str = ""
    other: str = ""
    names: dict[str, str] = field(default_factory=dict)
    """The values of placeholders: ARNs of the example's items, and its accounts."""
    rows: dict[type[VersionedTable], list[Row]] = field(default_factory=dict)
    outcomes: dict[Scope, str] = field(default_factory=dict)
    source: str = ""

    def add(self, model: type[VersionedTable], stated: Mapping[str, Any], **values: Any) -> Row:
        """Add a row of values overridden by stated ones; mappings become JSON in text columns. Raises RuleError."""
        columns = _columns(model)
        row: Row = dict.fromkeys(columns)
        for name, value in {**DEFAULTS.get(model, {}), **values, **stated}.items():
            if name not in columns:
                raise RuleError(
                    f"{self._where(stated, name)}: {model.__tablename__} has no {name!r}: choose from {', '.join(columns)}"
                )
            try:
                if value is not None:
                    row[name] = columns[name](self.text(value))
            except (ValueError, KeyError, TypeError) as error:
                raise RuleError(
                    f"{self._where(stated, name)}: {value!r} does not fit {name!r}, "
                    f"which is {model.table().columns[name].type!r}"
                ) from error
        self.rows.setdefault(model, []).append(row)
        return row

    def text(self, value: Any) -> Any:
        """The value with all placeholders replaced, at any depth."""
        if isinstance(value, str):
            return _NAME.sub(lambda match: self.names.get(match[1], match[0]), value) if "{" in value else value
        if isinstance(value, dict):
            return {self.text(name): self.text(inner) for name, inner in value.items()}
        return [self.text(item) for item in value] if isinstance(value, list) else value

    def arn(self, named: Any) -> Any:
        """The ARN of the example's item with this name; any other value with its names in braces replaced by ARNs."""
        return self.names.get(str(named), self.text(named))

    def translation_from(self, account: str) -> Callable[[Row], Row]:
        """A function that replaces the accounts of another example with this example's in a row."""
        other = str(int(account) + 1)

        def translated(row: Row) -> Row:
            return {
                name: value.replace(account, self.own).replace(other, self.other) if isinstance(value, str) else value
                for name, value in row.items()
            }

        return translated

    def _where(self, stated: Mapping[str, Any], name: str) -> str:
        return f"{self.source}:{stated.lines.get(name, stated.line) if isinstance(stated, Lined) else 0}"


@cache
def _columns(model: type[VersionedTable]) -> Mapping[str, Callable[[Any], Any]]:
    """The conversion of stated values by column; the text of a policy stands for its hash."""
    conversions: dict[str, Callable[[Any], Any]] = {}
    for name in model.value_columns():
        column_type = model.table().columns[name].type
        if isinstance(column_type, UtcDateTime):
            conversions[name] = to_datetime
        elif isinstance(column_type, Boolean):
            conversions[name] = {True: True, False: False}.__getitem__
        elif isinstance(column_type, Integer):
            conversions[name] = int
        elif not isinstance(column_type, LargeBinary):
            conversions[name] = _to_text
    if "policy_hash" in model.value_columns():
        conversions[POLICY] = _to_text
    return conversions


def _to_text(value: Any) -> str:
    return canonical_json(value) if isinstance(value, dict | list) else str(value)


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


def region_of(stated: Mapping[str, Any]) -> str:
    """The region of an item."""
    return str(stated.get("region", HOME))


def account_values(account: str, name: str) -> dict[str, str]:
    """The values that name an account of the organization."""
    arn = f"arn:aws:organizations::{MANAGEMENT}:account/{ORGANIZATION}/{account}"
    return {"account_id": account, "name": name, "email": f"aws+{account}@example.org", "arn": arn}


def add_gap(facts: Facts, action: str, subject: str, scope: Scope, cause: str) -> None:
    """Add a gap, unless it exists."""
    values = {"action": action, "cause": cause, "message": f"not authorized: {action}"}
    if action == "kms:GetKeyLastUsage":
        facts.add(KeyLastUseGap, {}, key_arn=subject, **values)
        return
    service, _, name = action.partition(":")
    key = (*scope, service, OPERATIONS.get(action, name), subject)
    if any(tuple(gap[column] for column in Gap.natural_key) == key for gap in facts.rows.get(Gap, ())):
        return
    facts.add(Gap, dict(zip(Gap.natural_key, key, strict=True)), **values)
    if facts.outcomes.get(scope) == "complete":
        facts.outcomes[scope] = "partial"

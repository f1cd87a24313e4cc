"""Read the statements of IAM policies on KMS, without evaluating them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reports.access.engine.conditions import Element, read
from reports.access.engine.kms_actions import BY_POLICY_MASK, matching
from reports.access.engine.policy_parser import statements_of, texts


@dataclass(frozen=True, slots=True)
class IdentityStatement:
    """One statement of an IAM policy, limited to KMS operations. ``reason`` says why it could not be parsed."""

    allow: bool
    operations: int
    resources: tuple[str, ...]
    inverted: bool = False
    """The resources come from a NotResource: the statement applies to all others."""
    elements: tuple[Element, ...] = ()
    reason: str = ""


def read_identity(text: str | None) -> tuple[IdentityStatement, ...]:
    """Return the statements of an IAM policy on KMS; an unreadable one may allow or deny any operation."""
    if text is None:
        return _unreadable("the policy document is unknown")
    items, version = statements_of(text)
    if items is None:
        return _unreadable("the policy could not be parsed")
    statements = (statement for item in items for statement in _statement(item, version))
    return tuple(statement for statement in statements if statement.operations)


def _statement(item: Any, version: str | None) -> tuple[IdentityStatement, ...]:
    if not isinstance(item, dict) or item.get("Effect") not in ("Allow", "Deny"):
        return _unreadable("a statement could not be parsed")
    allow = item["Effect"] == "Allow"
    negated, inverted = "Action" not in item, "Resource" not in item
    actions = texts(item.get("NotAction" if negated else "Action"))
    resources = texts(item.get("NotResource" if inverted else "Resource"))
    conditions = item.get("Condition", {})
    if actions is None or resources is None or not isinstance(conditions, dict):
        return _unreadable("a statement could not be parsed", (allow,))
    operations = matching(actions, negated=negated) & BY_POLICY_MASK
    return (IdentityStatement(allow, operations, resources, inverted, read(conditions, version)),)


def _unreadable(reason: str, effects: tuple[bool, ...] = (True, False)) -> tuple[IdentityStatement, ...]:
    return tuple(IdentityStatement(allow, BY_POLICY_MASK, ("*",), reason=reason) for allow in effects)

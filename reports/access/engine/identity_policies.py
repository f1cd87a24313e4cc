"""Evaluate what the IAM policies of a user or role allow on a key, where the key policy delegates to IAM.

From the IAM user guide, "Policy evaluation logic": an explicit Deny wins, and a permissions boundary limits what the other
policies allow. Service control, resource control and session policies, which can restrict further, are not evaluated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from reports.access.engine.conditions import Context, Element, evaluate_all, read, unknown_reason
from reports.access.engine.kms_actions import BY_POLICY_MASK, bit, matching, names
from reports.access.engine.model import KeyFacts
from reports.access.engine.wildcards import matches

_UNREADABLE_POLICY, _UNREADABLE_STATEMENT = "the policy could not be parsed", "a statement could not be parsed"


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

    def applies_to(self, key_arn: str) -> bool:
        """Whether the statement applies to the key. IAM policies name keys by ARN; an alias ARN matches no key."""
        return any(matches(resource, key_arn) for resource in self.resources) is not self.inverted


@dataclass(frozen=True, slots=True)
class IdentityAccess:
    """The operations that one policy allows; with a reason, the access is unknown."""

    policy: str
    operations: tuple[str, ...]
    reason: str = ""


def read_identity(text: str | None) -> tuple[IdentityStatement, ...]:
    """Return the statements of an IAM policy on KMS; an unreadable one may allow or deny any operation."""
    try:
        document = orjson.loads(text) if text is not None else None
    except orjson.JSONDecodeError:
        document = None
    items = document.get("Statement") if isinstance(document, dict) else None
    if isinstance(items, dict):
        items = [items]
    if not isinstance(document, dict) or not isinstance(items, list):
        reason = _UNREADABLE_POLICY if text is not None else "the policy document is unknown"
        return tuple(IdentityStatement(allow, BY_POLICY_MASK, ("*",), reason=reason) for allow in (True, False))
    version = document.get("Version")
    version = version if isinstance(version, str) else None
    statements = (statement for item in items for statement in _statement(item, version))
    return tuple(statement for statement in statements if statement.operations)


def identity_access(
    policies: Mapping[str, str | None],
    boundary: str | None,
    key_facts: KeyFacts,
    delegated: Iterable[str],
    caller: str,
    *,
    bounded: bool = False,
) -> tuple[IdentityAccess, ...]:
    """Return what a user or role (``caller``, an ARN) can do with a key through its policies (by name; None if unknown).

    ``delegated`` are the operations (``kms:Name``) that the key policy delegates to IAM. With ``bounded``, the boundary
    applies; None means that its document is unknown.
    """
    context = _context(key_facts, caller)
    delegated_mask = 0
    for name in delegated:
        delegated_mask |= bit(name)
    statements_by_policy = {name: read_identity(text) for name, text in policies.items()}
    all_statements = [statement for statements in statements_by_policy.values() for statement in statements]
    denied, maybe_denied, _ = _combine(all_statements, key_facts.arn, context, allow=False)
    bound = maybe_bound = BY_POLICY_MASK
    bound_reason = deny_reason = ""
    if bounded:
        boundary_statements = read_identity(boundary)
        bound, maybe_bound, bound_reason = _combine(boundary_statements, key_facts.arn, context, allow=True)
        bound_denied, maybe_bound_denied, _ = _combine(boundary_statements, key_facts.arn, context, allow=False)
        denied, maybe_denied = denied | bound_denied, maybe_denied | maybe_bound_denied
        maybe_bound |= bound
    if maybe_denied:
        deny_reason = "a Deny in its policies could not be evaluated"
    results: list[IdentityAccess] = []
    for name, statements in statements_by_policy.items():
        allowed, maybe, reason = _combine(statements, key_facts.arn, context, allow=True)
        certain = allowed & delegated_mask & bound & ~denied & ~maybe_denied
        unsure = (allowed | maybe) & delegated_mask & maybe_bound & ~denied & ~certain
        if certain:
            results.append(IdentityAccess(name, names(certain)))
        if unsure:
            results.append(IdentityAccess(name, names(unsure), reason or bound_reason or deny_reason))
    return tuple(results)


def _combine(
    statements: Iterable[IdentityStatement], key_arn: str, context: Context, *, allow: bool
) -> tuple[int, int, str]:
    """Return the operations of the statements with one effect: the certain ones, the unknown ones, and why."""
    certain, maybe, reason = 0, 0, ""
    for statement in statements:
        if statement.allow is not allow or not statement.applies_to(key_arn):
            continue
        holds = None if statement.reason else evaluate_all(statement.elements, context)
        if holds:
            certain |= statement.operations
        elif holds is None:
            maybe |= statement.operations
            reason = reason or statement.reason or unknown_reason(statement.elements, context)
    return certain, maybe & ~certain, reason


def _context(facts: KeyFacts, caller: str) -> Context:
    """Return the condition keys that are known for any request of the caller on the key."""
    parts = facts.arn.split(":", 5)
    account = (caller.split(":", 5) + [""] * 5)[4]
    known: Context = {
        "aws:principalarn": caller,
        "aws:principalaccount": account,
        "kms:calleraccount": account,
        "aws:principalisawsservice": "false",
        "aws:securetransport": "true",
        "aws:resourceaccount": facts.account,
        "aws:requestedregion": parts[3] if len(parts) == 6 else "",
    }
    if facts.tags is not None:
        known |= {f"aws:resourcetag/{key.lower()}": value for key, value in facts.tags.items()}
    return known


def _statement(item: Any, version: str | None) -> tuple[IdentityStatement, ...]:
    if not isinstance(item, dict) or item.get("Effect") not in ("Allow", "Deny"):
        return tuple(
            IdentityStatement(allow, BY_POLICY_MASK, ("*",), reason=_UNREADABLE_STATEMENT) for allow in (True, False)
        )
    allow = item["Effect"] == "Allow"
    negated, inverted = "Action" not in item, "Resource" not in item
    actions = _texts(item.get("NotAction" if negated else "Action"))
    resources = _texts(item.get("NotResource" if inverted else "Resource"))
    conditions = item.get("Condition", {})
    if actions is None or resources is None or not isinstance(conditions, dict):
        return (IdentityStatement(allow, BY_POLICY_MASK, ("*",), reason=_UNREADABLE_STATEMENT),)
    operations = matching(actions, negated=negated) & BY_POLICY_MASK
    return (IdentityStatement(allow, operations, resources, inverted, read(conditions, version)),)


def _texts(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    return None

"""What IAM policies of a user or role let it do with a key, where the key policy leaves the decision to them.

From the IAM user guide, "Policy evaluation logic": an explicit Deny wins, a permissions boundary bounds what the other policies
allow. Service and resource control policies and session policies are not looked at: they could take away more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from reports.access.engine.conditions import Context, Element, judge_all, read, why_unknown
from reports.access.engine.kms_actions import BY_POLICY_MASK, bit, matching, names
from reports.access.engine.model import KeyFacts
from reports.access.engine.wildcards import matches

NOT_LOOKED_AT = "service and resource control policies are not looked at"
_UNREADABLE, _BROKEN = "the policy cannot be read", "a statement cannot be read"


@dataclass(frozen=True, slots=True)
class IdentityStatement:
    """One statement of an IAM policy, as far as it is about KMS keys. ``reason`` says why it cannot be read."""

    allow: bool
    operations: int
    resources: tuple[str, ...]
    inverted: bool = False
    """The resources are those of a NotResource: all but them."""
    elements: tuple[Element, ...] = ()
    reason: str = ""

    def covers(self, key_arn: str) -> bool:
        """Whether it is about the key. IAM policies name keys by ARN; an alias in its place stands for no key."""
        return any(matches(one, key_arn) for one in self.resources) is not self.inverted


@dataclass(frozen=True, slots=True)
class IdentityAccess:
    """What one policy allows; with a reason it is not known whether it does."""

    policy: str
    operations: tuple[str, ...]
    reason: str = ""


def read_identity(text: str | None) -> tuple[IdentityStatement, ...]:
    """The statements of an IAM policy that say something about keys; one that cannot be read may say anything."""
    try:
        document = orjson.loads(text) if text is not None else None
    except orjson.JSONDecodeError:
        document = None
    listed = document.get("Statement") if isinstance(document, dict) else None
    if isinstance(listed, dict):
        listed = [listed]
    if not isinstance(document, dict) or not isinstance(listed, list):
        reason = _UNREADABLE if text is not None else "the policy is not known"
        return tuple(IdentityStatement(allow, BY_POLICY_MASK, ("*",), reason=reason) for allow in (True, False))
    version = document.get("Version")
    found = (one for item in listed for one in _statement(item, version if isinstance(version, str) else None))
    return tuple(one for one in found if one.operations)


def identity_access(
    policies: Mapping[str, str | None],
    boundary: str | None,
    key_facts: KeyFacts,
    delegated: Iterable[str],
    caller: str,
    *,
    bounded: bool = False,
) -> tuple[IdentityAccess, ...]:
    """What a user or role (``caller``, an ARN) can do with a key through its policies (by name; None: not known).

    ``delegated`` are the operations (``kms:Name``) that the key policy leaves to IAM. With ``bounded`` the boundary counts,
    and one without a text is not known.
    """
    context = _context(key_facts, caller)
    given = 0
    for name in delegated:
        given |= bit(name)
    read_ones = {name: read_identity(text) for name, text in policies.items()}
    denied, maybe_denied, _ = _sum(
        (one for found in read_ones.values() for one in found), key_facts.arn, context, allow=False
    )
    within = maybe_within = BY_POLICY_MASK
    why_bounded = why_denied = ""
    if bounded:
        edge = read_identity(boundary)
        within, maybe_within, why_bounded = _sum(edge, key_facts.arn, context, allow=True)
        barred, maybe_barred, _ = _sum(edge, key_facts.arn, context, allow=False)
        denied, maybe_denied = denied | barred, maybe_denied | maybe_barred
        maybe_within |= within
    if maybe_denied:
        why_denied = "a Deny among its policies cannot be judged"
    answers: list[IdentityAccess] = []
    for name, found in read_ones.items():
        allowed, maybe, why = _sum(found, key_facts.arn, context, allow=True)
        certain = allowed & given & within & ~denied & ~maybe_denied
        unsure = (allowed | maybe) & given & maybe_within & ~denied & ~certain
        if certain:
            answers.append(IdentityAccess(name, names(certain)))
        if unsure:
            answers.append(IdentityAccess(name, names(unsure), why or why_bounded or why_denied))
    return tuple(answers)


def _sum(
    statements: Iterable[IdentityStatement], key_arn: str, context: Context, *, allow: bool
) -> tuple[int, int, str]:
    """The operations that statements of one effect are certainly about, those that they may be about, and why."""
    certain, maybe, reason = 0, 0, ""
    for one in statements:
        if one.allow is not allow or not one.covers(key_arn):
            continue
        answer = None if one.reason else judge_all(one.elements, context)
        if answer:
            certain |= one.operations
        elif answer is None:
            maybe |= one.operations
            reason = reason or one.reason or why_unknown(one.elements, context)
    return certain, maybe & ~certain, reason


def _context(facts: KeyFacts, caller: str) -> Context:
    """What is known of any call by the caller on the key."""
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
        return tuple(IdentityStatement(one, BY_POLICY_MASK, ("*",), reason=_BROKEN) for one in (True, False))
    allow = item["Effect"] == "Allow"
    negated, inverted = "Action" not in item, "Resource" not in item
    actions = _texts(item.get("NotAction" if negated else "Action"))
    resources = _texts(item.get("NotResource" if inverted else "Resource"))
    conditions = item.get("Condition", {})
    if actions is None or resources is None or not isinstance(conditions, dict):
        return (IdentityStatement(allow, BY_POLICY_MASK, ("*",), reason=_BROKEN),)
    operations = matching(actions, negated=negated) & BY_POLICY_MASK
    return (IdentityStatement(allow, operations, resources, inverted, read(conditions, version)),)


def _texts(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return tuple(value)
    return None

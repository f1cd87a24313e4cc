"""What an analysis depends on beside the policy's text: which keys and grants can share one, and when it has to be redone."""

from __future__ import annotations

import re
from collections.abc import Hashable
from enum import StrEnum

from reports.access.engine.model import KeyFacts, Organization
from reports.access.engine.policy_parser import Policy, Statement
from reports.access.engine.wildcards import wild

ENGINE = "2"
"""Raised with every change of what the engine answers: all that was analysed by another engine is analysed again."""

LOOKS = ("key", "tags", "aliases", "organization")
"""What a policy can make an analysis look at: the key's own ARN, its tags, its aliases, whose accounts are whose."""

_ACCOUNT = re.compile(r"(?<![0-9])[0-9]{12}(?![0-9])")
_ACCOUNT_KEYS = frozenset(
    {"kms:calleraccount", "aws:principalaccount", "aws:principalarn", "aws:userid", "aws:vpceaccount"}
)
_SESSION_KEYS = ("aws:userid", "aws:username", "${")
_CONSTRAINT_KEYS = ("kms:encryptioncontext", "aws:sourcearn", "${")


class Denies(StrEnum):
    """What the Deny statements of a key policy can do to grants."""

    NOTHING = ""
    """There are none."""
    ALIKE = "alike"
    """They treat grants of one shape alike."""
    EACH = "each"
    """They can tell sessions or encryption contexts apart."""


def looks_at(policy: Policy) -> tuple[str, ...]:
    """The words of LOOKS that apply to a policy."""
    text = _conditions(policy.statements)
    found = []
    about = any(one != "*" for statement in policy.statements for one in statement.resources)
    if about or "aws:requestedregion" in text or "kms:multiregion" in text:
        found.append("key")
    if "aws:resourcetag/" in text:
        found.append("tags")
    if "kms:resourcealiases" in text:
        found.append("aliases")
    if _depends_on_organization(policy, text):
        found.append("organization")
    return tuple(found)


def denies(policy: Policy) -> Denies:
    """What its Deny statements can do to grants."""
    refusing = [statement for statement in policy.statements if statement.effect == "Deny"]
    if not refusing:
        return Denies.NOTHING
    text = _conditions(refusing)
    named = any(
        ":assumed-role/" in one.value or ":federated-user/" in one.value
        for statement in refusing
        for one in statement.principals
    )
    if named or any(key in text for key in (*_SESSION_KEYS, *_CONSTRAINT_KEYS)):
        return Denies.EACH
    return Denies.ALIKE


def organization_key(policy: Policy, key_facts: KeyFacts, organization: Organization) -> tuple[Hashable, ...]:
    """What of the organization a policy's analysis depends on; names and who is a known party are no part of it."""
    text = _conditions(policy.statements)
    if not _depends_on_organization(policy, text):
        return ()
    mentioned = {key_facts.account}
    for statement in policy.statements:
        for named in statement.principals:
            mentioned.update(_ACCOUNT.findall(named.value))
    mentioned.update(_ACCOUNT.findall(text))
    found: list[Hashable] = [
        organization.organization_id,
        bool(organization.accounts),
        tuple(sorted(mentioned & organization.accounts)),
    ]
    if _patterns(policy):
        found.append(tuple(sorted(organization.accounts)))
    if "orgpaths" in text:
        found.append(tuple(sorted(organization.organization_paths.items())))
    return tuple(found)


def _depends_on_organization(policy: Policy, text: str) -> bool:
    everyone = any(
        statement.effect == "Allow"
        and (statement.principal_kind == "NotPrincipal" or any(one.value == "*" for one in statement.principals))
        for statement in policy.statements
    )
    return everyone or "org" in text


def _patterns(policy: Policy) -> bool:
    """Whether a condition speaks of accounts by a pattern."""
    return any(
        str(key).lower() in _ACCOUNT_KEYS
        and any(wild(str(one)) for one in (value if isinstance(value, list) else [value]))
        for statement in policy.statements
        for block in statement.conditions.values()
        if isinstance(block, dict)
        for key, value in block.items()
    )


def _conditions(statements: tuple[Statement, ...] | list[Statement]) -> str:
    return str([statement.conditions for statement in statements if statement.conditions]).lower()

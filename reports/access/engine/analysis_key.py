"""The inputs of an analysis besides the policy text: they decide which keys and grants share one, and when to redo it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Hashable, Iterator
from decimal import Decimal
from enum import StrEnum

from reports.access.engine.condition_operators import parse_timestamp
from reports.access.engine.model import KeyFacts, Organization
from reports.access.engine.policy_parser import Policy, Statement
from reports.access.engine.principals import mentioned_accounts
from reports.access.engine.wildcards import has_wildcard

ENGINE = "4"
"""The version of the engine. Increase it with every change of its results: other versions' results are recomputed."""

ACCOUNT_KEYS = frozenset(
    {"kms:calleraccount", "aws:principalaccount", "aws:principalarn", "aws:userid", "aws:vpceaccount"}
)
"""Condition keys whose values name accounts."""
_TIME_KEYS = ("aws:currenttime", "aws:epochtime")
_SESSION_KEYS = ("aws:userid", "aws:username", "${")
_CONSTRAINT_KEYS = ("kms:encryptioncontext", "aws:sourcearn", "${")


class DenyScope(StrEnum):
    """How the Deny statements of a key policy affect grants."""

    NONE = ""
    """The policy has no Deny statements."""
    PER_SHAPE = "alike"
    """All grants of the same shape are affected alike."""
    PER_GRANT = "each"
    """Deny statements can distinguish sessions or encryption contexts."""


def cache_key(policy: Policy, key_facts: KeyFacts) -> tuple[Hashable, ...]:
    """Return the facts about a key that its policy depends on: equal policies with equal cache keys have equal analyses."""
    partition = key_facts.arn.partition(":")[2].partition(":")[0]
    inputs: list[Hashable] = [key_facts.account, key_facts.manager == "AWS", partition]
    inputs += [key_facts.key_spec, key_facts.key_usage]
    inputs_of_context = context_inputs(policy)
    if "key" in inputs_of_context:
        inputs.append(key_facts.arn)
    if "tags" in inputs_of_context:
        inputs.append(None if key_facts.tags is None else tuple(sorted(key_facts.tags.items())))
    if "aliases" in inputs_of_context:
        inputs.append(key_facts.aliases)
    if "kms:keyorigin" in _conditions(policy.statements):
        inputs.append(key_facts.origin)
    return tuple(inputs)


def context_inputs(policy: Policy) -> tuple[str, ...]:
    """Return what a policy depends on: key (its ARN), tags, aliases (the key's), organization (its accounts), time."""
    text = _conditions(policy.statements)
    inputs = []
    names_key = any(resource != "*" for statement in policy.statements for resource in statement.resources)
    if names_key or "aws:requestedregion" in text or "kms:multiregion" in text:
        inputs.append("key")
    if "aws:resourcetag/" in text:
        inputs.append("tags")
    if "kms:resourcealiases" in text or "kms:requestalias" in text:
        inputs.append("aliases")
    if _depends_on_organization(policy, text):
        inputs.append("organization")
    if any(key in text for key in _TIME_KEYS):
        inputs.append("time")
    return tuple(inputs)


def deny_scope(policy: Policy) -> DenyScope:
    """Return how the Deny statements of a policy affect grants."""
    denies = [statement for statement in policy.statements if statement.effect == "Deny"]
    if not denies:
        return DenyScope.NONE
    text = _conditions(denies)
    named = any(
        ":assumed-role/" in principal.value or ":federated-user/" in principal.value
        for statement in denies
        for principal in statement.principals
    )
    if named or any(key in text for key in (*_SESSION_KEYS, *_CONSTRAINT_KEYS)):
        return DenyScope.PER_GRANT
    return DenyScope.PER_SHAPE


def organization_key(policy: Policy, key_facts: KeyFacts, organization: Organization) -> tuple[Hashable, ...]:
    """Return the facts about the organization, and the time, that a policy's analysis depends on."""
    text = _conditions(policy.statements)
    past = _past(policy, organization.now)
    if not _depends_on_organization(policy, text):
        return past
    mentioned = {key_facts.account}
    for statement in policy.statements:
        for named in statement.principals:
            mentioned.update(mentioned_accounts(named.value))
    mentioned.update(mentioned_accounts(text))
    inputs: list[Hashable] = [
        *past,
        organization.organization_id,
        bool(organization.accounts),
        tuple(sorted(mentioned & organization.accounts)),
    ]
    if any(map(has_wildcard, _compared(policy, ACCOUNT_KEYS))):
        inputs.append(tuple(sorted(organization.accounts)))
    if "orgpaths" in text:
        inputs.append(tuple(sorted(organization.organization_paths.items())))
    return tuple(inputs)


def _past(policy: Policy, now: dt.datetime | None) -> tuple[Hashable, ...]:
    """Return how many of the times that conditions name are past; nothing without such conditions."""
    times = [time for text in _compared(policy, _TIME_KEYS) if (time := parse_timestamp(text)) is not None]
    return (sum(time <= Decimal(now.timestamp()) for time in times),) if now is not None and times else ()


def _depends_on_organization(policy: Policy, text: str) -> bool:
    everyone = any(
        statement.effect == "Allow"
        and (
            statement.principal_kind == "NotPrincipal"
            or any(principal.value == "*" for principal in statement.principals)
        )
        for statement in policy.statements
    )
    return everyone or "org" in text


def _compared(policy: Policy, keys: Collection[str]) -> Iterator[str]:
    """Yield the values that conditions compare the keys with."""
    for statement in policy.statements:
        for block in statement.conditions.values():
            for key, value in block.items() if isinstance(block, dict) else ():
                if str(key).strip().lower() in keys:
                    yield from map(str, value if isinstance(value, list) else [value])


def _conditions(statements: tuple[Statement, ...] | list[Statement]) -> str:
    return str([statement.conditions for statement in statements if statement.conditions]).lower()

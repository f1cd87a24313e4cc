"""Whether somebody of a vendor's can do on a key what the profile asks, and what more. Pure: policies in, answers out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from reports.access.engine.evaluator import allowed
from reports.access.engine.kms_actions import ALL, BY_POLICY_MASK, CROSS_ACCOUNT_MASK, matching, names, supported
from reports.access.engine.model import Decision, Effect, KeyFacts, Organization
from reports.access.engine.policy_parser import Named, Policy, Statement, parse

_EVERY_KEY = frozenset({"*", "arn:*:kms:*:*:*", "arn:*:kms:*:*:key/*", "arn:aws:kms:*:*:*", "arn:aws:kms:*:*:key/*"})


class Outcome(StrEnum):
    """What is known about one need."""

    MET = "met"
    REFUSED = "refused"
    """The key policy does not let the caller in."""
    NOT_GIVEN = "not_given"
    """The key policy leaves it to IAM, and the role's own policies do not allow it."""
    NARROWED = "narrowed"
    """Only calls with something that the profile does not say they carry are let in."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: any principal of an account, or a role with its policies (None: not known) and tags."""

    principal: str
    account: str
    is_role: bool = False
    identity: Policy | None = None
    boundary: Policy | None = None
    tags: Mapping[str, str] = field(default_factory=dict, hash=False)
    unknown: str = ""
    """Why the role's policies are not known."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One need on one key: the outcome, the operations that it is about, the statement that decides, and why."""

    outcome: Outcome
    operations: tuple[str, ...] = ()
    via: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Operations that a caller must be able to do, in calls that carry these condition keys."""

    actions: tuple[str, ...]
    conditions: Mapping[str, str] = field(default_factory=dict, hash=False)
    judge_iam: bool = False


@dataclass(frozen=True, slots=True)
class Under:
    """The policy that is judged, the key that it is on, and the organization around."""

    policy: Policy
    key: KeyFacts
    organization: Organization


def identity_policy(texts: Iterable[str | None], role_arn: str) -> Policy | None:
    """The identity policies of a role as one policy whose statements speak of that role; None when one is not known."""
    statements: list[Statement] = []
    readable = True
    for text in texts:
        if text is None:
            return None
        policy = parse(text)
        readable = readable and policy.readable
        # Several documents become one: those of before 2012-10-17 know no variables, which no vendor's policy relies on.
        statements += (
            replace(
                statement,
                position=len(statements) + offset,
                principal_kind="Principal",
                principals=(Named("AWS", role_arn),),
                resources=tuple("*" if one in _EVERY_KEY else one for one in statement.resources),
            )
            for offset, statement in enumerate(policy.statements)
        )
    return Policy(readable, tuple(statements), "2012-10-17")


def judged(wanted: Wanted, caller: Caller, under: Under) -> Answer:
    """Whether the caller can do all that is wanted. The worst outcome of any operation is the answer."""
    found: dict[Outcome, list[tuple[str, str, str]]] = {}
    context = _context(wanted, caller)
    for operation in operations_on(wanted.actions, caller, under.key):
        answer = _one(operation, wanted, caller, under, context)
        found.setdefault(answer.outcome, []).append((operation, answer.via, answer.reason))
    for outcome in (Outcome.REFUSED, Outcome.NOT_GIVEN, Outcome.UNKNOWN, Outcome.NARROWED):
        if outcome in found:
            rows = found[outcome]
            return Answer(outcome, tuple(row[0] for row in rows), rows[0][1], rows[0][2])
    met = found.get(Outcome.MET, [])
    vias = dict.fromkeys(row[1] for row in met if row[1])
    return Answer(Outcome.MET, tuple(row[0] for row in met), ", ".join(vias))


def beyond(wanted: Iterable[Wanted], also: Iterable[str], caller: Caller, under: Under) -> Answer:
    """What the caller can do beyond what is wanted or tolerated; MET when there is nothing of the kind."""
    wanted = tuple(wanted)
    asked = 0
    for one in wanted:
        asked |= matching(one.actions)
    left = ALL & ~asked & ~matching(tuple(also))
    more: list[str] = []
    via: dict[str, None] = {}
    context = _context(Wanted((), judge_iam=True), caller)
    for operation in _reach(left, caller, under.key):
        answer = _one(operation, Wanted((), judge_iam=True), caller, under, context)
        if answer.outcome in {Outcome.MET, Outcome.NARROWED}:
            more.append(operation)
            via[answer.via] = None
    if more:
        return Answer(Outcome.REFUSED, tuple(more), ", ".join(via))
    for one in wanted:
        if not one.conditions:
            continue
        bare = Wanted(one.actions, judge_iam=one.judge_iam)
        free = [
            (operation, answer.via)
            for operation in operations_on(one.actions, caller, under.key)
            if (answer := _one(operation, bare, caller, under, context)).outcome is Outcome.MET
        ]
        if free:
            conditions = ", ".join(f"{name} is {value}" for name, value in one.conditions.items())
            return Answer(Outcome.NARROWED, tuple(name for name, _ in free), free[0][1], conditions)
    return Answer(Outcome.MET)


def operations_on(actions: tuple[str, ...], caller: Caller, key: KeyFacts) -> tuple[str, ...]:
    """The operations that actions mean for a caller on a key: those that a key policy decides and the key supports."""
    return _reach(matching(actions), caller, key)


def _reach(operations: int, caller: Caller, key: KeyFacts) -> tuple[str, ...]:
    operations &= BY_POLICY_MASK & supported(key.key_spec, key.key_usage)
    return names(operations if caller.account == key.account else operations & CROSS_ACCOUNT_MASK)


def _context(wanted: Wanted, caller: Caller) -> dict[str, str | tuple[str, ...]]:
    tags = {f"aws:principaltag/{name.lower()}": value for name, value in caller.tags.items()}
    return {**wanted.conditions, **tags}


def _one(
    operation: str,
    wanted: Wanted,
    caller: Caller,
    under: Under,
    context: Mapping[str, str | tuple[str, ...]],
) -> Answer:
    decision = allowed(under.policy, under.key, under.organization, caller.principal, operation, context)
    if decision.effect is Effect.UNKNOWN:
        return Answer(Outcome.UNKNOWN, (operation,), decision.source_id, decision.reason)
    if decision.effect is Effect.DENY:
        return _refused(operation, caller, under, decision, context)
    if caller.is_role and wanted.judge_iam:
        return _by_identity(operation, caller, under, decision, context)
    return Answer(Outcome.MET, (operation,), decision.source_id)


def _refused(
    operation: str,
    caller: Caller,
    under: Under,
    decision: Decision,
    context: Mapping[str, str | tuple[str, ...]],
) -> Answer:
    # A role's tags are its own: only what else a call may carry can make a difference.
    if not any(name.startswith("aws:principaltag/") for name in context):
        somehow = allowed(under.policy, under.key, under.organization, caller.principal, operation)
        if somehow.effect is Effect.ALLOW:
            carried = ", ".join(
                f"{name}={value}" for name, value in somehow.context.items() if context.get(name) != value
            )
            return Answer(Outcome.NARROWED, (operation,), somehow.source_id, carried)
    return Answer(Outcome.REFUSED, (operation,), decision.source_id, decision.reason)


def _by_identity(
    operation: str,
    caller: Caller,
    under: Under,
    decision: Decision,
    context: Mapping[str, str | tuple[str, ...]],
) -> Answer:
    """The key policy lets the role in. By name that is enough in its own account, unless its own policies deny."""
    if caller.identity is None:
        if not decision.needs_iam:
            return Answer(Outcome.MET, (operation,), decision.source_id)
        return Answer(Outcome.UNKNOWN, (operation,), decision.source_id, caller.unknown)
    own = allowed(caller.identity, under.key, under.organization, caller.principal, operation, context)
    if own.effect is Effect.DENY and (decision.needs_iam or own.source_id):
        return Answer(Outcome.NOT_GIVEN, (operation,), own.source_id, own.reason)
    if own.effect is Effect.UNKNOWN and decision.needs_iam:
        return Answer(Outcome.UNKNOWN, (operation,), own.source_id, own.reason)
    if caller.boundary is not None and decision.needs_iam:
        bound = allowed(caller.boundary, under.key, under.organization, caller.principal, operation, context)
        if bound.effect is not Effect.ALLOW:
            outcome = Outcome.NOT_GIVEN if bound.effect is Effect.DENY else Outcome.UNKNOWN
            return Answer(outcome, (operation,), "its permissions boundary", bound.reason)
    return Answer(Outcome.MET, (operation,), decision.source_id)

"""Evaluates whether a vendor's principal has the access to a key that a profile requires, and any excess access. Pure."""

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
    """The result for one need."""

    MET = "met"
    DENIED = "denied"
    """The key policy does not allow the caller."""
    NOT_ALLOWED = "not_allowed"
    """The key policy delegates to IAM, and the role's policies do not allow the operation."""
    CONDITIONAL = "conditional"
    """Only requests with context that the profile does not promise are allowed."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller: any principal of an account, or a role with its tags and policies (None if unknown)."""

    principal: str
    account: str
    is_role: bool = False
    identity: Policy | None = None
    boundary: Policy | None = None
    tags: Mapping[str, str] = field(default_factory=dict, hash=False)
    unknown: str = ""
    """Why the role's policies are unknown."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result for one need on one key: outcome, affected operations, deciding statement and reason."""

    outcome: Outcome
    operations: tuple[str, ...] = ()
    via: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class AccessRequirement:
    """Operations that must be allowed to a caller, in requests with these condition keys."""

    actions: tuple[str, ...]
    conditions: Mapping[str, str] = field(default_factory=dict, hash=False)
    include_iam: bool = False


@dataclass(frozen=True, slots=True)
class EvaluationContext:
    """The policy to evaluate, its key, and the organization."""

    policy: Policy
    key: KeyFacts
    organization: Organization


def identity_policy(texts: Iterable[str | None], role_arn: str) -> Policy | None:
    """The identity policies of a role merged into one policy with that role as principal; None if one is unknown."""
    statements: list[Statement] = []
    readable = True
    for text in texts:
        if text is None:
            return None
        policy = parse(text)
        readable = readable and policy.readable
        # The merged policy has version 2012-10-17. Earlier versions lack policy variables, which vendors' policies do not use.
        statements += (
            replace(
                statement,
                position=len(statements) + offset,
                principal_kind="Principal",
                principals=(Named("AWS", role_arn),),
                resources=tuple("*" if resource in _EVERY_KEY else resource for resource in statement.resources),
            )
            for offset, statement in enumerate(policy.statements)
        )
    return Policy(readable, tuple(statements), "2012-10-17")


def evaluate_access(requirement: AccessRequirement, caller: Caller, evaluation: EvaluationContext) -> Evaluation:
    """Whether the caller has the required access: the worst outcome of its operations."""
    by_outcome: dict[Outcome, list[tuple[str, str, str]]] = {}
    context = _context(requirement, caller)
    for operation in operations_on(requirement.actions, caller, evaluation.key):
        result = _evaluate_operation(operation, requirement, caller, evaluation, context)
        by_outcome.setdefault(result.outcome, []).append((operation, result.via, result.reason))
    for outcome in (Outcome.DENIED, Outcome.NOT_ALLOWED, Outcome.UNKNOWN, Outcome.CONDITIONAL):
        if outcome in by_outcome:
            rows = by_outcome[outcome]
            return Evaluation(outcome, tuple(row[0] for row in rows), rows[0][1], rows[0][2])
    met = by_outcome.get(Outcome.MET, [])
    vias = dict.fromkeys(row[1] for row in met if row[1])
    return Evaluation(Outcome.MET, tuple(row[0] for row in met), ", ".join(vias))


def excess_permissions(
    requirements: Iterable[AccessRequirement], also: Iterable[str], caller: Caller, evaluation: EvaluationContext
) -> Evaluation:
    """The access of the caller that is neither required nor tolerated; MET if there is none."""
    requirements = tuple(requirements)
    required = 0
    for requirement in requirements:
        required |= matching(requirement.actions)
    remaining = ALL & ~required & ~matching(tuple(also))
    excess: list[str] = []
    via: dict[str, None] = {}
    context = _context(AccessRequirement((), include_iam=True), caller)
    for operation in _effective_operations(remaining, caller, evaluation.key):
        result = _evaluate_operation(operation, AccessRequirement((), include_iam=True), caller, evaluation, context)
        if result.outcome in {Outcome.MET, Outcome.CONDITIONAL}:
            excess.append(operation)
            via[result.via] = None
    if excess:
        return Evaluation(Outcome.DENIED, tuple(excess), ", ".join(via))
    for requirement in requirements:
        if not requirement.conditions:
            continue
        unconditional = AccessRequirement(requirement.actions, include_iam=requirement.include_iam)
        unrestricted = [
            (operation, result.via)
            for operation in operations_on(requirement.actions, caller, evaluation.key)
            if (result := _evaluate_operation(operation, unconditional, caller, evaluation, context)).outcome
            is Outcome.MET
        ]
        if unrestricted:
            conditions = ", ".join(f"{name} is {value}" for name, value in requirement.conditions.items())
            return Evaluation(
                Outcome.CONDITIONAL, tuple(name for name, _ in unrestricted), unrestricted[0][1], conditions
            )
    return Evaluation(Outcome.MET)


def operations_on(actions: tuple[str, ...], caller: Caller, key: KeyFacts) -> tuple[str, ...]:
    """The operations of actions that apply to a caller on a key: controlled by key policy and supported by the key."""
    return _effective_operations(matching(actions), caller, key)


def _effective_operations(operations: int, caller: Caller, key: KeyFacts) -> tuple[str, ...]:
    operations &= BY_POLICY_MASK & supported(key.key_spec, key.key_usage)
    return names(operations if caller.account == key.account else operations & CROSS_ACCOUNT_MASK)


def _context(requirement: AccessRequirement, caller: Caller) -> dict[str, str | tuple[str, ...]]:
    tags = {f"aws:principaltag/{name.lower()}": value for name, value in caller.tags.items()}
    return {**requirement.conditions, **tags}


def _evaluate_operation(
    operation: str,
    requirement: AccessRequirement,
    caller: Caller,
    evaluation: EvaluationContext,
    context: Mapping[str, str | tuple[str, ...]],
) -> Evaluation:
    decision = allowed(evaluation.policy, evaluation.key, evaluation.organization, caller.principal, operation, context)
    if decision.effect is Effect.UNKNOWN:
        return Evaluation(Outcome.UNKNOWN, (operation,), decision.source_id, decision.reason)
    if decision.effect is Effect.DENY:
        return _denied(operation, caller, evaluation, decision, context)
    if caller.is_role and requirement.include_iam:
        return _by_identity(operation, caller, evaluation, decision, context)
    return Evaluation(Outcome.MET, (operation,), decision.source_id)


def _denied(
    operation: str,
    caller: Caller,
    evaluation: EvaluationContext,
    decision: Decision,
    context: Mapping[str, str | tuple[str, ...]],
) -> Evaluation:
    # A role's tags are fixed: only other request context can make a difference.
    if not any(name.startswith("aws:principaltag/") for name in context):
        with_any_context = allowed(
            evaluation.policy, evaluation.key, evaluation.organization, caller.principal, operation
        )
        if with_any_context.effect is Effect.ALLOW:
            required_context = ", ".join(
                f"{name}={value}" for name, value in with_any_context.context.items() if context.get(name) != value
            )
            return Evaluation(Outcome.CONDITIONAL, (operation,), with_any_context.source_id, required_context)
    return Evaluation(Outcome.DENIED, (operation,), decision.source_id, decision.reason)


def _by_identity(
    operation: str,
    caller: Caller,
    evaluation: EvaluationContext,
    decision: Decision,
    context: Mapping[str, str | tuple[str, ...]],
) -> Evaluation:
    """The result for a role that the key policy allows: its own policies matter if the key policy delegates to IAM, or deny."""
    if caller.identity is None:
        if not decision.needs_iam:
            return Evaluation(Outcome.MET, (operation,), decision.source_id)
        return Evaluation(Outcome.UNKNOWN, (operation,), decision.source_id, caller.unknown)
    own = allowed(caller.identity, evaluation.key, evaluation.organization, caller.principal, operation, context)
    if own.effect is Effect.DENY and (decision.needs_iam or own.source_id):
        return Evaluation(Outcome.NOT_ALLOWED, (operation,), own.source_id, own.reason)
    if own.effect is Effect.UNKNOWN and decision.needs_iam:
        return Evaluation(Outcome.UNKNOWN, (operation,), own.source_id, own.reason)
    if caller.boundary is not None and decision.needs_iam:
        bound = allowed(caller.boundary, evaluation.key, evaluation.organization, caller.principal, operation, context)
        if bound.effect is not Effect.ALLOW:
            outcome = Outcome.NOT_ALLOWED if bound.effect is Effect.DENY else Outcome.UNKNOWN
            return Evaluation(outcome, (operation,), "its permissions boundary", bound.reason)
    return Evaluation(Outcome.MET, (operation,), decision.source_id)

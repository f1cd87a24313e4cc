"""Evaluates the needs of a profile on keys: for each need its caller and outcome, and excess access of callers and others.

Equal policies on equivalent keys are evaluated once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from itertools import chain

from reports.access.engine.analysis_key import cache_key
from reports.access.engine.evaluator import allowed
from reports.access.engine.kms_actions import ALL, BY_POLICY_MASK, CROSS_ACCOUNT_MASK, matching, names, supported
from reports.access.engine.model import Access, Decision, Effect, KeyFacts, Organization
from reports.access.engine.policy_analysis import analyse_policy
from reports.access.engine.policy_parser import Named, Policy, parse
from reports.access.engine.principals import classify
from reports.vendors.assignments import ProfileAssignment
from reports.vendors.profile import Need
from reports.vendors.queries import Facts, KeyRow, RoleRow
from reports.vendors.role_check import Roles

_EVERY_KEY = re.compile(r"\*|arn:(\*|[a-z-]+):kms:\*:\*:(\*|key/\*)")
_EXTERNAL_ACCESS = frozenset({Access.EXTERNAL, Access.PUBLIC, Access.PUBLIC_VIA_SERVICE, Access.VENDOR})
_TAG = "aws:principaltag/"


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


_WORST_FIRST = (Outcome.DENIED, Outcome.NOT_ALLOWED, Outcome.UNKNOWN, Outcome.CONDITIONAL, Outcome.MET)


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller: any principal of an account, or a role with its tags and policies (None if unknown)."""

    principal: str
    account: str
    is_role: bool = False
    identity: Policy | None = None
    boundary: Policy | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    unknown: str = ""
    """Why the role's policies are unknown."""

    def __str__(self) -> str:
        if not self.is_role:
            return f"account {self.account}"
        return f"role {self.principal.rpartition('/')[2]} of account {self.account}"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The outcome for one need on one key, with affected operations, deciding statement and reason."""

    outcome: Outcome
    operations: tuple[str, ...] = ()
    via: str = ""
    reason: str = ""


EvaluatedNeed = tuple[Need, Caller, Evaluation]


class AccessCheck:
    """Evaluates the needs of one profile assignment."""

    def __init__(self, assignment: ProfileAssignment, facts: Facts, roles: Roles) -> None:
        self.assignment = assignment
        self.facts = facts
        self.roles = roles
        self._cache: dict[Hashable, Evaluation] = {}
        self._of_role: dict[str, Caller] = {}
        self._external: dict[Hashable, tuple[str, ...]] = {}

    def evaluate(self, key: KeyRow, policy_hash: str) -> list[EvaluatedNeed]:
        """The needs under the key's current policy or an earlier one; of a need's callers the first, unless another meets it."""
        # The callers come first: they load the policies that decide which of the key's tags matter.
        callers = [self._callers(need, key) for need in self.assignment.profile.needs]
        request = self._request(key, policy_hash)
        evaluated = []
        for position, need in enumerate(self.assignment.profile.needs):
            results = [
                (need, caller, self._cached(request, (position, policy_hash), caller, partial(request.evaluate, need)))
                for caller in callers[position]
            ]
            evaluated.append((with_outcome(results, Outcome.MET) or results[:1])[-1])
        return evaluated

    def excess(self, key: KeyRow, policy_hash: str, needs: Sequence[Need], caller: Caller) -> Evaluation:
        """The access of one caller beyond its needs; MET if there is none."""
        request = self._request(key, policy_hash)
        return self._cached(request, ("excess", policy_hash), caller, partial(request.excess, needs))

    def _request(self, key: KeyRow, policy_hash: str) -> _Request:
        policy = self.facts.policy(policy_hash)
        return _Request(policy, self._key_facts(key, policy), self.facts.organization)

    def _cached(
        self, request: _Request, name: Hashable, caller: Caller, evaluate: Callable[[Caller], Evaluation]
    ) -> Evaluation:
        """The evaluation for a caller: once for all keys with the same result under the same policy."""
        own = None if caller.identity is None else cache_key(caller.identity, request.key)
        cached = (name, caller.principal, cache_key(request.policy, request.key), own)
        if cached not in self._cache:
            self._cache[cached] = evaluate(caller)
        return self._cache[cached]

    def external_access(self, key: KeyRow, policy_hash: str, vendors: set[str]) -> tuple[str, ...]:
        """Sentences about external parties other than the vendor that the policy or a grant allows."""
        request = self._request(key, policy_hash)
        cached = (policy_hash, cache_key(request.policy, request.key))
        if cached not in self._external:
            verdicts = analyse_policy(request.policy, request.key, request.organization).verdicts
            external = (row for row in verdicts if row.access in _EXTERNAL_ACCESS and row.account not in vendors)
            self._external[cached] = tuple(dict.fromkeys(verdict.message for verdict in external))
        known_accounts = {None, *self.facts.organization.accounts, *vendors, key.account_id}
        granted = [
            f"Grant {grant['name']} allows {grant['grantee_principal']} to use it."
            for grant in self.facts.rows("grants", key_arn=key.key_arn)
            if classify(Named("AWS", grant["grantee_principal"])).account not in known_accounts
        ]
        return (*self._external[cached], *granted)

    def role_of(self, caller: Caller) -> RoleRow | None:
        """The role of a caller, or None if the ledger does not have it."""
        roles = self.roles.named(caller.account)
        return next((role for role in roles if role.arn == caller.principal), None)

    def _callers(self, need: Need, key: KeyRow) -> list[Caller]:
        if need.account:
            account = self.assignment.text(need.account)
            return [Caller(account, account)]
        account = self.assignment.text(need.role_account) or key.account_id
        name = self.assignment.text(need.role)
        rows = self.roles.of(name, account) if need.iam or name else []
        if need.iam and rows:
            return [self._caller(role) for role in rows]
        known, why = self.facts.iam(account)
        missing = f"Account {account} has no role {name or 'that trusts the vendor'}."
        return [
            Caller(
                rows[0].arn if rows else f"arn:{key.partition}:iam::{account}:role/{name or 'vendor'}",
                account,
                is_role=True,
                identity=Policy(readable=True) if known and need.iam else None,  # a missing role has no permissions
                tags=rows[0].tags if rows else dict(need.role_tags),
                unknown=missing if known else f"the role's policies in account {account} could not be read: {why}",
            )
        ]

    def _caller(self, role: RoleRow) -> Caller:
        if role.arn not in self._of_role:
            identity = identity_policy(role.policies, role.arn)
            boundary = identity_policy(role.boundary, role.arn) if role.boundary else None
            unknown = "" if identity is not None else f"a policy of role {role.name} could not be read"
            self._of_role[role.arn] = Caller(role.arn, role.account_id, True, identity, boundary, role.tags, unknown)
        return self._of_role[role.arn]

    def _key_facts(self, key: KeyRow, policy: Policy) -> KeyFacts:
        """The key as input of the access engine: only with tags that policies reference, so that keys stay equivalent."""
        tags = key.tags
        if tags is not None:
            policies = [policy, *(caller.identity for caller in self._of_role.values() if caller.identity is not None)]
            referenced = {
                name.lower().removeprefix("aws:resourcetag/")
                for document in policies
                for statement in document.statements
                for name in statement.condition_keys
            }
            tags = {name: value for name, value in tags.items() if name.lower() in referenced}
        return KeyFacts(
            key.key_arn, key.account_id, "CUSTOMER", tags, tuple(key.aliases), key.key_spec, key.key_usage, key.origin
        )


@dataclass(frozen=True, slots=True)
class _Request:
    """Requests on one key under one policy."""

    policy: Policy
    key: KeyFacts
    organization: Organization

    def evaluate(self, need: Need, caller: Caller) -> Evaluation:
        """Whether the caller has the required access: the worst outcome of its operations."""
        context = {**need.conditions, **_tags(caller)}
        results = self._results(matching(need.actions), caller, context, iam=need.iam)
        worst = min((result.outcome for result in results), key=_WORST_FIRST.index, default=Outcome.MET)
        results = [result for result in results if result.outcome is worst]
        merged = _merged(worst, results)
        return merged if worst is Outcome.MET else replace(merged, via=results[0].via, reason=results[0].reason)

    def excess(self, needs: Sequence[Need], caller: Caller) -> Evaluation:
        """The access of the caller that is neither required nor tolerated; MET if there is none."""
        context = _tags(caller)
        wanted = matching(tuple(action for need in needs for action in (*need.actions, *need.also)))
        results = self._results(ALL & ~wanted, caller, context, iam=True)
        if excess := [result for result in results if result.outcome in {Outcome.MET, Outcome.CONDITIONAL}]:
            return _merged(Outcome.DENIED, excess)
        for need in needs:
            operations = matching(need.actions) if need.conditions else 0
            results = self._results(operations, caller, context, iam=need.iam)
            if unrestricted := [result for result in results if result.outcome is Outcome.MET]:
                conditions = ", ".join(f"{name} is {value}" for name, value in need.conditions.items())
                merged = _merged(Outcome.CONDITIONAL, unrestricted)
                return replace(merged, via=unrestricted[0].via, reason=conditions)
        return Evaluation(Outcome.MET)

    def _results(self, operations: int, caller: Caller, context: Mapping[str, str], *, iam: bool) -> list[Evaluation]:
        """The results of the operations that apply to a caller on the key: controlled by key policy and supported by the key."""
        operations &= BY_POLICY_MASK & supported(self.key.key_spec, self.key.key_usage)
        if caller.account != self.key.account:
            operations &= CROSS_ACCOUNT_MASK
        return [self._operation(operation, caller, context, iam=iam) for operation in names(operations)]

    def _allowed(
        self, policy: Policy, caller: Caller, operation: str, context: Mapping[str, str] | None = None
    ) -> Decision:
        bounded = caller.boundary is not None
        return allowed(policy, self.key, self.organization, caller.principal, operation, context, has_boundary=bounded)

    def _operation(self, operation: str, caller: Caller, context: Mapping[str, str], *, iam: bool) -> Evaluation:
        decision = self._allowed(self.policy, caller, operation, context)
        outcome, via, reason = Outcome.MET, decision.source_id, ""
        if decision.effect is Effect.UNKNOWN:
            outcome, reason = Outcome.UNKNOWN, decision.reason
        elif decision.effect is Effect.DENY:
            outcome, reason = Outcome.DENIED, decision.reason
            # A role's tags are fixed: only other request context can make a difference.
            if not any(name.startswith(_TAG) for name in context):
                other = self._allowed(self.policy, caller, operation)
                if other.effect is Effect.ALLOW:
                    missing = (f"{name}={value}" for name, value in other.context.items() if context.get(name) != value)
                    outcome, via, reason = Outcome.CONDITIONAL, other.source_id, ", ".join(missing)
        elif caller.is_role and iam:
            return self._by_identity(operation, caller, decision, context)
        return Evaluation(outcome, (operation,), via, reason)

    def _by_identity(
        self, operation: str, caller: Caller, decision: Decision, context: Mapping[str, str]
    ) -> Evaluation:
        """The result for a role that the key policy allows: its own policies matter if the key policy delegates, or deny."""
        met = Evaluation(Outcome.MET, (operation,), decision.source_id)
        if caller.identity is None:
            return replace(met, outcome=Outcome.UNKNOWN, reason=caller.unknown) if decision.needs_iam else met
        own = self._allowed(caller.identity, caller, operation, context)
        if own.effect is Effect.DENY and (decision.needs_iam or own.source_id):
            return Evaluation(Outcome.NOT_ALLOWED, (operation,), own.source_id, own.reason)
        if not decision.needs_iam:
            return met
        if own.effect is Effect.UNKNOWN:
            return Evaluation(Outcome.UNKNOWN, (operation,), own.source_id, own.reason)
        if caller.boundary is not None:
            bound = self._allowed(caller.boundary, caller, operation, context)
            if bound.effect is not Effect.ALLOW:
                outcome = Outcome.NOT_ALLOWED if bound.effect is Effect.DENY else Outcome.UNKNOWN
                return Evaluation(outcome, (operation,), "its permissions boundary", bound.reason)
        return met


def with_outcome(needs: Iterable[EvaluatedNeed], *outcomes: Outcome) -> list[EvaluatedNeed]:
    """The needs with one of these outcomes."""
    return [evaluated for evaluated in needs if evaluated[2].outcome in outcomes]


def _merged(outcome: Outcome, results: Sequence[Evaluation]) -> Evaluation:
    """The operations of several results, and their statements."""
    vias = dict.fromkeys(result.via for result in results if result.via)
    return Evaluation(outcome, tuple(name for result in results for name in result.operations), ", ".join(vias))


def identity_policy(texts: Sequence[str | None], role_arn: str) -> Policy | None:
    """The identity policies of a role merged into one policy with that role as principal; None if one is unknown."""
    policies = [parse(text) for text in texts if text is not None]
    if len(policies) < len(texts):
        return None
    statements = (
        replace(
            statement,
            position=position,
            principal_kind="Principal",
            principals=(Named("AWS", role_arn),),
            resources=tuple("*" if _EVERY_KEY.fullmatch(resource) else resource for resource in statement.resources),
        )
        for position, statement in enumerate(chain.from_iterable(policy.statements for policy in policies))
    )
    # Earlier versions than 2012-10-17 lack policy variables, which vendors' policies do not use.
    return Policy(all(policy.readable for policy in policies), tuple(statements), "2012-10-17")


def _tags(caller: Caller) -> dict[str, str]:
    return {f"{_TAG}{name.lower()}": value for name, value in caller.tags.items()}

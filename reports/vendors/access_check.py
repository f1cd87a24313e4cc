"""Evaluates the needs of a profile on keys: for each need its caller and outcome, and excess access of callers and others.

Equal policies on equivalent keys are evaluated once.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from reports.access.engine.analysis_key import cache_key
from reports.access.engine.evaluator import allowed
from reports.access.engine.kms_actions import ALL, BY_POLICY_MASK, CROSS_ACCOUNT_MASK, matching, names, supported
from reports.access.engine.model import Access, Decision, Effect, KeyFacts
from reports.access.engine.policy_analysis import analyse_policy
from reports.access.engine.policy_parser import Named, Policy, Statement, parse
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


_WORST_FIRST = (Outcome.DENIED, Outcome.NOT_ALLOWED, Outcome.UNKNOWN, Outcome.CONDITIONAL)


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


@dataclass(slots=True)
class AccessCheck:
    """Evaluates the needs of one profile assignment."""

    assignment: ProfileAssignment
    facts: Facts
    roles: Roles
    _cache: dict[Hashable, Evaluation] = field(default_factory=dict)
    _identities: dict[str, tuple[Policy | None, Policy | None]] = field(default_factory=dict)
    _external: dict[Hashable, tuple[str, ...]] = field(default_factory=dict)

    def evaluate(self, key: KeyRow, policy_hash: str) -> list[EvaluatedNeed]:
        """The needs under the key's current policy or an earlier one; of a need's callers the last, unless one meets it."""
        policy = self.facts.policy(policy_hash)
        callers = [self._callers(need, key) for need in self.assignment.profile.needs]
        request = _Request(self, key, policy)
        evaluated = []
        for position, need in enumerate(self.assignment.profile.needs):
            best: EvaluatedNeed | None = None
            for caller in callers[position]:
                cached = (position, policy_hash, request.equivalence_key(caller))
                if cached not in self._cache:
                    self._cache[cached] = request.evaluate(need, caller)
                if best is None or self._cache[cached].outcome is Outcome.MET:
                    best = need, caller, self._cache[cached]
            evaluated += [best] if best is not None else []
        return evaluated

    def excess(self, key: KeyRow, policy_hash: str, needs: Sequence[Need], caller: Caller) -> Evaluation:
        """The access of one caller beyond its needs; MET if there is none."""
        request = _Request(self, key, self.facts.policy(policy_hash))
        cached = ("excess", policy_hash, request.equivalence_key(caller))
        if cached not in self._cache:
            self._cache[cached] = request.excess(needs, caller)
        return self._cache[cached]

    def external_access(self, key: KeyRow, policy_hash: str, vendors: set[str]) -> tuple[str, ...]:
        """Sentences about external parties other than the vendor that the policy or a grant allows."""
        policy = self.facts.policy(policy_hash)
        key_facts = self.key_facts(key, policy)
        cached = (policy_hash, cache_key(policy, key_facts))
        if cached not in self._external:
            verdicts = analyse_policy(policy, key_facts, self.facts.organization).verdicts
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
        if role.arn not in self._identities:
            boundary = role.texts(boundary=True)
            self._identities[role.arn] = (
                identity_policy(role.texts(boundary=False), role.arn),
                identity_policy(boundary, role.arn) if boundary else None,
            )
        identity, boundary_policy = self._identities[role.arn]
        unknown = "" if identity is not None else f"a policy of role {role.name} could not be read"
        return Caller(role.arn, role.account_id, True, identity, boundary_policy, role.tags, unknown)

    def key_facts(self, key: KeyRow, policy: Policy) -> KeyFacts:
        """The key as input of the access engine: only with tags that policies reference, so that keys stay equivalent."""
        tags = key.tags
        if tags is not None:
            policies = [policy, *(identity for identity, _ in self._identities.values() if identity is not None)]
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


class _Request:
    """Requests on one key under one policy."""

    def __init__(self, check: AccessCheck, key: KeyRow, policy: Policy) -> None:
        self.policy = policy
        self.key = check.key_facts(key, policy)
        self.organization = check.facts.organization

    def equivalence_key(self, caller: Caller) -> Hashable:
        """A value that is equal for keys with the same results for a caller under the same policy."""
        own = None if caller.identity is None else cache_key(caller.identity, self.key)
        return caller.principal, cache_key(self.policy, self.key), own

    def evaluate(self, need: Need, caller: Caller) -> Evaluation:
        """Whether the caller has the required access: the worst outcome of its operations."""
        by_outcome: dict[Outcome, list[Evaluation]] = {}
        context = {**need.conditions, **_tags(caller)}
        for operation in self._operations(matching(need.actions), caller):
            result = self._operation(operation, caller, context, iam=need.iam)
            by_outcome.setdefault(result.outcome, []).append(result)
        for outcome in _WORST_FIRST:
            if rows := by_outcome.get(outcome):
                return replace(rows[0], operations=tuple(row.operations[0] for row in rows))
        met = by_outcome.get(Outcome.MET, [])
        vias = dict.fromkeys(row.via for row in met if row.via)
        return Evaluation(Outcome.MET, tuple(row.operations[0] for row in met), ", ".join(vias))

    def excess(self, needs: Sequence[Need], caller: Caller) -> Evaluation:
        """The access of the caller that is neither required nor tolerated; MET if there is none."""
        context = _tags(caller)
        wanted = matching(tuple(action for need in needs for action in (*need.actions, *need.also)))
        results = [self._operation(name, caller, context, iam=True) for name in self._operations(ALL & ~wanted, caller)]
        if excess := [result for result in results if result.outcome in {Outcome.MET, Outcome.CONDITIONAL}]:
            vias = dict.fromkeys(result.via for result in excess)
            return Evaluation(Outcome.DENIED, tuple(result.operations[0] for result in excess), ", ".join(vias))
        for need in needs:
            operations = self._operations(matching(need.actions), caller) if need.conditions else ()
            results = [self._operation(name, caller, context, iam=need.iam) for name in operations]
            if unrestricted := [result for result in results if result.outcome is Outcome.MET]:
                conditions = ", ".join(f"{name} is {value}" for name, value in need.conditions.items())
                unrestricted_names = tuple(result.operations[0] for result in unrestricted)
                return Evaluation(Outcome.CONDITIONAL, unrestricted_names, unrestricted[0].via, conditions)
        return Evaluation(Outcome.MET)

    def _operations(self, operations: int, caller: Caller) -> tuple[str, ...]:
        """The operations that apply to a caller on the key: controlled by key policy and supported by the key."""
        operations &= BY_POLICY_MASK & supported(self.key.key_spec, self.key.key_usage)
        return names(operations if caller.account == self.key.account else operations & CROSS_ACCOUNT_MASK)

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
                resources=tuple(
                    "*" if _EVERY_KEY.fullmatch(resource) else resource for resource in statement.resources
                ),
            )
            for offset, statement in enumerate(policy.statements)
        )
    return Policy(readable, tuple(statements), "2012-10-17")


def _tags(caller: Caller) -> dict[str, str]:
    return {f"{_TAG}{name.lower()}": value for name, value in caller.tags.items()}

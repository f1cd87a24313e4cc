"""Evaluates the needs of a profile on keys: for each need its caller and result, and excess access of callers and others.

Equal policies on equivalent keys are evaluated once.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from reports.access.engine.model import Access, KeyFacts
from reports.access.engine.policy_analysis import analyse_policy, cache_key
from reports.access.engine.policy_parser import Named, Policy
from reports.access.engine.principals import classify
from reports.vendors.access_check import (
    AccessRequirement,
    Caller,
    Evaluation,
    EvaluationContext,
    Outcome,
    evaluate_access,
    excess_permissions,
)
from reports.vendors.assignments import ProfileAssignment
from reports.vendors.profile import Need
from reports.vendors.queries import Facts, KeyRow, RoleRow
from reports.vendors.role_check import Roles, identities

_EXTERNAL_ACCESS = frozenset({Access.EXTERNAL, Access.PUBLIC, Access.PUBLIC_VIA_SERVICE, Access.VENDOR})
EvaluatedNeed = tuple[Need, Caller, Evaluation]


@dataclass(frozen=True, slots=True)
class Result:
    """The evaluated needs of a profile on one key under one policy."""

    needs: tuple[EvaluatedNeed, ...]

    def of(self, *outcomes: Outcome) -> list[EvaluatedNeed]:
        """The needs with one of these outcomes."""
        return [evaluated for evaluated in self.needs if evaluated[2].outcome in outcomes]


@dataclass(slots=True)
class Needs:
    """The needs of one profile assignment."""

    assignment: ProfileAssignment
    facts: Facts
    roles: Roles
    _cache: dict[Hashable, Evaluation] = field(default_factory=dict)
    _identities: dict[str, tuple[Policy | None, Policy | None]] = field(default_factory=dict)
    _external: dict[Hashable, tuple[str, ...]] = field(default_factory=dict)

    def result(self, key: KeyRow, policy: Policy, policy_hash: str | None = None) -> Result:
        """The evaluated needs under a policy: the key's current one, or with ``policy_hash`` an earlier one."""
        callers = [self._callers(need, key) for need in self.assignment.profile.needs]
        facts = self._key_facts(key, policy)
        evaluated = []
        for position, need in enumerate(self.assignment.profile.needs):
            best: tuple[Need, Caller, Evaluation] | None = None
            for caller in callers[position]:
                cached = (
                    position,
                    caller.principal,
                    policy_hash or key.policy_hash,
                    self._equivalence_key(policy, caller, facts),
                )
                if cached not in self._cache:
                    self._cache[cached] = evaluate_access(
                        _requirement(need), caller, EvaluationContext(policy, facts, self.facts.organization)
                    )
                evaluation = self._cache[cached]
                if best is None or evaluation.outcome is Outcome.MET:
                    best = (need, caller, evaluation)
            if best is not None:
                evaluated.append(best)
        return Result(tuple(evaluated))

    def _callers(self, need: Need, key: KeyRow) -> list[Caller]:
        if need.account:
            account = self.assignment.text(need.account)
            return [Caller(account, account)]
        account = self.assignment.text(need.role_account) or key.account_id
        name = self.assignment.text(need.role)
        partition = key.key_arn.split(":")[1]
        rows = self.roles.of(name, account) if need.iam or name else []
        tags = dict(need.role_tags)
        if not need.iam or not rows:
            known, why = self.facts.iam(account)
            missing = f"Account {account} has no role {name or 'that trusts the vendor'}."
            unknown = missing if known else f"the role's policies in account {account} could not be read: {why}"
            arn = rows[0].arn if rows else f"arn:{partition}:iam::{account}:role/{name or 'vendor'}"
            identity = Policy(readable=True) if known and need.iam else None  # a missing role has no permissions
            return [
                Caller(
                    arn, account, is_role=True, identity=identity, tags=rows[0].tags if rows else tags, unknown=unknown
                )
            ]
        return [self._caller(role) for role in rows]

    def _caller(self, role: RoleRow) -> Caller:
        if role.arn not in self._identities:
            self._identities[role.arn] = identities(role)
        identity, boundary = self._identities[role.arn]
        unknown = "" if identity is not None else f"a policy of role {role.name} could not be read"
        return Caller(
            role.arn,
            role.account_id,
            is_role=True,
            identity=identity,
            boundary=boundary,
            tags=role.tags,
            unknown=unknown,
        )

    def role_of(self, caller: Caller) -> RoleRow | None:
        """The role of a caller, or None if the ledger does not have it."""
        name = self.assignment.text(self.roles.role.name) if self.roles.role else ""
        return next((role for role in self.roles.of(name, caller.account) if role.arn == caller.principal), None)

    def _equivalence_key(self, policy: Policy, caller: Caller, facts: KeyFacts) -> Hashable:
        """A value that is equal for keys with the same results under the same policy."""
        own = None if caller.identity is None else cache_key(caller.identity, facts)
        return (cache_key(policy, facts), own)

    def _key_facts(self, key: KeyRow, policy: Policy) -> KeyFacts:
        tags = key.tags
        if tags is not None:  # only tags that policies reference, so that keys stay equivalent
            referenced = _tags_of(policy)
            for identity, _ in self._identities.values():
                referenced |= _tags_of(identity) if identity is not None else set()
            tags = {name: value for name, value in tags.items() if name.lower() in referenced}
        return KeyFacts(
            key.key_arn,
            key.account_id,
            "CUSTOMER",
            tags=tags,
            aliases=tuple(key.aliases),
            key_spec=key.key_spec,
            key_usage=key.key_usage,
            origin=key.origin,
        )

    def excess(self, key: KeyRow, policy: Policy, needs: list[tuple[Need, Caller]]) -> Evaluation:
        """The access of one caller beyond its needs."""
        facts, caller = self._key_facts(key, policy), needs[0][1]
        cached = ("excess", caller.principal, key.policy_hash, self._equivalence_key(policy, caller, facts))
        if cached not in self._cache:
            also = [action for need, _ in needs for action in need.also]
            requirements = [_requirement(need) for need, _ in needs]
            self._cache[cached] = excess_permissions(
                requirements, also, caller, EvaluationContext(policy, facts, self.facts.organization)
            )
        return self._cache[cached]

    def external_access(self, key: KeyRow, policy: Policy, vendors: set[str]) -> tuple[str, ...]:
        """Sentences about external parties other than the vendor that the policy or a grant allows."""
        facts = self._key_facts(key, policy)
        cached = (key.policy_hash, cache_key(policy, facts))
        if cached not in self._external:
            verdicts = analyse_policy(policy, facts, self.facts.organization).verdicts
            self._external[cached] = tuple(
                dict.fromkeys(
                    verdict.message
                    for verdict in verdicts
                    if verdict.access in _EXTERNAL_ACCESS and verdict.account not in vendors
                )
            )
        known_accounts = self.facts.organization.accounts | vendors | {key.account_id}
        granted = [
            f"Grant {grant.name or grant.grant_id} allows {grant.grantee_principal} to use it."
            for grant in self.facts.grants(key.key_arn)
            if grant.grantee_principal
            and (account := classify(Named("AWS", grant.grantee_principal)).account) is not None
            and account not in known_accounts
        ]
        return (*self._external[cached], *granted)


def _tags_of(policy: Policy) -> set[str]:
    """The key tags that a policy references, in lower case."""
    prefix = "aws:resourcetag/"
    condition_keys = (key.lower() for statement in policy.statements for key in statement.condition_keys)
    return {key.removeprefix(prefix) for key in condition_keys if key.startswith(prefix)}


def _requirement(need: Need) -> AccessRequirement:
    return AccessRequirement(need.actions, need.conditions, include_iam=need.iam)

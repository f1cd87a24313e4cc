"""The needs of a profile on keys: who calls, what the answers are, and what more the callers or others can do.

Equal policies on alike keys are judged once.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from reports.access.engine.model import Access, KeyFacts
from reports.access.engine.policy_analysis import analyse_policy, cache_key
from reports.access.engine.policy_parser import Named, Policy
from reports.access.engine.principals import classify
from reports.vendors.access_check import Answer, Caller, Outcome, Under, Wanted, beyond, judged
from reports.vendors.assignments import Use
from reports.vendors.profile import Need
from reports.vendors.queries import Facts, KeyRow, RoleRow
from reports.vendors.role_check import Roles, identities

_OUTSIDERS = frozenset({Access.EXTERNAL, Access.PUBLIC, Access.PUBLIC_VIA_SERVICE, Access.VENDOR})
Answered = tuple[Need, Caller, Answer]


@dataclass(frozen=True, slots=True)
class Result:
    """The needs of a profile on one key under one policy, each with its caller and answer."""

    answers: tuple[Answered, ...]

    def of(self, *outcomes: Outcome) -> list[Answered]:
        """Those with one of these outcomes."""
        return [one for one in self.answers if one[2].outcome in outcomes]


@dataclass(slots=True)
class Needs:
    """The needs of one use of a profile."""

    use: Use
    facts: Facts
    roles: Roles
    _answers: dict[Hashable, Answer] = field(default_factory=dict)
    _identities: dict[str, tuple[Policy | None, Policy | None]] = field(default_factory=dict)
    _outside: dict[Hashable, tuple[str, ...]] = field(default_factory=dict)

    def result(self, key: KeyRow, policy: Policy, policy_hash: str | None = None) -> Result:
        """The answers under a policy: the key's own, or (with its hash) an earlier one."""
        callers = [self._callers(need, key) for need in self.use.profile.needs]
        facts = self._key_facts(key, policy)
        found = []
        for position, need in enumerate(self.use.profile.needs):
            best: tuple[Need, Caller, Answer] | None = None
            for caller in callers[position]:
                asked = (position, caller.principal, policy_hash or key.policy_hash, self._alike(policy, caller, facts))
                if asked not in self._answers:
                    self._answers[asked] = judged(_wanted(need), caller, Under(policy, facts, self.facts.organization))
                answer = self._answers[asked]
                if best is None or answer.outcome is Outcome.MET:
                    best = (need, caller, answer)
            if best is not None:
                found.append(best)
        return Result(tuple(found))

    def _callers(self, need: Need, key: KeyRow) -> list[Caller]:
        if need.account:
            account = self.use.text(need.account)
            return [Caller(account, account)]
        account = self.use.text(need.role_account) or key.account_id
        name = self.use.text(need.role)
        partition = key.key_arn.split(":")[1]
        rows = self.roles.of(name, account) if need.iam or name else []
        tags = dict(need.role_tags)
        if not need.iam or not rows:
            known, why = self.facts.iam(account)
            missing = f"There is no role {name or 'that trusts the vendor'} in account {account}."
            unknown = missing if known else f"the role's policies in account {account} are not known: {why}"
            arn = rows[0].arn if rows else f"arn:{partition}:iam::{account}:role/{name or 'vendor'}"
            nothing = Policy(readable=True) if known and need.iam else None  # no role: nothing is allowed
            return [
                Caller(
                    arn, account, is_role=True, identity=nothing, tags=rows[0].tags if rows else tags, unknown=unknown
                )
            ]
        return [self._caller(role) for role in rows]

    def _caller(self, role: RoleRow) -> Caller:
        if role.arn not in self._identities:
            self._identities[role.arn] = identities(role)
        identity, boundary = self._identities[role.arn]
        unknown = "" if identity is not None else f"a policy of role {role.name} is not known"
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
        """The role that calls, if the ledger knows it."""
        name = self.use.text(self.roles.role.name) if self.roles.role else ""
        return next((role for role in self.roles.of(name, caller.account) if role.arn == caller.principal), None)

    def _alike(self, policy: Policy, caller: Caller, facts: KeyFacts) -> Hashable:
        """Keys that are equal in this have the same answers under the same policy."""
        own = None if caller.identity is None else cache_key(caller.identity, facts)
        return (cache_key(policy, facts), own)

    def _key_facts(self, key: KeyRow, policy: Policy) -> KeyFacts:
        tags = key.tags
        if tags is not None:  # others make no difference, and would make every key another case
            asked = _tags_of(policy)
            for identity, _ in self._identities.values():
                asked |= _tags_of(identity) if identity is not None else set()
            tags = {name: value for name, value in tags.items() if name.lower() in asked}
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

    def more(self, key: KeyRow, policy: Policy, needs: list[tuple[Need, Caller]]) -> Answer:
        """What one caller can do beyond its needs."""
        facts, caller = self._key_facts(key, policy), needs[0][1]
        asked = ("over", caller.principal, key.policy_hash, self._alike(policy, caller, facts))
        if asked not in self._answers:
            also = [action for need, _ in needs for action in need.also]
            wanted = [_wanted(need) for need, _ in needs]
            self._answers[asked] = beyond(wanted, also, caller, Under(policy, facts, self.facts.organization))
        return self._answers[asked]

    def outsiders(self, key: KeyRow, policy: Policy, vendors: set[str]) -> tuple[str, ...]:
        """Outside parties that the policy or a grant lets in besides the vendor, as sentences."""
        facts = self._key_facts(key, policy)
        asked = (key.policy_hash, cache_key(policy, facts))
        if asked not in self._outside:
            verdicts = analyse_policy(policy, facts, self.facts.organization).verdicts
            self._outside[asked] = tuple(
                dict.fromkeys(
                    one.message for one in verdicts if one.access in _OUTSIDERS and one.account not in vendors
                )
            )
        ours = self.facts.organization.accounts | vendors | {key.account_id}
        granted = [
            f"Grant {grant.name or grant.grant_id} lets {grant.grantee_principal} use it."
            for grant in self.facts.grants(key.key_arn)
            if grant.grantee_principal
            and (account := classify(Named("AWS", grant.grantee_principal)).account) is not None
            and account not in ours
        ]
        return (*self._outside[asked], *granted)


def _tags_of(policy: Policy) -> set[str]:
    """The tags of the key that a policy asks about, in lower case."""
    prefix = "aws:resourcetag/"
    asked = (key.lower() for statement in policy.statements for key in statement.condition_keys)
    return {key.removeprefix(prefix) for key in asked if key.startswith(prefix)}


def _wanted(need: Need) -> Wanted:
    return Wanted(need.actions, need.conditions, judge_iam=need.iam)

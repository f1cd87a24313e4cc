"""Analyze grants into verdicts: the grantee, who can retire the grant, and what a Deny in the key policy removes.

From the KMS developer guide, "Grants in AWS KMS", and the model of kms:ListGrants.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from reports.access.engine.condition_text import join_and
from reports.access.engine.conditions import Value
from reports.access.engine.context_values import INSIDE_NETWORKS, CandidateContext, compared_values
from reports.access.engine.identities import CALLER_KEYS, KEYS_OF_ACCOUNT
from reports.access.engine.kms_actions import ALL, GRANTABLE_MASK, SYMMETRIC_MASK, bit, names, representative, supported
from reports.access.engine.model import Access, Grant, KeyFacts, Organization, Verdict, Witness
from reports.access.engine.policy_parser import Named, Policy
from reports.access.engine.principals import Principal, classify, relation_of
from reports.access.engine.request_principals import Audience, Caller, caller_of
from reports.access.engine.solver import (
    Call,
    Denies,
    Rule,
    SearchResult,
    denied_to_everyone,
    denies_of,
    groups,
    rules_of,
    search,
)

INVALID_CONSTRAINT = "an invalid constraint"
UNKNOWN_CONSTRAINT = "unknown constraint"
_RETIRE = bit("RetireGrant")
_WITH_CONTEXT = SYMMETRIC_MASK | bit("CreateGrant")
"""The operations that an encryption context constraint restricts; grants that the grantee creates need it too."""
_CONTEXT_KEY = "kms:encryptioncontext:"
_ALL_CONTEXT_KEYS = "kms:encryptioncontextkeys"


class Constraint(NamedTuple):
    """A grant constraint."""

    operations: int
    """The operations that it restricts."""
    text: str
    exempt: str
    """How other operations are allowed."""
    values: Mapping[str, Value]
    """The condition keys that a restricted request carries."""


def analyse_grant(
    grant: Grant, key_facts: KeyFacts, organization: Organization, policy: Policy | None = None
) -> tuple[Verdict, ...]:
    """Return the access through a grant (or a shape of grants), less what an explicit Deny in ``policy`` removes.

    Never raises on a grant's content: invalid content becomes an unknown verdict or condition.
    """
    return tuple(_GrantAnalyzer(grant, key_facts, organization, policy).verdicts())


class _GrantAnalyzer:
    """Analyzes one grant on one key."""

    __slots__ = ("_constraints", "_denies", "_facts", "_grant", "_organization")

    def __init__(self, grant: Grant, facts: KeyFacts, organization: Organization, policy: Policy | None) -> None:
        self._grant = grant
        self._facts = facts
        self._organization = organization
        self._constraints = _constraints(grant.constraints) if grant.constraints else ()
        self._denies = _deny_rules(policy, facts, organization)

    def verdicts(self) -> Iterator[Verdict]:
        """Yield the verdicts on the grantee, then on the principals that can retire the grant."""
        grant = self._grant
        operations, unknown, readable = _operations(grant.operations)
        operations &= supported(self._facts.key_spec, self._facts.key_usage)
        service, identity = grant.grantee_service_principal, grant.grantee_principal
        grantee = Principal(service, "service") if service else _named(identity or "")
        if not readable:
            yield self._verdict(grantee, (), reason="the grant's operations could not be parsed")
        elif unknown:
            yield self._verdict(grantee, unknown, reason=f"{unknown[0]} is not a known grant operation")
        if operations:
            yield from self._evaluate(grantee, operations)
        for retiring in _retiring(grant, self._facts):
            if retiring != grantee or not operations & _RETIRE:
                yield from self._evaluate(retiring, _RETIRE)

    def _evaluate(self, principal: Principal, operations: int) -> Iterator[Verdict]:
        denies = self._denies
        certain, unsure, reason = self._apply_denies(denies, principal, operations) if denies else (operations, 0, "")
        if certain:
            yield self._verdict(principal, names(certain), certain)
        if unsure:
            yield self._verdict(principal, names(unsure), unsure, reason)

    def _apply_denies(self, denies: _DenyRules, principal: Principal, operations: int) -> tuple[int, int, str]:
        """Return the operations that no Deny removes, those that are unknown, and the reason for the latter."""
        caller = caller_of(principal, self._facts.arn, self._organization.accounts)
        if caller is None:
            return operations & ~denied_to_everyone(denies.rules), 0, ""
        applicable = denies_of(denies.rules, caller, ALL)
        constraints = [constraint for constraint in self._constraints if denies.tests(constraint)]
        certain, unsure, reason = 0, 0, ""
        for group in _groups(operations, [rule for rule, _ in applicable], constraints):
            _, operation = representative(group)
            relevant = [(rule, applies) for rule, applies in applicable if rule.operations & operation]
            result = denies.search(caller, relevant, operation, _values(constraints, operation))
            if result.answer:
                certain |= group
            elif result.answer is None:
                unsure |= group
                reason = result.reason
        return certain, unsure, reason

    def _verdict(self, principal: Principal, operations: tuple[str, ...], held: int = 0, reason: str = "") -> Verdict:
        written, account = principal.written, principal.account
        access, party = relation_of(principal, self._facts.account, self._organization)
        if access is Access.UNKNOWN and not reason:
            reason = "AWS does not accept this principal" if written else "the grant names no grantee"
        witness = None
        if reason:
            access = Access.UNKNOWN
        elif access is not Access.DELETED:
            operation, mask = representative(held)
            values = _values(self._constraints, mask)
            context = {key: value for key, value in values.items() if isinstance(value, str)}
            witness = Witness(written, account, f"kms:{operation}", context)
        conditions = _conditions(self._constraints, held)
        source = ("grant", self._grant.grant_id, None)
        return Verdict(access, written or "*", account, party, operations, *source, conditions, witness, reason)


def _groups(operations: int, rules: list[Rule], constraints: Iterable[Constraint]) -> list[int]:
    """Split operations into groups that the rules and the constraints treat alike."""
    alike = [operations]
    for constraint in constraints:
        masks = constraint.operations, ~constraint.operations
        alike = [group & mask for group in alike for mask in masks if group & mask]
    return [group for held in alike for group in groups(held, rules, ())]


def _values(constraints: Iterable[Constraint], operation: int) -> dict[str, Value]:
    restricting = [constraint.values for constraint in constraints if constraint.operations & operation]
    return {key: value for values in restricting for key, value in values.items()}


def _conditions(constraints: Sequence[Constraint], held: int) -> str:
    """Describe the constraints of a grant, if they restrict one of the operations, and which operations they do not."""
    if not any(constraint.operations & held for constraint in constraints):
        return ""
    exempt = [
        f"{join_and(name.removeprefix('kms:') for name in names(others))} {constraint.exempt}"
        for constraint in constraints
        if (others := held & ~constraint.operations)
    ]
    return "; ".join([*(constraint.text for constraint in constraints), *exempt])


class _DenyRules:
    """The Deny rules of a policy on one key."""

    def __init__(self, policy: Policy, facts: KeyFacts, organization: Organization) -> None:
        self._inputs = policy, facts, organization
        self.rules = [rule for rule in rules_of(policy, facts.arn) if not rule.allow and rule.about_key]
        compared = compared_values(element for rule in self.rules for element in rule.elements)
        self._candidates = CandidateContext(compared, facts, organization)
        self._keys = compared.keys()
        self._context_keys = {key for key in self._keys if key.startswith(_CONTEXT_KEY)}
        self._by_account = (self._keys & CALLER_KEYS) <= KEYS_OF_ACCOUNT
        self._results: dict[Hashable, SearchResult] = {}

    def is_of(self, policy: Policy, facts: KeyFacts, organization: Organization) -> bool:
        """Whether these are the rules of a policy on a key."""
        ours, key, whole = self._inputs
        return ours is policy and whole is organization and key == facts

    def tests(self, constraint: Constraint) -> bool:
        """Whether a rule depends on what the constraint fixes."""
        return not self._keys.isdisjoint(constraint.values) or (
            _ALL_CONTEXT_KEYS in constraint.values and bool(self._context_keys)
        )

    def search(self, caller: Caller, relevant: Denies, operation: int, fixed: dict[str, Value]) -> SearchResult:
        """Search for a request through a grant, with values that its constraints fix, that no relevant rule denies."""
        if _ALL_CONTEXT_KEYS in fixed:  # EncryptionContextEquals: no other key
            fixed = {**fixed, **dict.fromkeys(self._context_keys - fixed.keys())}
        alike: Hashable = caller
        if self._by_account and not any(isinstance(applies, Audience) for _, applies in relevant):
            alike = caller.kind, caller.origin, caller.account, caller.organization
        key = alike, tuple(relevant), operation, frozenset(fixed.items())
        if key not in self._results:
            call = Call(self._candidates, caller, operation, INSIDE_NETWORKS, fixed)
            self._results[key] = search((), relevant, call)
        return self._results[key]


_DENY_CACHE: list[_DenyRules] = []
"""The Deny rules of the last policy; callers analyze grants of the same or equivalent keys consecutively."""


def _deny_rules(policy: Policy | None, facts: KeyFacts, organization: Organization) -> _DenyRules | None:
    if policy is None or not any(statement.effect == "Deny" for statement in policy.statements):
        return None
    if not (_DENY_CACHE and _DENY_CACHE[0].is_of(policy, facts, organization)):
        _DENY_CACHE[:] = [_DenyRules(policy, facts, organization)]
    return _DENY_CACHE[0]


def _named(written: str) -> Principal:
    return classify(Named("AWS", written))


def _retiring(grant: Grant, facts: KeyFacts) -> list[Principal]:
    """Return who can retire the grant: the named principals, and the issuing account if it is not the key's account."""
    principals = []
    if grant.retiring_service_principal:
        principals.append(Principal(grant.retiring_service_principal, "service"))
    if grant.retiring_principal:
        principals.append(_named(grant.retiring_principal))
    if grant.issuing_account and facts.account not in grant.issuing_account:
        principals.append(_named(grant.issuing_account))
    return list(dict.fromkeys(principals))


@lru_cache(maxsize=16_384)
def _operations(text: str) -> tuple[int, tuple[str, ...], bool]:
    """Return the known operations, the names of unknown ones, and whether the list is valid."""
    items = _json(text)
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        return 0, (), False
    known, unknown = 0, set()
    for name in items:
        if (operation := bit(name) & GRANTABLE_MASK) and ":" not in name:
            known |= operation
        else:
            unknown.add(f"kms:{name}")
    return known, tuple(sorted(unknown)), bool(items)


def constraint_conditions(constraints: str | None, operation: int = 0) -> str:
    """Describe a grant's constraints in English: all, or those that restrict an operation."""
    parsed = _constraints(constraints) if constraints else ()
    return "; ".join(part.text for part in parsed if not operation or part.operations & operation)


def _json(text: str) -> Any:
    try:
        return orjson.loads(text)
    except (orjson.JSONDecodeError, TypeError):
        return None


@lru_cache(maxsize=65_536)
def _constraints(text: str) -> tuple[Constraint, ...]:
    """Return a grant's constraints (API reference: GrantConstraints)."""
    document = {} if text == "null" else _json(text)
    if not isinstance(document, dict):
        return (Constraint(~_RETIRE, INVALID_CONSTRAINT, "without it", {}),)
    parts: list[Constraint] = []
    for name, value in document.items():
        if name in {"EncryptionContextSubset", "EncryptionContextEquals"} and isinstance(value, dict):
            pairs = {str(key): item for key, item in value.items() if isinstance(item, str)}
            only = "only " if name == "EncryptionContextEquals" else ""
            fixed: dict[str, Value] = {f"{_CONTEXT_KEY}{key.lower()}": item for key, item in pairs.items()}
            if only:
                fixed[_ALL_CONTEXT_KEYS] = tuple(pairs)
            described = f"{only}encryption context {', '.join(f'{key}={pairs[key]}' for key in sorted(pairs))}"
            parts.append(Constraint(_WITH_CONTEXT, described, "without encryption context", fixed))
        elif name == "SourceArn" and isinstance(value, str):
            parts.append(Constraint(~_RETIRE, f"only for {value}", "for any source", {"aws:sourcearn": value}))
        elif value is not None:
            parts.append(Constraint(~_RETIRE, f"{UNKNOWN_CONSTRAINT} {name}", "without it", {}))
    return tuple(parts)

"""Analyze a key policy into verdicts: every access path to the key, found by evaluating concrete callers.

The callers are the named principals; for a statement about everyone: a stranger from an unrelated account, the organization,
the owner's account, and every account, organization and identity that the policy's conditions mention.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property

from reports.access.engine.analysis_key import ACCOUNT_KEYS
from reports.access.engine.condition_text import describe_condition, join_and
from reports.access.engine.context_values import (
    ANYONE,
    INSIDE_NETWORKS,
    THROUGH_SERVICES,
    CandidateContext,
    compared_values,
)
from reports.access.engine.identities import UNIQUE_ID
from reports.access.engine.kms_actions import (
    ALL,
    BY_POLICY_MASK,
    CROSS_ACCOUNT_MASK,
    names,
    representative,
    supported,
    unknown_names,
)
from reports.access.engine.model import (
    THROUGH_SERVICE,
    Access,
    Analysis,
    KeyFacts,
    Organization,
    Verdict,
    Witness,
    relation,
)
from reports.access.engine.policy_lint import lint_policy
from reports.access.engine.policy_parser import Policy
from reports.access.engine.principals import Principal, classify, mentioned_accounts, relation_of
from reports.access.engine.request_principals import Caller, Kind, Origin, caller_of
from reports.access.engine.service_sources import SOURCE_KEYS, acts_for, example_accounts, mentioned_sources
from reports.access.engine.solver import (
    Call,
    Denies,
    Rule,
    SearchResult,
    denied_to_everyone,
    denies_of,
    describe_rule,
    elements_of,
    groups,
    rules_of,
    search_all,
)
from reports.access.engine.wildcards import has_wildcard, matches

_ORGANIZATION = re.compile(r"o-[a-z0-9]{4,32}")
_MAX_CALLERS = 500
_LEVELS = (
    (ANYONE, Access.PUBLIC),
    (THROUGH_SERVICES, Access.PUBLIC_VIA_SERVICE),
    (INSIDE_NETWORKS, Access.EXTERNAL),
)


def analyse_policy(policy: Policy, key_facts: KeyFacts, organization: Organization) -> Analysis:
    """Return every access path through a key policy, and its lint findings. Never raises on a policy's content."""
    analyzer = PolicyAnalyzer(policy, key_facts, organization)
    verdicts = tuple(dict.fromkeys(analyzer.verdicts()))
    return Analysis(verdicts, tuple(lint_policy(policy, analyzer.rules, verdicts, key_facts)))


class PolicyAnalyzer:
    """Analyzes one policy on one key."""

    def __init__(self, policy: Policy, facts: KeyFacts, organization: Organization) -> None:
        self._policy = policy
        self._facts = facts
        self._organization = organization
        self.rules = rules_of(policy, facts.arn)
        self.denies = [rule for rule in self.rules if not rule.allow and rule.about_key and rule.operations]
        elements = (element for rule in self.rules for element in rule.elements)
        self.candidates = CandidateContext(compared_values(elements), facts, organization, self._mentioned[0])
        self._supported = supported(facts.key_spec, facts.key_usage)

    def verdicts(self) -> Iterator[Verdict]:
        """Yield all verdicts, in the order of the statements."""
        if not self._policy.readable:
            yield from self._unreadable()
        for rule in self.rules:
            if rule.allow and rule.about_key:
                yield from self._analyze_rule(rule)

    def _unreadable(self) -> Iterator[Verdict]:
        unreadable = [statement for statement in self._policy.statements if not statement.readable]
        reason = "the statement could not be parsed" if unreadable else "the policy could not be parsed"
        sources: list[tuple[str, int | None]] = [(statement.name, statement.position) for statement in unreadable]
        for name, position in sources or [("policy", None)]:
            yield Verdict(Access.UNKNOWN, "*", None, None, (), "policy", name, position, reason=reason)

    def _analyze_rule(self, rule: Rule) -> Iterator[Verdict]:
        statement = rule.statement
        if unknown := unknown_names(statement.actions) if not statement.not_actions else ():
            operations = tuple(sorted(f"kms:{action[4:]}" for action in unknown))
            reason = f"{operations[0]} is not a known KMS action"
            written = statement.principals[0].value if len(statement.principals) == 1 else "*"
            yield self._unknown(rule, written, None, operations, reason)
        if not rule.operations:
            return
        if rule.audience.inverted:
            yield from self._analyze_everyone(rule)
            return
        for named in statement.principals:
            principal = classify(named)
            if principal.type == "public":
                yield from self._analyze_everyone(rule)
            else:
                yield from self._analyze_named(rule, principal)

    def _analyze_named(self, rule: Rule, principal: Principal) -> Iterator[Verdict]:
        written, account = principal.written, principal.account
        caller = caller_of(principal, self._facts.arn, self._organization.accounts)
        if caller is None or (principal.type == "federated" and account is None):
            reason = {
                "unknown": "AWS does not accept this principal",
                "canonical": "KMS does not support canonical users",
                "federated": "the users of the identity provider are unknown",
            }.get(principal.type, "the statement names no principal")
            if operations := self._effective(rule.operations & ~denied_to_everyone(self.denies), account):
                yield self._unknown(rule, written, account, names(operations), reason)
            return
        access, _ = relation_of(principal, self._facts.account, self._organization)
        for verdict, held in self._evaluate(rule, caller, written, access, level=INSIDE_NETWORKS):
            yield verdict
            yield from self._on_behalf_of(rule, caller, verdict, held)

    def _analyze_everyone(self, rule: Rule) -> Iterator[Verdict]:
        """Yield the access through a statement about everyone: strangers first, others only beyond what strangers can do."""
        public = unsure = by_organization = by_service = by_id = in_network = 0
        for caller in self._everyone:
            if rule.audience.inverted and rule.audience.leaves_out(caller):
                continue
            if caller.origin is Origin.STRANGER:
                for level, access in _LEVELS:
                    for verdict, operations in self._evaluate(rule, caller, "*", access, level=level, among=~public):
                        if verdict.access is not Access.UNKNOWN:
                            public |= operations
                            in_network |= operations if level == INSIDE_NETWORKS else 0
                        elif level == INSIDE_NETWORKS:  # only the last level reports unknowns
                            unsure |= operations
                        else:
                            continue
                        yield replace(verdict, account=None, party=None)
                continue
            remaining = ~unsure
            principal = "*"
            if caller.kind is Kind.SERVICE:
                principal = caller.name
                remaining &= ~by_service & CROSS_ACCOUNT_MASK
            if caller.account != self._facts.account:
                # External access from a certain network does not imply access of the organization.
                implied = public & ~in_network | by_organization if caller.origin is Origin.OURS else public
                remaining &= ~implied
            access = self._access_of(caller)
            without_ids = replace(caller, may_have_mentioned_id=False)
            for each, among in ((caller, remaining & ~by_id), (without_ids, remaining & by_id)):
                for verdict, operations in self._evaluate(
                    rule, each, principal, access, level=INSIDE_NETWORKS, among=among
                ):
                    if caller.unique_id is not None:
                        by_id |= operations
                    elif not verdict.conditions and verdict.access is not Access.UNKNOWN:
                        by_organization |= operations if access is Access.ORGANIZATION and caller.account is None else 0
                        by_service |= operations if caller.name == "*" else 0
                    yield verdict
                    yield from self._on_behalf_of(rule, each, verdict, operations)

    def _on_behalf_of(self, rule: Rule, caller: Caller, verdict: Verdict, held: int) -> Iterator[Verdict]:
        """Yield the access of the accounts whose resources the conditions let an AWS service call for.

        A service that can call for any account is no access of an account: the lint finding service_without_source.
        """
        if caller.kind is not Kind.SERVICE or verdict.access is not Access.AWS_SERVICE:
            return
        denies = denies_of(self._denies_against(rule), caller, held)
        elements = elements_of(rule.elements, denies)
        if SOURCE_KEYS.isdisjoint(element.key for element in elements):
            return
        call = Call(self.candidates, caller, representative(held)[1], INSIDE_NETWORKS)
        ours = self._organization.organization_id

        def acts(account: str, organization: str = "o-foreign0000") -> bool | None:
            own = ours if account in self._organization.accounts else None
            return acts_for(rule.elements, denies, call, account, own or organization)

        accounts, organizations = mentioned_sources(elements)
        known = frozenset({self._facts.account, *accounts})
        any_account, *examples = example_accounts(elements, known)
        if acts(any_account):
            return
        found: list[tuple[str | None, bool | None]] = [
            (account, acts(account)) for account in accounts if account != self._facts.account
        ]
        results = set(map(acts, examples))
        results |= {acts(any_account, name) for name in organizations if name != ours}
        if results - {False}:
            found.append((None, True in results or None))
        through = THROUGH_SERVICE if verdict.principal == "*" else ""
        conditions = "; ".join(filter(None, (through, verdict.conditions)))
        for account, answer in found:
            if answer is False:
                continue
            access = relation(account, self._facts.account, self._organization)[0] if account else Access.EXTERNAL
            yield replace(
                verdict,
                access=access if answer else Access.UNKNOWN,
                account=account,
                party=self._organization.parties.get(account) if account and answer else None,
                conditions=conditions,
                reason="" if answer else _NO_DETAIL,
            )

    def _access_of(self, caller: Caller) -> Access:
        if caller.kind is Kind.SERVICE:
            return Access.AWS_SERVICE
        if caller.unique_id is not None:
            return Access.UNKNOWN
        if caller.origin is Origin.MEMBER:
            return Access.EXTERNAL if self._organization.organization_id else Access.UNKNOWN
        if caller.account is None:
            return Access.ORGANIZATION
        return relation(caller.account, self._facts.account, self._organization)[0]

    @cached_property
    def _everyone(self) -> list[Caller]:
        return list(self._callers())

    def _callers(self) -> Iterator[Caller]:
        owner, organization = self._facts.account, self._organization
        ours = Caller(Kind.IDENTITY, Origin.OURS, f"arn:{self.candidates.partition}:iam::{owner}:role/example", owner)
        if self._facts.manager == "AWS":
            yield ours
            return
        accounts, patterns, organizations, identities = self._mentioned
        if patterns:
            accounts = accounts | {
                account for account in organization.accounts if any(matches(pattern, account) for pattern in patterns)
            }
        yield Caller(Kind.IDENTITY, Origin.STRANGER, "anyone", may_have_mentioned_id=False)
        for unique_id in sorted(identities)[:_MAX_CALLERS]:
            yield Caller(Kind.IDENTITY, Origin.NAMED, f"the identity with ID {unique_id}", unique_id=unique_id)
        if organization.organization_id:
            yield Caller(Kind.IDENTITY, Origin.OURS, f"a member of organization {organization.organization_id}")
        yield ours
        for account in sorted(accounts - {owner})[:_MAX_CALLERS]:
            origin = Origin.OURS if account in organization.accounts else Origin.NAMED
            yield Caller(Kind.IDENTITY, origin, f"arn:{self.candidates.partition}:iam::{account}:role/example", account)
        for other in sorted(organizations - {organization.organization_id or ""})[:_MAX_CALLERS]:
            yield Caller(Kind.IDENTITY, Origin.MEMBER, f"a member of organization {other}", organization=other)
        yield Caller(Kind.SERVICE, Origin.NAMED, "*")
        # A Deny with NotPrincipal exempts the services that it lists, and no other.
        exempt = {name for deny in self.denies if deny.audience.inverted for name in deny.audience.services}
        for service in sorted(exempt):
            yield Caller(Kind.SERVICE, Origin.NAMED, service)

    @cached_property
    def _mentioned(self) -> tuple[set[str], list[str], set[str], set[str]]:
        """Return the accounts, account patterns, organizations and unique ids that conditions and principals mention."""
        accounts: set[str] = set()
        patterns: list[str] = []
        organizations: set[str] = set()
        identities: set[str] = set()
        for rule in self.rules:
            for named in rule.statement.principals:
                accounts.update(mentioned_accounts(named.value))
            for element in rule.elements:
                for value in element.values:
                    if element.key in ACCOUNT_KEYS:
                        accounts.update(mentioned_accounts(value))
                        part = (value.split(":", 5) + [""] * 5)[4] if element.key == "aws:principalarn" else value
                        if has_wildcard(part) and part.strip("*?") and not part.strip("0123456789*?"):
                            patterns.append(part)
                    if element.key in {"aws:principalorgid", "aws:principalorgpaths"}:
                        organizations.update(_ORGANIZATION.findall(value.partition("/")[0]))
                    if element.key == "aws:userid" and not element.negated and (found := UNIQUE_ID.match(value)):
                        identities.add(found[0])
        return accounts, patterns, organizations, identities

    def _effective(self, operations: int, account: str | None) -> int:
        if account is not None and account != self._facts.account:
            operations &= CROSS_ACCOUNT_MASK
        return operations & self._supported & BY_POLICY_MASK

    def _evaluate(
        self, rule: Rule, caller: Caller, principal: str, access: Access, *, level: int, among: int = ALL
    ) -> Iterator[tuple[Verdict, int]]:
        """Yield the verdicts on one caller under one statement, each with its set of operations."""
        operations = self._effective(rule.operations & among, caller.account)
        if caller.account is None and principal == "*":
            operations &= CROSS_ACCOUNT_MASK
        if not operations:
            return
        denies = denies_of(self._denies_against(rule), caller, operations)
        merged: dict[tuple[bool, str, str], tuple[int, Witness]] = {}
        for group in groups(operations, (deny for deny, _ in denies), rule.elements):
            name, operation = representative(group)
            relevant = [(deny, applies) for deny, applies in denies if deny.operations & operation]
            results = search_all(rule.elements, relevant, Call(self.candidates, caller, operation, level))
            result = next(results)
            if result.answer is False:
                continue
            call = Call(self.candidates, caller, operation, INSIDE_NETWORKS)
            conditions = "; ".join(
                filter(None, (_only_special(result, results), self._conditions(rule, relevant, call)))
            )
            key = (bool(result.answer), conditions, result.reason)
            merged_operations, witness = merged.get(key, (0, None))
            merged[key] = (merged_operations | group, witness or _witness(caller, name, result))
        for (certain, conditions, reason), (held, witness) in merged.items():
            # A deleted principal cannot meet any condition, so an unknown condition makes no difference.
            effective_access = access if certain or access is Access.DELETED else Access.UNKNOWN
            account = caller.account if caller.kind is not Kind.SERVICE else None
            party = self._organization.parties.get(account) if account and effective_access in _EXTERNAL else None
            unknown_reason = (reason or _NO_DETAIL) if effective_access is Access.UNKNOWN else ""
            source = ("policy", rule.name, rule.statement.position)
            verdict = Verdict(
                effective_access, principal, account, party, names(held), *source, conditions, witness, unknown_reason
            )
            yield verdict, held

    def _denies_against(self, rule: Rule) -> list[Rule]:
        """Return the Deny rules, and the exceptions of an Allow with NotPrincipal as one more."""
        if not rule.audience.inverted:
            return self.denies
        return [*self.denies, replace(rule, allow=False, audience=replace(rule.audience, inverted=False), elements=())]

    def _conditions(self, rule: Rule, denies: Denies, call: Call) -> str:
        excluded = self._excluded(rule, call.caller, call.operation)
        if not rule.elements and not denies and call.caller.origin is not Origin.MEMBER:
            return excluded
        origin = f"only from organization {call.caller.organization}" if call.caller.origin is Origin.MEMBER else ""
        return "; ".join(filter(None, (origin, describe_rule(rule.elements, denies, call), excluded)))

    def _excluded(self, rule: Rule, caller: Caller, operation: int) -> str:
        """Describe the principals that a Deny or a NotPrincipal excludes while the account as a whole has access."""
        parts: list[str] = []
        if rule.audience.inverted:
            parts.append(f"except {', '.join(named.value for named in rule.statement.principals[:3])}")
        for deny in self.denies:
            if deny.operations & operation and deny.audience.exempts_part_of(caller):
                parts.append(f"except principals with a permissions boundary (denied by {deny.name})")
            if deny.operations & operation and (denied := deny.audience.parts_of(caller)):
                condition = f" if {' and '.join(map(describe_condition, deny.elements))}" if deny.elements else ""
                parts.append(f"except {join_and(denied)}{condition} (denied by {deny.name})")
        return "; ".join(parts)

    @staticmethod
    def _unknown(rule: Rule, principal: str, account: str | None, operations: tuple[str, ...], reason: str) -> Verdict:
        source = ("policy", rule.name, rule.statement.position)
        return Verdict(Access.UNKNOWN, principal, account, None, operations, *source, reason=reason)


_EXTERNAL = frozenset({Access.VENDOR, Access.EXTERNAL})
_NO_DETAIL = "the policy does not show which account this is"


def _only_special(result: SearchResult, others: Iterable[SearchResult]) -> str:
    """Describe who has access, if it is not the account as a whole but root users or principals that a Deny exempts."""
    if not result.answer or result.identity is None or not result.identity.special:
        return ""
    found = [(each.answer, each.identity.caller) for each in (result, *others) if each.identity is not None]
    callers = [caller for answer, caller in found if answer]
    unknown = [caller.arn or caller.name for answer, caller in found if not answer]
    who = ("the root user" if caller.kind is Kind.ROOT else caller.arn or caller.name for caller in callers)
    only = f"only {join_and(dict.fromkeys(who))}"
    return f"{only}; unknown for {join_and(unknown)}" if unknown else only


def _witness(caller: Caller, operation: str, result: SearchResult) -> Witness:
    identity = result.identity.caller if result.identity else caller
    concrete = caller.origin is Origin.STRANGER or (caller.kind is Kind.IDENTITY and caller.account)
    name, account = (identity.arn or identity.name, identity.account) if concrete else (caller.name, caller.account)
    return Witness(name, account, f"kms:{operation}", result.context)

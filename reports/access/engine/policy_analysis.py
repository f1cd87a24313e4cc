"""Analyze a key policy into verdicts: every access path to the key, found by evaluating concrete callers.

The callers are the named principals; for a statement about everyone: a stranger from an unrelated account, the organization,
the owner's account, and every account, organization and identity that the policy's conditions mention.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import replace
from functools import cached_property

from reports.access.engine.context_values import (
    ANYONE,
    INSIDE_NETWORKS,
    THROUGH_SERVICES,
    CandidateContext,
    compared_values,
)
from reports.access.engine.kms_actions import ALL, BY_POLICY_MASK, CROSS_ACCOUNT_MASK, names, supported, unknown_names
from reports.access.engine.model import Access, Analysis, KeyFacts, Organization, Verdict, Witness, relation
from reports.access.engine.policy_lint import lint_policy
from reports.access.engine.policy_parser import Policy
from reports.access.engine.principals import Principal, classify
from reports.access.engine.request_principals import Caller, Kind, Origin, caller_of
from reports.access.engine.solver import (
    Call,
    Denies,
    Rule,
    denies_of,
    describe_rule,
    groups,
    representative,
    rules_of,
    search,
)
from reports.access.engine.wildcards import has_wildcard, matches

_ACCOUNT_KEYS = frozenset(
    {"kms:calleraccount", "aws:principalaccount", "aws:principalarn", "aws:userid", "aws:vpceaccount"}
)
_DIGITS = re.compile(r"(?<![0-9])[0-9]{12}(?![0-9])")
_ORGANIZATION = re.compile(r"o-[a-z0-9]{4,32}")
_UNIQUE_ID = re.compile(r"A(?:RO|ID)A[A-Z0-9]{12,124}")
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
    return Analysis(verdicts, lint_policy(policy, analyzer.rules, verdicts, key_facts))


class PolicyAnalyzer:
    """Analyzes one policy on one key."""

    def __init__(self, policy: Policy, facts: KeyFacts, organization: Organization) -> None:
        self._policy = policy
        self._facts = facts
        self._organization = organization
        self.rules = rules_of(policy, facts.arn)
        self.denies = [rule for rule in self.rules if not rule.allow and rule.about_key and rule.operations]
        elements = (element for rule in self.rules for element in rule.elements)
        self.candidates = CandidateContext(compared_values(elements), facts, organization)
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
            yield self._unknown(rule, written, account, names(self._effective(rule.operations, account)), reason)
            return
        if principal.type == "account" and account == self._facts.account:
            yield from self._analyze_owner(rule, written, caller)
        else:
            for verdict, _ in self._evaluate(rule, caller, written, self._access(principal), level=INSIDE_NETWORKS):
                yield verdict

    def _analyze_owner(self, rule: Rule, written: str, caller: Caller) -> Iterator[Verdict]:
        """Yield the access of the owner's account: of its principals through IAM, else at least of its root user."""
        held = 0
        for verdict, operations in self._evaluate(rule, caller, written, Access.OWNER_DELEGATED, level=INSIDE_NETWORKS):
            held |= operations
            yield verdict
        if self.denies and rule.operations & ~held:
            yield from self._analyze_root(rule, written, Access.OWNER_DELEGATED, rule.operations & ~held)

    def _analyze_root(self, rule: Rule, principal: str, access: Access, remaining: int) -> Iterator[Verdict]:
        """Yield the access of the owner's root user, whom a Deny with NotPrincipal can exempt."""
        account = self._facts.account
        name = f"arn:{self.candidates.partition}:iam::{account}:root"
        root = Caller(Kind.ROOT, Origin.OURS, name, account, name)
        for verdict, _ in self._evaluate(rule, root, principal, access, level=INSIDE_NETWORKS, among=remaining):
            conditions = "; ".join(filter(None, ("only the root user", verdict.conditions)))
            yield replace(verdict, conditions=conditions)

    def _access(self, principal: Principal) -> Access:
        if principal.type == "service":
            return Access.AWS_SERVICE
        if principal.type == "deleted":
            return Access.DELETED
        return relation(principal.account, self._facts.account, self._organization)[0]

    def _analyze_everyone(self, rule: Rule) -> Iterator[Verdict]:
        """Yield the access through a statement about everyone: strangers first, others only beyond what strangers can do."""
        public = unsure = by_organization = in_network = 0
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
            if caller.account != self._facts.account:
                # External access from a certain network does not imply access of the organization.
                implied = public & ~in_network | by_organization if caller.origin is Origin.OURS else public
                remaining &= ~implied
            access = self._access_of(caller)
            held = 0
            for verdict, operations in self._evaluate(
                rule, caller, "*", access, level=INSIDE_NETWORKS, among=remaining
            ):
                if caller.origin is Origin.OURS and caller.account is None and verdict.access is not Access.UNKNOWN:
                    by_organization |= 0 if verdict.conditions else operations
                held |= operations
                yield verdict
            if caller.account == self._facts.account and self.denies and rule.operations & remaining & ~held:
                yield from self._analyze_root(rule, "*", access, rule.operations & remaining & ~held)

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
        accounts, patterns, organizations, identities = self._mentioned()
        if patterns:
            accounts |= {
                account for account in organization.accounts if any(matches(pattern, account) for pattern in patterns)
            }
        known = (accounts, organization.accounts, {owner}, organization.parties)
        example = _unknown_account("????????????", known) or ""
        if self._facts.manager != "AWS":
            for pattern in ("????????????", *patterns):
                if account := _unknown_account(pattern, known):
                    name = f"arn:{self.candidates.partition}:iam::{account}:role/stranger"
                    yield Caller(Kind.IDENTITY, Origin.STRANGER, name, account)
        if organization.organization_id and self._facts.manager != "AWS":
            name = f"a member of organization {organization.organization_id}"
            yield Caller(Kind.IDENTITY, Origin.OURS, name, representative_account=example)
        yield Caller(Kind.IDENTITY, Origin.OURS, f"arn:{self.candidates.partition}:iam::{owner}:role/example", owner)
        if self._facts.manager == "AWS":
            return
        for account in sorted(accounts - {owner})[:_MAX_CALLERS]:
            origin = Origin.OURS if account in organization.accounts else Origin.NAMED
            yield Caller(Kind.IDENTITY, origin, f"arn:{self.candidates.partition}:iam::{account}:role/example", account)
        for other in sorted(organizations - {organization.organization_id or ""})[:_MAX_CALLERS]:
            yield Caller(Kind.IDENTITY, Origin.MEMBER, f"a member of organization {other}", None, None, other, example)
        for unique_id in sorted(identities)[:_MAX_CALLERS]:
            name = f"the identity with ID {unique_id}"
            yield Caller(Kind.IDENTITY, Origin.NAMED, name, representative_account=example, unique_id=unique_id)
        yield Caller(Kind.SERVICE, Origin.NAMED, "*")

    def _mentioned(self) -> tuple[set[str], list[str], set[str], set[str]]:
        """Return the accounts, account patterns, organizations and unique ids that conditions and principals mention."""
        accounts: set[str] = set()
        patterns: list[str] = []
        organizations: set[str] = set()
        identities: set[str] = set()
        for rule in self.rules:
            for named in rule.statement.principals:
                accounts.update(_DIGITS.findall(named.value))
            for element in rule.elements:
                for value in element.values:
                    if element.key in _ACCOUNT_KEYS:
                        accounts.update(_DIGITS.findall(value))
                        part = (value.split(":", 5) + [""] * 5)[4] if element.key == "aws:principalarn" else value
                        if has_wildcard(part) and part.strip("*?") and not part.strip("0123456789*?"):
                            patterns.append(part)
                    if element.key in {"aws:principalorgid", "aws:principalorgpaths"}:
                        organizations.update(_ORGANIZATION.findall(value.partition("/")[0]))
                    if element.key == "aws:userid" and not element.negated and _UNIQUE_ID.match(value):
                        identities.add(value.replace("*", "example").replace("?", "x"))
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
        denies = denies_of(self.denies, caller, operations)
        merged: dict[tuple[bool, str, str], tuple[int, Witness]] = {}
        for group in groups(operations, (deny for deny, _ in denies), rule.elements):
            name, operation = representative(group)
            relevant = [(deny, applies) for deny, applies in denies if deny.operations & operation]
            result = search(rule.elements, relevant, Call(self.candidates, caller, operation, level))
            if result.answer is False:
                continue
            conditions = self._conditions(rule, relevant, Call(self.candidates, caller, operation, INSIDE_NETWORKS))
            key = (bool(result.answer), conditions, result.reason)
            merged_operations, witness = merged.get(key, (0, None))
            merged[key] = (
                merged_operations | group,
                witness or Witness(caller.name, caller.account, f"kms:{name}", result.context),
            )
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
        if caller.kind is Kind.IDENTITY and caller.arn is None:
            for deny in self.denies:
                if deny.operations & operation and not deny.elements and not deny.audience.inverted:
                    denied = sorted(arn for arn in deny.audience.arns if f"::{caller.account}:" in arn)
                    if denied:
                        parts.append(f"except {', '.join(denied[:3])} (denied by {deny.name})")
        return "; ".join(parts)

    @staticmethod
    def _unknown(rule: Rule, principal: str, account: str | None, operations: tuple[str, ...], reason: str) -> Verdict:
        source = ("policy", rule.name, rule.statement.position)
        return Verdict(Access.UNKNOWN, principal, account, None, operations, *source, reason=reason)


_EXTERNAL = frozenset({Access.VENDOR, Access.EXTERNAL})
_NO_DETAIL = "the policy does not show which account this is"


def _unknown_account(pattern: str, known: Sequence[Container[str]]) -> str | None:
    """Return an account id that the pattern matches and that is not known, or None."""
    fixed, _, tail = pattern.partition("*")
    tail = tail.replace("*", "")
    template = fixed + "?" * max(0, 12 - len(fixed) - len(tail)) + tail
    for digit in "98765432101234567":
        account = template.replace("?", digit)
        if len(account) == 12 and matches(pattern, account) and not any(account in accounts for accounts in known):
            return account
    return None

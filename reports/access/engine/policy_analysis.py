"""A key policy as verdicts: every way to the key, found by trying concrete callers.

The callers are those that statements name, and for a statement about everyone: a stranger from an unrelated account, the
organization, the owner's account, and every account, organization and identity that the policy's conditions mention.
"""

from __future__ import annotations

import re
from collections.abc import Container, Hashable, Iterator, Sequence
from dataclasses import replace

from reports.access.engine.condition_text import narrowed
from reports.access.engine.context_values import ANYONE, INSIDE_NETWORKS, THROUGH_SERVICES, Reach, uses_of
from reports.access.engine.kms_actions import ALL, BY_POLICY_MASK, CROSS_ACCOUNT_MASK, names, supported, unknown_names
from reports.access.engine.model import Access, Analysis, KeyFacts, Organization, Verdict, Witness, relation
from reports.access.engine.policy_lint import hygiene_of
from reports.access.engine.policy_parser import Policy
from reports.access.engine.principals import Principal, classify
from reports.access.engine.request_principals import Caller, Kind, Origin, caller_of
from reports.access.engine.solver import Call, Found, Rule, groups, narrows, possible, representative, rules_of, search
from reports.access.engine.wildcards import matches, wild

_ACCOUNT_KEYS = frozenset(
    {"kms:calleraccount", "aws:principalaccount", "aws:principalarn", "aws:userid", "aws:vpceaccount"}
)
_DIGITS = re.compile(r"(?<![0-9])[0-9]{12}(?![0-9])")
_ORGANIZATION = re.compile(r"o-[a-z0-9]{4,32}")
_UNIQUE = re.compile(r"A(?:RO|ID)A[A-Z0-9]{12,124}")
_MANY = 500
_LEVELS = (
    (ANYONE, Access.PUBLIC),
    (THROUGH_SERVICES, Access.PUBLIC_VIA_SERVICE),
    (INSIDE_NETWORKS, Access.EXTERNAL),
)


def analyse_policy(policy: Policy, key_facts: KeyFacts, organization: Organization) -> Analysis:
    """Every access that a key policy gives, and what else there is to say about it. Never raises on a policy's content."""
    judge = Judge(policy, key_facts, organization)
    verdicts = tuple(dict.fromkeys(judge.verdicts()))
    return Analysis(verdicts, hygiene_of(policy, judge.rules, verdicts, key_facts))


def cache_key(policy: Policy, key_facts: KeyFacts) -> tuple[Hashable, ...]:
    """Two keys with the same policy content and equal cache keys have the same analysis."""
    partition = key_facts.arn.partition(":")[2].partition(":")[0]
    found: list[Hashable] = [key_facts.account, key_facts.manager == "AWS", partition]
    found += [key_facts.key_spec, key_facts.key_usage]
    if any(one != "*" for statement in policy.statements for one in statement.resources):
        found.append(key_facts.arn)
    text = str([statement.conditions for statement in policy.statements if statement.conditions]).lower()
    if "aws:requestedregion" in text or "kms:multiregion" in text:
        found.append(key_facts.arn)
    if "aws:resourcetag/" in text:
        found.append(None if key_facts.tags is None else tuple(sorted(key_facts.tags.items())))
    if "kms:resourcealiases" in text:
        found.append(key_facts.aliases)
    if "kms:keyorigin" in text:
        found.append(key_facts.origin)
    return tuple(found)


class Judge:
    """One policy on one key."""

    def __init__(self, policy: Policy, facts: KeyFacts, organization: Organization) -> None:
        self._policy = policy
        self._facts = facts
        self._organization = organization
        self.rules = rules_of(policy, facts.arn)
        self.denies = [rule for rule in self.rules if not rule.allow and rule.about_key and rule.operations]
        self.reach = Reach(uses_of(element for rule in self.rules for element in rule.elements), facts, organization)
        self._usable = supported(facts.key_spec, facts.key_usage)
        self._everyone: list[Caller] | None = None

    def verdicts(self) -> Iterator[Verdict]:
        """All verdicts, in the order of the statements."""
        if not self._policy.readable:
            yield from self._unreadable()
        for rule in self.rules:
            if rule.allow and rule.about_key:
                yield from self._of_rule(rule)

    def _unreadable(self) -> Iterator[Verdict]:
        broken = [statement for statement in self._policy.statements if not statement.readable]
        reason = "the statement cannot be read" if broken else "the policy cannot be read"
        places: list[tuple[str, int | None]] = [(one.name, one.position) for one in broken]
        for name, position in places or [("policy", None)]:
            yield Verdict(Access.UNKNOWN, "*", None, None, (), "policy", name, position, reason=reason)

    def _of_rule(self, rule: Rule) -> Iterator[Verdict]:
        statement = rule.statement
        if strange := unknown_names(statement.actions) if not statement.not_actions else ():
            operations = tuple(sorted(f"kms:{one[4:]}" for one in strange))
            reason = f"{operations[0]} is no action that is known here"
            principal = statement.principals[0].value if len(statement.principals) == 1 else "*"
            yield Verdict(
                Access.UNKNOWN,
                principal,
                None,
                None,
                operations,
                "policy",
                rule.name,
                statement.position,
                reason=reason,
            )
        if not rule.operations:
            return
        if rule.audience.inverted:
            yield from self._of_everyone(rule)
            return
        for named in statement.principals:
            found = classify(named)
            if found.type == "public":
                yield from self._of_everyone(rule)
            else:
                yield from self._of_named(rule, found)

    def _of_named(self, rule: Rule, found: Principal) -> Iterator[Verdict]:
        caller = caller_of(found, self._facts.account, self._organization.accounts)
        if caller is None or (found.type == "federated" and found.account is None):
            reason = {
                "unknown": "AWS accepts no such principal",
                "canonical": "KMS knows no canonical users",
                "federated": "who signs in there is not known here",
            }.get(found.type, "nobody is named")
            yield self._unknown(
                rule, found.written, found.account, self._effective(rule.operations, found.account), reason
            )
            return
        if found.type == "account" and found.account == self._facts.account:
            yield from self._of_account(rule, found, caller)
        else:
            access = self._access(found)
            for verdict, _ in self._tried(rule, caller, found.written, access, level=INSIDE_NETWORKS):
                yield verdict

    def _of_account(self, rule: Rule, found: Principal, caller: Caller) -> Iterator[Verdict]:
        """The owner's account: its principals through IAM, else at least its root user."""
        held = 0
        for verdict, operations in self._tried(
            rule, caller, found.written, Access.OWNER_DELEGATED, level=INSIDE_NETWORKS
        ):
            held |= operations
            yield verdict
        if self.denies and rule.operations & ~held:
            yield from self._of_root(rule, found.written, Access.OWNER_DELEGATED, rule.operations & ~held)

    def _of_root(self, rule: Rule, holder: str, access: Access, left: int) -> Iterator[Verdict]:
        """The root user of the owner's account, whom a Deny with NotPrincipal can leave out while it stops all others."""
        account = self._facts.account
        name = f"arn:{self.reach.partition}:iam::{account}:root"
        root = Caller(Kind.ROOT, Origin.OURS, name, account, name)
        for verdict, _ in self._tried(rule, root, holder, access, level=INSIDE_NETWORKS, among=left):
            scope = "; ".join(filter(None, ("only the root user", verdict.conditions)))
            yield replace(verdict, conditions=scope)

    def _access(self, found: Principal) -> Access:
        if found.type == "service":
            return Access.AWS_SERVICE
        if found.type == "deleted":
            return Access.DELETED
        return relation(found.account, self._facts.account, self._organization)[0]

    def _of_everyone(self, rule: Rule) -> Iterator[Verdict]:
        """A statement about everyone: strangers first; others only for what a stranger cannot do already."""
        covered = unsure = by_organization = near = 0
        for caller in self._anyone():
            if rule.audience.inverted and rule.audience.leaves_out(caller):
                continue
            if caller.origin is Origin.STRANGER:
                for level, access in _LEVELS:
                    for verdict, operations in self._tried(rule, caller, "*", access, level=level, among=~covered):
                        if verdict.access is not Access.UNKNOWN:
                            covered |= operations
                            near |= operations if level == INSIDE_NETWORKS else 0
                        elif level == INSIDE_NETWORKS:  # whatever cannot be known nearer by cannot be known here
                            unsure |= operations
                        else:
                            continue
                        yield replace(verdict, account=None, party=None)
                continue
            left = ~unsure
            if caller.account != self._facts.account:
                # Someone outside who is in a certain network says nothing about our own accounts.
                left &= ~(covered & ~near | by_organization) if caller.origin is Origin.OURS else ~covered
            access = self._access_of(caller)
            held = 0
            for verdict, operations in self._tried(rule, caller, "*", access, level=INSIDE_NETWORKS, among=left):
                if caller.origin is Origin.OURS and caller.account is None and verdict.access is not Access.UNKNOWN:
                    by_organization |= 0 if verdict.conditions else operations
                held |= operations
                yield verdict
            if caller.account == self._facts.account and self.denies and rule.operations & left & ~held:
                yield from self._of_root(rule, "*", access, rule.operations & left & ~held)

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

    def _anyone(self) -> list[Caller]:
        if self._everyone is None:
            self._everyone = list(self._callers())
        return self._everyone

    def _callers(self) -> Iterator[Caller]:
        owner, organization = self._facts.account, self._organization
        accounts, patterns, organizations, identities = self._mentioned()
        if patterns:
            accounts |= {one for one in organization.accounts if any(matches(pattern, one) for pattern in patterns)}
        known = (accounts, organization.accounts, {owner}, organization.parties)
        someone = _account_like("????????????", known) or ""
        if self._facts.manager != "AWS":
            for pattern in ("????????????", *patterns):
                if account := _account_like(pattern, known):
                    name = f"arn:{self.reach.partition}:iam::{account}:role/stranger"
                    yield Caller(Kind.IDENTITY, Origin.STRANGER, name, account)
        if organization.organization_id and self._facts.manager != "AWS":
            name = f"a member of organization {organization.organization_id}"
            yield Caller(Kind.IDENTITY, Origin.OURS, name, stands_in=someone)
        yield Caller(Kind.IDENTITY, Origin.OURS, f"arn:{self.reach.partition}:iam::{owner}:role/example", owner)
        if self._facts.manager == "AWS":
            return
        for account in sorted(accounts - {owner})[:_MANY]:
            origin = Origin.OURS if account in organization.accounts else Origin.NAMED
            yield Caller(Kind.IDENTITY, origin, f"arn:{self.reach.partition}:iam::{account}:role/example", account)
        for one in sorted(organizations - {organization.organization_id or ""})[:_MANY]:
            yield Caller(Kind.IDENTITY, Origin.MEMBER, f"a member of organization {one}", None, None, one, someone)
        for one in sorted(identities)[:_MANY]:
            yield Caller(Kind.IDENTITY, Origin.NAMED, f"the holder of the id {one}", stands_in=someone, unique_id=one)
        yield Caller(Kind.SERVICE, Origin.NAMED, "*")

    def _mentioned(self) -> tuple[set[str], list[str], set[str], set[str]]:
        """Accounts, patterns of accounts, organizations and unique ids that conditions and principals speak of."""
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
                        if wild(part) and part.strip("*?") and not part.strip("0123456789*?"):
                            patterns.append(part)
                    if element.key in {"aws:principalorgid", "aws:principalorgpaths"}:
                        organizations.update(_ORGANIZATION.findall(value.partition("/")[0]))
                    if element.key == "aws:userid" and not element.negated and _UNIQUE.match(value):
                        identities.add(value.replace("*", "example").replace("?", "x"))
        return accounts, patterns, organizations, identities

    def _effective(self, operations: int, account: str | None) -> int:
        if account is not None and account != self._facts.account:
            operations &= CROSS_ACCOUNT_MASK
        return operations & self._usable & BY_POLICY_MASK

    def _tried(
        self, rule: Rule, caller: Caller, principal: str, access: Access, *, level: int, among: int = ALL
    ) -> Iterator[tuple[Verdict, int]]:
        """The verdicts on one caller under one statement, each with its operations."""
        operations = self._effective(rule.operations & among, caller.account)
        if caller.account is None and principal == "*":
            operations &= CROSS_ACCOUNT_MASK
        if not operations:
            return
        against: list[tuple[Rule, bool | None]] = [
            (deny, about)
            for deny in self.denies
            if deny.operations & operations and (about := deny.audience.includes(caller)) is not False
        ]
        merged: dict[tuple[bool, str, str], tuple[int, Witness]] = {}
        for group in groups(operations, (deny for deny, _ in against), rule.elements):
            name, one = representative(group)
            mine = [(deny, about) for deny, about in against if deny.operations & one]
            found = search(rule.elements, mine, Call(self.reach, caller, one, level))
            if found.answer is False:
                continue
            scope = self._scope(rule, mine, Call(self.reach, caller, one, INSIDE_NETWORKS))
            key = (bool(found.answer), scope, found.reason)
            before, witness = merged.get(key, (0, None))
            merged[key] = (before | group, witness or _witness(caller, name, found))
        for (certain, scope, reason), (held, witness) in merged.items():
            # Whether a deleted principal could meet a condition does not matter: nobody is left to meet it.
            made = access if certain or access is Access.DELETED else Access.UNKNOWN
            account = caller.account if caller.kind is not Kind.SERVICE else None
            party = self._organization.parties.get(account) if account and made in _OUTSIDE else None
            why = (reason or _UNTOLD) if made is Access.UNKNOWN else ""
            statement = rule.statement
            verdict = Verdict(
                made,
                principal,
                account,
                party,
                names(held),
                "policy",
                rule.name,
                statement.position,
                scope,
                witness,
                why,
            )
            yield verdict, held

    def _scope(self, rule: Rule, denies: list[tuple[Rule, bool | None]], call: Call) -> str:
        outside = self._left_out(rule, call.caller, call.operation)
        if not rule.elements and not denies and call.caller.origin is not Origin.MEMBER:
            return outside
        mine = [element for element in rule.elements if narrows(element, call)]
        exceptions = [
            (deny.name, [element for element in deny.elements if narrows(element, call)])
            for deny, _ in denies
            if deny.elements and all(possible(element, call) for element in deny.elements)
        ]
        home = f"only from organization {call.caller.organization}" if call.caller.origin is Origin.MEMBER else ""
        return "; ".join(filter(None, (home, narrowed(mine, exceptions), outside)))

    def _left_out(self, rule: Rule, caller: Caller, one: int) -> str:
        """Principals of an account that a Deny or a NotPrincipal names while the account as a whole gets in."""
        parts: list[str] = []
        if rule.audience.inverted:
            parts.append(f"except {', '.join(named.value for named in rule.statement.principals[:3])}")
        if caller.kind is Kind.IDENTITY and caller.arn is None:
            for deny in self.denies:
                if deny.operations & one and not deny.elements and not deny.audience.inverted:
                    denied = sorted(arn for arn in deny.audience.arns if f"::{caller.account}:" in arn)
                    if denied:
                        parts.append(f"except {', '.join(denied[:3])} (denied by {deny.name})")
        return "; ".join(parts)

    def _unknown(self, rule: Rule, principal: str, account: str | None, operations: int, reason: str) -> Verdict:
        statement = rule.statement
        listed = names(operations)
        return Verdict(
            Access.UNKNOWN, principal, account, None, listed, "policy", rule.name, statement.position, reason=reason
        )


_OUTSIDE = frozenset({Access.VENDOR, Access.EXTERNAL})
_UNTOLD = "the policy does not tell whose that is"


def _witness(caller: Caller, operation: str, found: Found) -> Witness:
    return Witness(caller.name, caller.account, f"kms:{operation}", found.context)


def _account_like(pattern: str, known: Sequence[Container[str]]) -> str | None:
    """An account that the pattern matches and nobody here knows."""
    fixed, _, tail = pattern.partition("*")
    room = max(0, 12 - len(fixed) - len(tail.replace("*", "")))
    spread = fixed + "?" * room + tail.replace("*", "")
    for digit in "98765432101234567":
        account = spread.replace("?", digit)
        if len(account) == 12 and matches(pattern, account) and not any(account in one for one in known):
            return account
    return None

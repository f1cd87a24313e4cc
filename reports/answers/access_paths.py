"""By which ways one identity gets through: a resource's own policy, grants, and the identity's policies, all at once.

What a statement of the resource and one of the identity allow counts only where one and the same call meets the conditions of
both, of the boundary, and of no Deny.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import orjson

from reports.access.engine.condition_text import describe_conditions
from reports.access.engine.conditions import Element, Value
from reports.access.engine.context_values import INSIDE_NETWORKS, CandidateContext, compared_values
from reports.access.engine.grant_analysis import analyse_grant, constraint_conditions
from reports.access.engine.kms_actions import BY_POLICY_MASK, CROSS_ACCOUNT_MASK, bit, supported
from reports.access.engine.model import Access, Grant, KeyFacts, Organization, Verdict
from reports.access.engine.policy_analysis import PolicyAnalyzer
from reports.access.engine.policy_parser import Named, Policy, Statement
from reports.access.engine.principals import classify
from reports.access.engine.request_principals import Caller, Kind, Origin, audience
from reports.access.engine.solver import Call, Rule, is_feasible, restricts, search
from reports.answers.policy_documents import Document, Judged, document, rules_about
from reports.answers.repository import Identity, Key

_EVERYTHING = document("", '{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}')
STRANGER = "000000000001"
"""The account of anyone; no account has this id."""
_BEYOND = "AWS does not document whether a permissions boundary limits what a policy gives to everyone"
_OTHER_SERVICE = bit("DescribeKey")
"""Stands for an operation of another service: the condition keys that every request has are those of this one."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way: through which statement or grant, and which statements of the identity's own policies."""

    path: str
    """``policy`` of the resource, ``grant``, or ``iam`` when the identity's own policies are all there is to it."""
    via: str
    """The statement's Sid or ``#`` and its position; the grant's id; empty for ``iam``."""
    operations: tuple[str, ...]
    scope: str = ""
    identity: tuple[str, ...] = ()
    """The identity's policies (and statements) that allow it; empty when none is needed."""
    needs_iam: bool = False
    """The holder's own account has to allow it, and whether it does is not known."""
    certain: bool = True
    reason: str = ""
    """Why it is not certain."""

    def words(self) -> str:
        """For people: ``statement Use with policy x (#0), only through ...``."""
        through = {"policy": f"statement {self.via}", "grant": f"grant {self.via}", "iam": ""}[self.path]
        text = " with ".join(filter(None, (through, " or ".join(self.identity))))
        text = text or ("its own IAM" if self.needs_iam else "its own account")
        if self.needs_iam:
            text += ", if its own IAM allows"
        scope = f", {self.scope}" if self.scope else ""
        return f"{text}{scope}{'' if self.certain else f' (not known: {self.reason})'}"


@dataclass(frozen=True, slots=True)
class Gate:
    """A resource that calls are about: its facts, what its own policy says, and what a call to it always carries."""

    facts: KeyFacts
    organization: Organization
    rules: tuple[Rule, ...]
    unread: str = ""
    """Why its policy may say more than the rules."""
    by_identity: bool = False
    """Whether the identity's policies alone are enough in the resource's own account; keys want to be asked first."""
    given: Mapping[str, Value] | None = None
    grants: tuple[tuple[Grant, tuple[Verdict, ...]], ...] = ()

    def ways(self, who: Identity, actions: Iterable[str]) -> tuple[Way, ...]:
        """The ways of an identity to each of the actions; the same way for several actions is one."""
        found: dict[Way, list[str]] = {}
        caller = caller_of(who, self.organization)
        for action in actions:
            one = bit(action) if action.startswith("kms:") else _OTHER_SERVICE
            if action.startswith("kms:") and not self._possible(one, who.account):
                continue
            for way in _Asking(self, who, caller, action, one).ways():
                found.setdefault(way, []).append(action)
        return tuple(replace(way, operations=tuple(operations)) for way, operations in found.items())

    def _possible(self, one: int, account: str) -> bool:
        usable = supported(self.facts.key_spec, self.facts.key_usage) & BY_POLICY_MASK
        return bool(one & usable and (account == self.facts.account or one & CROSS_ACCOUNT_MASK))


def key_gate(key: Key, organization: Organization, given: Mapping[str, Value] | None = None) -> Gate:
    """The gate of a key; with ``given``, for calls that carry these values."""
    policy = key.policy or Policy(readable=True)
    judge = PolicyAnalyzer(policy, key.facts, organization)
    grants = tuple((grant, analyse_grant(grant, key.facts, organization, key.policy)) for grant in key.grants)
    unread = "" if policy.readable else "a statement of the key policy cannot be read"
    return Gate(key.facts, organization, judge.rules, unread, by_identity=False, given=given, grants=grants)


def resource_gate(
    facts: KeyFacts, organization: Organization, policy: Document, action: str, given: Mapping[str, Value]
) -> Gate:
    """The gate of a resource of another service, for one action: its own account's IAM, and its policy."""
    found = rules_about([policy], action, facts.arn, operation=_OTHER_SERVICE)
    home = Statement(-1, readable=True, principal_kind="Principal", principals=(Named("AWS", facts.account),))
    inside = Rule(home, True, _OTHER_SERVICE, audience(home), (), about_key=True)
    rules = (inside, *(one.rule for one in (*found.allows, *found.denies)))
    return Gate(facts, organization, rules, found.unread, by_identity=True, given=given)


def caller_of(who: Identity, organization: Organization) -> Caller:
    """The identity as the engine knows callers."""
    if who.type == "everyone":
        return Caller(Kind.IDENTITY, Origin.STRANGER, "anyone", STRANGER)
    origin = Origin.OURS if who.account in organization.accounts else Origin.NAMED
    if who.type == "account":
        return Caller(Kind.IDENTITY, origin, who.arn, who.account)
    kind = Kind.ROOT if who.type == "root" else Kind.IDENTITY
    unique = who.unique_id and (f"{who.unique_id}:session" if who.type == "role" else who.unique_id)
    return Caller(kind, origin, who.arn, who.account, who.arn, unique_id=unique)


def root_of(account: str, partition: str = "aws") -> Identity:
    """The root user of an account, whom no IAM policy limits."""
    return Identity(f"arn:{partition}:iam::{account}:root", account, "root", policies=(_EVERYTHING,))


def stranger() -> Identity:
    """Anyone with an AWS account."""
    return Identity("*", STRANGER, "everyone", collected=False, chooses_tags=True)


def uncollected(account: str, arn: str | None = None, kind: str = "account") -> Identity:
    """Someone of an account (or the account's principals as a whole) whose IAM policies are not known."""
    return Identity(arn or f"arn:aws:iam::{account}:root", account, kind, collected=False, chooses_tags=True)


def fits(constraints: str | None, context: Mapping[str, str]) -> bool:
    """Whether an encryption context (values: ``*`` for any) meets the constraints of a grant."""
    try:
        wanted = orjson.loads(constraints) if constraints else {}
    except orjson.JSONDecodeError:
        return True  # what it narrows is not known; its scope says so
    for name in ("EncryptionContextSubset", "EncryptionContextEquals"):
        pairs = wanted.get(name) if isinstance(wanted, dict) else None
        if isinstance(pairs, dict):
            if any(context.get(key) not in {value, "*"} for key, value in pairs.items()):
                return False
            if name == "EncryptionContextEquals" and set(pairs) != set(context):
                return False
    return True


class _Asking:
    """One identity that asks for one action."""

    def __init__(self, gate: Gate, who: Identity, caller: Caller, action: str, one: int) -> None:
        self._gate, self._who, self._caller, self._action, self._one = gate, who, caller, action, one
        arn = gate.facts.arn
        self._identity = rules_about(who.policies, action, arn, operation=one)
        self._boundary = rules_about([who.boundary], action, arn, operation=one) if who.boundary else None
        own = (*self._identity.allows, *self._identity.denies)
        bound = (*self._boundary.allows, *self._boundary.denies) if self._boundary else ()
        elements = [
            *(e for rule in gate.rules for e in rule.elements),
            *(e for j in (*own, *bound) for e in j.rule.elements),
        ]
        self._call = Call(
            CandidateContext(compared_values(elements), gate.facts, gate.organization),
            caller,
            one,
            INSIDE_NETWORKS,
            self._fixed(elements),
        )
        against = [*self._identity.denies, *(self._boundary.denies if self._boundary else ())]
        self._own_denies: list[tuple[Rule, bool | None]] = [(one.rule, one.certain or None) for one in against]

    def ways(self) -> Iterable[Way]:
        denies = [
            (rule, about)
            for rule in self._gate.rules
            if not rule.allow
            and rule.about_key
            and rule.operations & self._one
            and (about := rule.audience.includes(self._caller)) is not False
        ]
        home = self._who.account == self._gate.facts.account
        for rule in self._gate.rules:
            if not (rule.allow and rule.about_key and rule.operations & self._one and self._meant(rule)):
                continue
            direct = home and rule.audience.directly(self._caller)
            inside = rule.statement.position < 0
            if self._gate.by_identity and home and not direct and not inside:
                continue  # IAM alone is enough there, and is asked already
            path, via = ("iam", "") if inside else ("policy", rule.name)
            against = [*denies, *self._own_denies]
            found = list(self._tried(path, via, rule.elements, against, direct=direct))
            everyone = rule.audience.everyone or rule.audience.inverted
            if not found and direct and everyone and self._boundary is not None:
                outside = search(rule.elements, against, self._call).answer is not False
                found = [Way(path, via, (), certain=False, reason=_BEYOND)] if outside else []
            yield from found
        for grant, verdicts in self._gate.grants:
            yield from self._of_grant(grant, verdicts)

    def _of_grant(self, grant: Grant, verdicts: Sequence[Verdict]) -> Iterable[Way]:
        for verdict in verdicts:
            holder = classify(Named("AWS", verdict.principal))
            mine = verdict.principal == self._who.arn
            whole = holder.type == "account" and holder.account == self._who.account
            if self._action not in verdict.operations or not (mine or whole) or verdict.access is Access.DELETED:
                continue
            context = _context(self._gate.given)
            if context is not None and not fits(grant.constraints, context):
                continue
            direct = mine and self._who.account == self._gate.facts.account
            unsure = verdict.reason if verdict.access is Access.UNKNOWN else ""
            for way in self._tried("grant", grant.grant_id, (), self._own_denies, direct=direct):
                scope = "; ".join(filter(None, (constraint_conditions(grant.constraints), way.scope)))
                yield replace(way, scope=scope, certain=way.certain and not unsure, reason=way.reason or unsure)

    def _tried(
        self,
        path: str,
        via: str,
        elements: tuple[Element, ...],
        denies: list[tuple[Rule, bool | None]],
        *,
        direct: bool,
    ) -> Iterable[Way]:
        """At most one way: through every statement of the identity that leads there."""
        free: tuple[Judged | None, ...] = (None,)
        allows = free if direct or not self._who.collected else self._identity.allows
        needs_iam = not direct and not self._who.collected
        # What a resource gives a user by name is not limited by a boundary; what it gives a role is.
        beyond = self._boundary is None or (direct and (self._who.type == "user" or ":assumed-role/" in self._who.arn))
        bounds = free if beyond or self._boundary is None else self._boundary.allows
        certain: dict[str, tuple[Element, ...]] = {}
        unsure: dict[str, str] = {}
        for allow in allows:
            for bound in bounds:
                more = tuple(e for one in (allow, bound) if one for e in one.rule.elements)
                found = search((*elements, *more), denies, self._call)
                name = allow.name if allow and allow.document else ""
                sure = found.answer and all(one is None or one.certain for one in (allow, bound))
                if sure:
                    certain.setdefault(name, (*elements, *more))
                elif found.answer is not False:
                    unsure.setdefault(name, found.reason or "the resource of a statement is a policy variable")
        unread = self._identity.unread or (not beyond and self._boundary is not None and self._boundary.unread) or ""
        hidden = bool(unread) and not (direct and beyond) and search(elements, denies, self._call).answer is not False
        unread = unread or self._gate.unread
        if unread and (certain or unsure or hidden):
            by = tuple(filter(None, (*certain, *unsure)))
            scope = self._scope(elements, denies)
            yield Way(path, via, (), scope, by, needs_iam, certain=False, reason=unread)
        elif certain:
            # Several statements give it: what narrows it is what narrows the least of them.
            scopes = [self._scope(one, denies) for one in certain.values()]
            yield Way(path, via, (), min(scopes, key=len), tuple(filter(None, certain)), needs_iam)
        elif unsure:
            name, reason = next(iter(unsure.items()))
            by = (name,) if name else ()
            scope = self._scope(elements, denies)
            yield Way(path, via, (), scope, by, needs_iam, certain=False, reason=reason)

    def _scope(self, elements: tuple[Element, ...], denies: list[tuple[Rule, bool | None]]) -> str:
        mine = [element for element in elements if restricts(element, self._call)]
        exceptions = [
            (deny.name, [element for element in deny.elements if restricts(element, self._call)])
            for deny, _ in denies
            if deny.elements and all(is_feasible(element, self._call) for element in deny.elements)
        ]
        return describe_conditions(mine, exceptions)

    def _meant(self, rule: Rule) -> bool:
        who = rule.audience
        return not who.leaves_out(self._caller) if who.inverted else bool(who.includes(self._caller))

    def _fixed(self, elements: Iterable[Element]) -> dict[str, Value]:
        used = {key for element in elements for key in (element.key, *element.variables)}
        fixed: dict[str, Value] = {}
        tags = {name.lower(): value for name, value in self._who.tags.items()}
        for key in used:
            if key.startswith("aws:principaltag/") and not self._who.chooses_tags:
                fixed[key] = tags.get(key.removeprefix("aws:principaltag/"))
            elif self._who.type == "user" and key == "aws:username":
                fixed[key] = self._who.arn.rpartition("/")[2]
            elif "resourcetag/" in key and self._gate.facts.tags is not None:
                mine = {name.lower(): value for name, value in self._gate.facts.tags.items()}
                fixed[key] = mine.get(key.partition("/")[2])
            elif self._gate.given and key.startswith("kms:" if self._gate.by_identity else "kms:encryptioncontext:"):
                fixed[key] = None
        given = self._gate.given or {}
        version = "kms:encryptioncontext:secretversionid"
        fixed |= {key: value for key, value in given.items() if key in used and key != version}
        if given.get(version) == "*":
            fixed.pop(version, None)
        return fixed


def _context(given: Mapping[str, Value] | None) -> dict[str, str] | None:
    """The encryption context that a call always carries, by the names that Secrets Manager gives its parts."""
    if given is None:
        return None
    prefix, written = "kms:encryptioncontext:", {"secretarn": "SecretARN", "secretversionid": "SecretVersionId"}
    return {
        written.get(key.removeprefix(prefix), key.removeprefix(prefix)): value
        for key, value in given.items()
        if key.startswith(prefix) and isinstance(value, str)
    }


def operations_of(verdict: Verdict, wanted: Iterable[str]) -> tuple[str, ...]:
    """The wanted ones among a verdict's operations."""
    asked = set(wanted)
    return tuple(one for one in verdict.operations if one in asked)

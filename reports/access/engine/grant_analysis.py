"""Grants as verdicts: the grantee, who may retire it, and what a Deny in the key policy takes away again.

From the KMS developer guide, "Grants in AWS KMS", and the model of kms:ListGrants.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import orjson

from reports.access.engine.conditions import Value
from reports.access.engine.context_values import INSIDE_NETWORKS, Reach, first_name, uses_of
from reports.access.engine.kms_actions import GRANTABLE_MASK, SYMMETRIC_MASK, bit, names, supported
from reports.access.engine.model import Access, Grant, KeyFacts, Organization, Verdict, Witness, relation
from reports.access.engine.policy_parser import Named, Policy
from reports.access.engine.principals import Principal, classify
from reports.access.engine.request_principals import caller_of
from reports.access.engine.solver import Call, Rule, groups, representative, rules_of, search

_RETIRE = bit("RetireGrant")
_ANY = "-"
_NOTHING: Mapping[str, Value] = {}


def grant_shape(grant: Grant, policy: Policy | None = None) -> Grant:
    """The grant without what makes no difference to who gets in: grants of one shape need one analysis.

    Its id, name and date go, the name of a session, and the values of constraints (``-`` stands for them); a Deny in the
    key policy could tell those apart, so with one they stay.
    """
    if policy is not None and _has_deny(policy):
        return Grant(
            "",
            "",
            None,
            grant.grantee_principal,
            grant.grantee_service_principal,
            grant.retiring_principal,
            grant.retiring_service_principal,
            grant.issuing_account,
            grant.operations,
            grant.constraints,
        )
    return Grant(
        "",
        "",
        None,
        _sessionless(grant.grantee_principal),
        grant.grantee_service_principal,
        _sessionless(grant.retiring_principal),
        grant.retiring_service_principal,
        grant.issuing_account,
        grant.operations,
        _valueless(grant.constraints) if grant.constraints else None,
    )


def analyse_grant(
    grant: Grant, key_facts: KeyFacts, organization: Organization, policy: Policy | None = None
) -> tuple[Verdict, ...]:
    """Who can do what through a grant (or a shape of grants); an explicit Deny in ``policy`` takes it away again.

    Never raises on a grant's content: what cannot be read is an unknown verdict, or a scope that says so.
    """
    return tuple(_Reading(grant, key_facts, organization, policy).verdicts())


class _Reading:
    """One grant on one key."""

    __slots__ = ("_denies", "_facts", "_fixed", "_grant", "_organization", "_scope")

    def __init__(self, grant: Grant, facts: KeyFacts, organization: Organization, policy: Policy | None) -> None:
        self._grant = grant
        self._facts = facts
        self._organization = organization
        self._scope, self._fixed = _constraints(grant.constraints) if grant.constraints else ("", _NOTHING)
        self._denies = _denies(policy, facts) if policy is not None and _has_deny(policy) else []

    def verdicts(self) -> Iterator[Verdict]:
        grant = self._grant
        operations, strange, readable = _operations(grant.operations)
        operations &= supported(self._facts.key_spec, self._facts.key_usage)
        grantee = _party(grant.grantee_principal, grant.grantee_service_principal)
        if not readable:
            yield self._verdict(grantee, (), reason="its operations cannot be read")
        elif strange:
            yield self._verdict(grantee, strange, reason=f"{strange[0]} is no grant operation that is known here")
        if operations:
            yield from self._held(grantee, operations)
        for one in _retiring(grant, self._facts):
            if one != grantee or not operations & _RETIRE:
                yield from self._held(one, _RETIRE)

    def _held(self, holder: Principal | None, operations: int) -> Iterator[Verdict]:
        certain, unsure, reason = self._left(holder, operations) if self._denies else (operations, 0, "")
        if certain:
            yield self._verdict(holder, names(certain), certain)
        if unsure:
            yield self._verdict(holder, names(unsure), unsure, reason)

    def _left(self, holder: Principal | None, operations: int) -> tuple[int, int, str]:
        """The operations that no Deny takes away, those that one may, and why that is not known."""
        caller = caller_of(holder, self._facts.account, self._organization.accounts) if holder else None
        if caller is None:
            return operations, 0, ""
        reach = Reach(
            uses_of(element for rule in self._denies for element in rule.elements), self._facts, self._organization
        )
        against = [(rule, about) for rule in self._denies if (about := rule.audience.includes(caller)) is not False]
        certain, unsure, reason = 0, 0, ""
        for group in _parts(operations, [rule for rule, _ in against]):
            _, one = representative(group)
            mine = [(rule, about) for rule, about in against if rule.operations & one]
            given = self._fixed if one & SYMMETRIC_MASK else {}
            found = search((), mine, Call(reach, caller, one, INSIDE_NETWORKS, given))
            if found.answer:
                certain |= group
            elif found.answer is None:
                unsure |= group
                reason = found.reason
        return certain, unsure, reason

    def _verdict(
        self, holder: Principal | None, operations: tuple[str, ...], held: int = 0, reason: str = ""
    ) -> Verdict:
        written, account = (holder.written, holder.account) if holder else ("", None)
        access, party = _relation(holder, self._facts.account, self._organization)
        if access is Access.UNKNOWN and not reason:
            reason = "AWS knows no such principal" if written else "the grant names no grantee"
        # A constraint on the encryption context holds for what takes one, SourceArn for all but retiring.
        scoped = held & (SYMMETRIC_MASK if "encryption context" in self._scope else ~_RETIRE)
        witness = None
        if reason:
            access = Access.UNKNOWN
        elif access is not Access.DELETED:
            witness = Witness(written, account, _operation(held), _context(self._grant.constraints if scoped else None))
        return Verdict(
            access,
            written or "*",
            account,
            party,
            operations,
            "grant",
            self._grant.grant_id,
            None,
            self._scope if scoped else "",
            witness,
            reason,
        )


def _parts(operations: int, rules: list[Rule]) -> list[int]:
    """Operations that are treated alike; a constraint sets the encryption context of those that take one."""
    return [
        part
        for one in (operations & SYMMETRIC_MASK, operations & ~SYMMETRIC_MASK)
        if one
        for part in groups(one, rules, ())
    ]


@lru_cache(maxsize=4_096)
def _operation(held: int) -> str:
    return f"kms:{first_name(held)}"


@lru_cache(maxsize=65_536)
def _context(constraints: str | None) -> Mapping[str, str | tuple[str, ...]]:
    if constraints is None:
        return {}
    return {key: value for key, value in _constraints(constraints)[1].items() if isinstance(value, str)}


_READ: list[tuple[Policy, str, list[Rule]]] = []
"""The policy that was read last: the grants of one key, or of keys that are alike, come one after the other."""


def _denies(policy: Policy, facts: KeyFacts) -> list[Rule]:
    for known, arn, rules in _READ:
        if known is policy and arn == facts.arn:
            return rules
    found = [rule for rule in rules_of(policy, facts.arn) if not rule.allow and rule.about_key]
    _READ[:] = [(policy, facts.arn, found)]
    return found


def _has_deny(policy: Policy) -> bool:
    return any(statement.effect == "Deny" for statement in policy.statements)


def _relation(holder: Principal | None, owner: str, organization: Organization) -> tuple[Access, str | None]:
    if holder is None:
        return Access.UNKNOWN, None
    if holder.type == "service":
        return Access.AWS_SERVICE, None
    if holder.type == "deleted":
        return Access.DELETED, None
    if holder.account is None or holder.type in {"unknown", "public"}:
        return Access.UNKNOWN, None
    if holder.type == "account" and holder.account == owner:
        return Access.OWNER_DELEGATED, None
    return relation(holder.account, owner, organization)


@lru_cache(maxsize=65_536)
def _named(written: str) -> Principal:
    return classify(Named("AWS", written))


def _party(identity: str | None, service: str | None) -> Principal | None:
    if service:
        return Principal(service, "service")
    return _named(identity) if identity else None


def _retiring(grant: Grant, facts: KeyFacts) -> list[Principal]:
    """Who may retire it: those it names, and the account that made it when that is not the key's own."""
    found = []
    if grant.retiring_service_principal:
        found.append(Principal(grant.retiring_service_principal, "service"))
    if grant.retiring_principal:
        found.append(_named(grant.retiring_principal))
    if grant.issuing_account and facts.account not in grant.issuing_account:
        found.append(_named(grant.issuing_account))
    return list(dict.fromkeys(found)) if len(found) > 1 else found


@lru_cache(maxsize=16_384)
def _operations(text: str) -> tuple[int, tuple[str, ...], bool]:
    """The known operations, the names of the others, and whether the list can be read."""
    listed = _json(text)
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        return 0, (), False
    known, strange = 0, set()
    for one in listed:
        if (found := bit(one) & GRANTABLE_MASK) and ":" not in one:
            known |= found
        else:
            strange.add(f"kms:{one}")
    return known, tuple(sorted(strange)), bool(listed)


def constraint_scope(constraints: str | None) -> str:
    """What a grant's constraints narrow it to, in English: what a shape's verdicts lack."""
    return _constraints(constraints)[0] if constraints else ""


def _json(text: str) -> Any:
    try:
        return orjson.loads(text)
    except (orjson.JSONDecodeError, TypeError):
        return None


@lru_cache(maxsize=65_536)
def _constraints(text: str) -> tuple[str, Mapping[str, Value]]:
    """The scope in English, and the condition keys that a call through the grant carries."""
    document = _json(text)
    if document is None or document == {}:
        return ("a constraint that cannot be read", {}) if document is None and text != "null" else ("", {})
    if not isinstance(document, dict):
        return "a constraint that cannot be read", {}
    parts: list[str] = []
    fixed: dict[str, Value] = {}
    for name, value in document.items():
        if name in {"EncryptionContextSubset", "EncryptionContextEquals"} and isinstance(value, dict):
            pairs = {str(key): item for key, item in value.items() if isinstance(item, str)}
            only = "only " if name == "EncryptionContextEquals" else ""
            parts.append(f"{only}encryption context {', '.join(f'{key}={pairs[key]}' for key in sorted(pairs))}")
            fixed |= {f"kms:encryptioncontext:{key.lower()}": item for key, item in pairs.items()}
        elif name == "SourceArn" and isinstance(value, str):
            parts.append(f"only for {value}")
            fixed["aws:sourcearn"] = value
        elif value is not None:
            parts.append(f"a constraint {name} that is not known here")
    return "; ".join(parts), fixed


def _sessionless(principal: str | None) -> str | None:
    if principal and ":assumed-role/" in principal:
        return f"{principal.rpartition('/')[0]}/{_ANY}"
    return principal


@lru_cache(maxsize=65_536)
def _valueless(text: str) -> str:
    document = _json(text)
    if not isinstance(document, dict):
        return text
    bare = {
        name: dict.fromkeys(sorted(value), _ANY) if isinstance(value, dict) else _ANY if value else value
        for name, value in sorted(document.items())
    }
    return orjson.dumps(bare).decode()

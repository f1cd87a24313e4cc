"""Concrete callers, and whether a statement's Principal element means them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from reports.access.engine.policy_parser import Named, Statement
from reports.access.engine.principals import Principal, classify


class Kind(Enum):
    """What calls KMS."""

    IDENTITY = "an IAM identity or a session of one"
    ROOT = "the root user of an account"
    SERVICE = "an AWS service for itself"
    GONE = "an identity that was deleted"


class Origin(Enum):
    """Where an identity comes from, as far as organization keys are concerned."""

    OURS = "our accounts"
    NAMED = "an outside account that someone named"
    MEMBER = "an account of another organization"
    STRANGER = "any account in the world"


@dataclass(frozen=True, slots=True)
class Caller:
    """Someone who calls. ``arn`` is None for any principal of the account."""

    kind: Kind
    origin: Origin
    name: str
    account: str | None = None
    arn: str | None = None
    organization: str | None = None
    """Of a MEMBER."""
    stands_in: str = ""
    """The account to call from when any account of some kind will do."""
    unique_id: str | None = None
    """The caller is taken to be the holder of this aws:userid pattern."""


@dataclass(frozen=True, slots=True)
class Audience:
    """A Principal element, ready to be asked."""

    inverted: bool
    everyone: bool
    accounts: frozenset[str]
    arns: frozenset[str]
    roles: frozenset[tuple[str, str]]
    """Account and name of the roles among them: a session does not tell the path of its role."""
    sessions: frozenset[tuple[str, str]]
    """Account and role name of the sessions among them."""
    services: frozenset[str]
    identifiers: frozenset[str]

    def includes(self, caller: Caller) -> bool | None:
        """Whether the statement is about the caller."""
        if not self.inverted:
            return self.everyone or self._names(caller) or caller.account in self.accounts
        if self.everyone:
            return False
        if caller.kind is Kind.SERVICE:
            return caller.name not in self.services
        # The caller's account and the caller have to be listed: what is not listed is meant.
        if caller.account not in self.accounts:
            return True
        if caller.kind is Kind.ROOT:
            return False
        if not self._names(caller):
            return True
        role = _role(caller.arn or "")
        # Sessions of a listed role are others than the role: whether they are listed is a matter of their names.
        return None if role and ":role/" in (caller.arn or "") and role not in self.sessions else False

    def leaves_out(self, caller: Caller) -> bool:
        """For an inverted Allow: whether the caller is one of those listed."""
        return self.everyone or self._names(caller) or caller.account in self.accounts

    def directly(self, caller: Caller) -> bool:
        """Whether it means the caller without the detour over the caller's account."""
        return self.inverted or self.everyone or self._names(caller)

    def _names(self, caller: Caller) -> bool:
        if caller.kind is Kind.SERVICE:
            return caller.name in self.services
        if caller.kind is Kind.GONE:
            return caller.name in self.identifiers
        if caller.arn is None:
            return False
        if caller.arn in self.arns:
            return True
        return ":assumed-role/" in caller.arn and _role(caller.arn) in self.roles


def _role(arn: str) -> tuple[str, str] | None:
    parts = arn.split(":", 5)
    if len(parts) < 6:
        return None
    pieces = parts[5].split("/")
    if pieces[0] == "role":
        return parts[4], pieces[-1]
    if pieces[0] == "assumed-role" and len(pieces) > 1:
        return parts[4], pieces[1]
    return None


def audience(statement: Statement) -> Audience:
    """Read a Principal or NotPrincipal element."""
    kinds: dict[str, list[Principal]] = {}
    for named in statement.principals:
        found = classify(named)
        kinds.setdefault(found.type, []).append(found)
    identities = [one for kind in ("role", "user", "session", "federated") for one in kinds.get(kind, ())]
    return Audience(
        inverted=statement.principal_kind == "NotPrincipal",
        everyone="public" in kinds,
        accounts=frozenset(one.account for one in kinds.get("account", ()) if one.account),
        arns=frozenset(one.written for one in identities),
        roles=frozenset(role for one in kinds.get("role", ()) if (role := _role(one.written))),
        sessions=frozenset(role for one in kinds.get("session", ()) if (role := _role(one.written))),
        services=frozenset(one.written for one in kinds.get("service", ())),
        identifiers=frozenset(one.written for one in kinds.get("deleted", ())),
    )


def caller_of(found: Principal, owner: str, ours: frozenset[str]) -> Caller | None:
    """The caller that a named principal stands for; None for one that stands for nobody in particular."""
    origin = Origin.OURS if found.account == owner or found.account in ours else Origin.NAMED
    match found.type:
        case "account":
            return Caller(Kind.IDENTITY, origin, f"arn:aws:iam::{found.account}:root", found.account)
        case "role" | "user" | "session" | "federated" if found.account:
            return Caller(Kind.IDENTITY, origin, found.written, found.account, found.written)
        case "service":
            return Caller(Kind.SERVICE, Origin.NAMED, found.written)
        case "deleted":
            return Caller(Kind.GONE, Origin.OURS, found.written)
        case _:
            return None


def caller_named(text: str, owner: str, ours: frozenset[str]) -> Caller | None:
    """The caller of a question: an ARN, an account id, a service name or a unique id."""
    found = classify(Named("AWS", text))
    if found.type == "account" and text.endswith(":root"):
        origin = Origin.OURS if found.account == owner or found.account in ours else Origin.NAMED
        return Caller(Kind.ROOT, origin, text, found.account, text)
    return caller_of(found, owner, ours)

"""Concrete callers, and whether the Principal element of a statement includes them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from reports.access.engine.policy_parser import Named, Statement
from reports.access.engine.principals import Principal, classify


class Kind(Enum):
    """The kind of caller."""

    IDENTITY = "an IAM identity, or its session"
    ROOT = "the root user of an account"
    SERVICE = "an AWS service on its own behalf"
    DELETED = "a deleted identity"


class Origin(Enum):
    """The origin of an identity, in relation to the organization."""

    OURS = "an account of the organization"
    NAMED = "a foreign account that the policy names"
    MEMBER = "an account of another organization"
    STRANGER = "an unrelated account"


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller. ``arn`` is None for any principal of the account."""

    kind: Kind
    origin: Origin
    name: str
    account: str | None = None
    arn: str | None = None
    organization: str | None = None
    """The organization of a MEMBER."""
    representative_account: str = ""
    """The account to use when any account of some kind qualifies."""
    unique_id: str | None = None
    """The aws:userid that the caller is assumed to have."""


@dataclass(frozen=True, slots=True)
class Audience:
    """A parsed Principal or NotPrincipal element."""

    inverted: bool
    everyone: bool
    accounts: frozenset[str]
    arns: frozenset[str]
    roles: frozenset[tuple[str, str]]
    """Account and name of the listed roles: a session ARN does not contain the path of its role."""
    sessions: frozenset[tuple[str, str]]
    """Account and role name of the listed sessions."""
    services: frozenset[str]
    identifiers: frozenset[str]

    def includes(self, caller: Caller) -> bool | None:
        """Whether the statement applies to the caller; None for unknown."""
        if not self.inverted:
            return self.everyone or self._names(caller) or caller.account in self.accounts
        if self.everyone:
            return False
        if caller.kind is Kind.SERVICE:
            return caller.name not in self.services
        # NotPrincipal excludes a caller only if it lists both the account and the caller.
        if caller.account not in self.accounts:
            return True
        if caller.kind is Kind.ROOT:
            return False
        if not self._names(caller):
            return True
        role = _role(caller.arn or "")
        # A session of a listed role is a principal of its own: excluded only if it is listed by name.
        return None if role and ":role/" in (caller.arn or "") and role not in self.sessions else False

    def leaves_out(self, caller: Caller) -> bool:
        """For an inverted Allow: whether the caller is listed."""
        return self.everyone or self._names(caller) or caller.account in self.accounts

    def allows(self, caller: Caller) -> bool:
        """For an Allow: whether it certainly includes the caller."""
        return not self.leaves_out(caller) if self.inverted else bool(self.includes(caller))

    def directly(self, caller: Caller) -> bool:
        """Whether it includes the caller itself, and not only the caller's account."""
        return self.inverted or self.everyone or self._names(caller)

    def _names(self, caller: Caller) -> bool:
        if caller.kind is Kind.SERVICE:
            return caller.name in self.services
        if caller.kind is Kind.DELETED:
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
    resource = parts[5].split("/")
    if resource[0] == "role":
        return parts[4], resource[-1]
    if resource[0] == "assumed-role" and len(resource) > 1:
        return parts[4], resource[1]
    return None


def audience(statement: Statement) -> Audience:
    """Parse the Principal or NotPrincipal element of a statement."""
    kinds: dict[str, list[Principal]] = {}
    for named in statement.principals:
        principal = classify(named)
        kinds.setdefault(principal.type, []).append(principal)
    identities = [item for kind in ("role", "user", "session", "federated") for item in kinds.get(kind, ())]
    return Audience(
        inverted=statement.principal_kind == "NotPrincipal",
        everyone="public" in kinds,
        accounts=frozenset(item.account for item in kinds.get("account", ()) if item.account),
        arns=frozenset(item.written for item in identities),
        roles=frozenset(role for item in kinds.get("role", ()) if (role := _role(item.written))),
        sessions=frozenset(role for item in kinds.get("session", ()) if (role := _role(item.written))),
        services=frozenset(item.written for item in kinds.get("service", ())),
        identifiers=frozenset(item.written for item in kinds.get("deleted", ())),
    )


def caller_of(principal: Principal, key_arn: str, ours: frozenset[str]) -> Caller | None:
    """Return the caller for a principal named in the policy of a key; None if it does not identify a caller."""
    partition = key_arn.split(":")[1]
    origin = _origin(principal.account, key_arn, ours)
    match principal.type:
        case "account":
            return Caller(Kind.IDENTITY, origin, f"arn:{partition}:iam::{principal.account}:root", principal.account)
        case "role" | "user" | "session" | "federated" if principal.account:
            return Caller(Kind.IDENTITY, origin, principal.written, principal.account, principal.written)
        case "service":
            return Caller(Kind.SERVICE, Origin.NAMED, principal.written)
        case "deleted":
            return Caller(Kind.DELETED, Origin.OURS, principal.written)
        case _:
            return None


def parse_caller(text: str, key_arn: str, ours: frozenset[str]) -> Caller | None:
    """Return the caller for an ARN, an account id, a service name or a unique id."""
    principal = classify(Named("AWS", text))
    if principal.type == "account" and text.endswith(":root"):
        return Caller(Kind.ROOT, _origin(principal.account, key_arn, ours), text, principal.account, text)
    return caller_of(principal, key_arn, ours)


def _origin(account: str | None, key_arn: str, ours: frozenset[str]) -> Origin:
    return Origin.OURS if account == key_arn.split(":")[4] or account in ours else Origin.NAMED

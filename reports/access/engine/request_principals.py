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
    """A caller. ``arn`` is None for any principal of the account, ``account`` for any account that is no caller of its own."""

    kind: Kind
    origin: Origin
    name: str
    account: str | None = None
    arn: str | None = None
    organization: str | None = None
    """The organization of a MEMBER."""
    unique_id: str | None = None
    """The unique id (or the start of one) of a user or role."""
    has_boundary: bool = False
    """Whether it has a permissions boundary, as far as known; a Deny with NotPrincipal always applies to it then."""
    may_have_mentioned_id: bool = True
    """Whether a unique id that a policy mentions can be the caller's."""


@dataclass(frozen=True, slots=True)
class Audience:
    """A parsed Principal or NotPrincipal element."""

    inverted: bool
    everyone: bool
    accounts: frozenset[str]
    arns: frozenset[str]
    roles: frozenset[tuple[str, str]]
    """Account and name of the listed roles: a session ARN does not contain the path of its role."""
    services: frozenset[str]
    identifiers: frozenset[str]

    def includes(self, caller: Caller) -> bool | None:
        """Whether the statement applies to the caller; None for unknown."""
        if not self.inverted:
            return self.everyone or self._names(caller) or caller.account in self.accounts
        if caller.has_boundary:
            return True
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
        # A session of a listed role is a principal of its own: excluded only if it is listed by name.
        return None if ":role/" in (caller.arn or "") else False

    def applies_to(self, caller: Caller) -> Applies:
        """Whether the statement applies to the caller; the audience itself where that differs among the caller's identities."""
        if self.inverted and caller.has_boundary:
            return True
        if self.inverted and caller.arn and caller.account in self.accounts and self.sessions_of(caller):
            return self
        if not self.everyone and caller.arn is None:
            if caller.kind is Kind.SERVICE:
                depends = caller.name == "*" and bool(self.services)
            elif caller.account in self.accounts:
                depends = self.inverted
            else:
                depends = not self.inverted and any(f"::{caller.account}:" in arn for arn in self.arns)
            if depends:
                return self
        return self.includes(caller)

    def parts_of(self, caller: Caller) -> list[str]:
        """Return the listed principals that are a part of the caller: of an account, of a role, or of all services."""
        if self.inverted or self.everyone or caller.kind is Kind.ROOT or caller.account in self.accounts:
            return []
        if caller.kind is Kind.SERVICE:
            return sorted(self.services) if caller.name == "*" else []
        if caller.arn is None:
            return sorted(arn for arn in self.arns if f"::{caller.account}:" in arn)
        return self.sessions_of(caller)

    def exempts_part_of(self, caller: Caller) -> bool:
        """Whether NotPrincipal lists the caller, or users, roles or sessions of its account or role."""
        if not self.inverted or caller.kind is not Kind.IDENTITY or caller.account not in self.accounts:
            return False
        if caller.arn is None:
            return any(f"::{caller.account}:" in arn for arn in self.arns)
        return caller.arn in self.arns or bool(self.sessions_of(caller))

    def sessions_of(self, caller: Caller) -> list[str]:
        """Return the listed sessions of a role."""
        role = role_name(caller.arn) if caller.arn and ":role/" in caller.arn else None
        return sorted(arn for arn in self.arns if role and ":assumed-role/" in arn and role_name(arn) == role)

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
        return ":assumed-role/" in caller.arn and role_name(caller.arn) in self.roles


Applies = bool | None | Audience
"""Whether a statement applies to a caller (None for unknown), or the audience that decides it for each identity."""


def role_name(arn: str) -> tuple[str, str] | None:
    """Return the account and name of the role that an ARN of a role or session names."""
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
    principals = [classify(named) for named in statement.principals]

    def written(*types: str) -> frozenset[str]:
        return frozenset(principal.written for principal in principals if principal.type in types)

    return Audience(
        inverted=statement.principal_kind == "NotPrincipal",
        everyone=bool(written("public")),
        accounts=frozenset(each.account for each in principals if each.type == "account" and each.account),
        arns=written("role", "user", "session", "federated"),
        roles=frozenset(role for arn in written("role") if (role := role_name(arn))),
        services=written("service"),
        identifiers=written("deleted"),
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

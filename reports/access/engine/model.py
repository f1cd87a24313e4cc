"""What the engine is told and what it answers: the organization, a key, a grant; verdicts, their witnesses, and their sentences."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Access(StrEnum):
    """How the holder of an access stands to the key's owner."""

    OWNER_DIRECT = "owner_direct"
    """A principal of the key's own account, by name: no IAM policy is needed."""
    OWNER_DELEGATED = "owner_delegated"
    """The key's own account: its IAM policies decide who."""
    ORGANIZATION = "organization"
    VENDOR = "vendor"
    """An account outside, of a known party."""
    EXTERNAL = "external"
    """An account outside that nobody knows."""
    PUBLIC = "public"
    """Anyone with an AWS account."""
    PUBLIC_VIA_SERVICE = "public_via_service"
    """Anyone with an AWS account, as long as an AWS service makes the call for them."""
    AWS_SERVICE = "aws_service"
    DELETED = "deleted"
    """A principal that no longer exists; nobody holds this."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Organization:
    """Who we are. Accounts that are neither ours nor a party's are unknown outsiders."""

    organization_id: str | None = None
    accounts: frozenset[str] = frozenset()
    parties: Mapping[str, str] = field(default_factory=dict)
    """Outside account id to the name of a known party."""
    organization_paths: Mapping[str, str] = field(default_factory=dict)
    """Account id to its path, as aws:PrincipalOrgPaths has it (``o-x/r-x/ou-x/``)."""
    now: dt.datetime | None = None
    """When given, conditions on the time are judged at this time; else any time is taken as reachable."""


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """What is known about the key; None is not known."""

    arn: str
    account: str
    manager: str | None = None
    """CUSTOMER or AWS."""
    tags: Mapping[str, str] | None = None
    aliases: tuple[str, ...] | None = None
    """With the prefix ``alias/``."""
    key_spec: str | None = None
    key_usage: str | None = None
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """A grant, as kms:ListGrants has it and the ledger keeps it."""

    key_arn: str
    grant_id: str
    name: str | None = None
    grantee_principal: str | None = None
    grantee_service_principal: str | None = None
    retiring_principal: str | None = None
    retiring_service_principal: str | None = None
    issuing_account: str | None = None
    operations: str = "[]"
    """JSON list."""
    constraints: str | None = None
    """JSON object: EncryptionContextSubset, EncryptionContextEquals, SourceArn."""
    created_at: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class Witness:
    """One concrete call that the policy or grant lets through."""

    caller: str
    account: str | None
    operation: str
    context: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict, hash=False)
    """The condition keys that the call carries, among those that the policy asks about."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One way to one key: who, what, through which statement or grant, in which context."""

    access: Access
    principal: str
    """As written; ``*`` for everyone that the statement's conditions let in."""
    account: str | None
    party: str | None
    operations: tuple[str, ...]
    """Those that have an effect, ``kms:Name``, sorted."""
    path: str
    """``policy`` or ``grant``."""
    source_id: str
    """The statement's Sid or ``#`` and its position; the grant's id."""
    statement_index: int | None
    """Of the statement in the policy, from 0."""
    conditions: str = ""
    """What narrows it, in English; empty when nothing does."""
    witness: Witness | None = None
    reason: str = ""
    """Why it is unknown."""

    @property
    def needs_iam(self) -> bool:
        """The holder's own account has to allow it as well."""
        return self.access in _WITH_IAM

    @property
    def message(self) -> str:
        """The verdict as one English sentence."""
        through = f"grant {self.source_id}" if self.path == "grant" else f"statement {self.source_id}"
        what = _listed(self.operations) or "use the key"
        who = self._who()
        scope = f", {self.conditions}" if self.conditions else ""
        if self.access is Access.UNKNOWN:
            return f"It is not known whether {who} can {what} through {through}{scope}: {self.reason}."
        if self.access is Access.DELETED:
            return f"{_capital(who)} no longer exists; {through} still allows it {what}{scope}."
        if self.access is Access.OWNER_DELEGATED:
            iam = f", if IAM policies in account {self.account} allow it"
        elif self.needs_iam:
            iam = ", if its own IAM allows" if self.account else ", if their own IAM allows"
        else:
            iam = ""
        return f"{_capital(who)} can {what} through {through}{iam}{scope}."

    def _who(self) -> str:
        party = f" ({self.party})" if self.party else ""
        if self.access is Access.PUBLIC:
            return "anyone in any AWS account"
        if self.access is Access.PUBLIC_VIA_SERVICE:
            return "anyone in any AWS account, through an AWS service,"
        if self.access is Access.AWS_SERVICE:
            return "any AWS service" if self.principal == "*" else f"the AWS service {self.principal}"
        if self.access is Access.ORGANIZATION and self.account is None:
            return "every account of the organization"
        if self.principal == "*":
            return (
                f"every principal of account {self.account}{party}" if self.account else "someone outside the account"
            )
        if self.account and self.principal in {self.account, f"arn:aws:iam::{self.account}:root"}:
            return f"account {self.account}{party}"
        return f"{self.principal}{party}" if self.principal else "a principal that is not named"


_WITH_IAM = frozenset(
    {
        Access.OWNER_DELEGATED,
        Access.ORGANIZATION,
        Access.VENDOR,
        Access.EXTERNAL,
        Access.PUBLIC,
        Access.PUBLIC_VIA_SERVICE,
    }
)


_WORDS = ("a principal", "account ", "any ", "anyone ", "every ", "someone ", "the ")


def _capital(text: str) -> str:
    return text[0].upper() + text[1:] if text.startswith(_WORDS) else text


def _listed(operations: tuple[str, ...]) -> str:
    if len(operations) <= 3:
        return ", ".join(operations)
    first = [
        name for name in ("kms:Decrypt", "kms:Encrypt", "kms:CreateGrant", "kms:PutKeyPolicy") if name in operations
    ]
    shown = (first + [name for name in operations if name not in first])[:2]
    return f"{', '.join(shown)} and {len(operations) - 2} more"


@dataclass(frozen=True, slots=True)
class LintFinding:
    """Something about a policy that its owner would want to know; it is no verdict."""

    code: str
    source_id: str
    """The statement's Sid or ``#`` and its position; empty when it is about the whole policy."""
    statement_index: int | None
    message: str


@dataclass(frozen=True, slots=True)
class Analysis:
    """All that a key policy says."""

    verdicts: tuple[Verdict, ...]
    lint_findings: tuple[LintFinding, ...]


class Effect(StrEnum):
    """The answer to one concrete question."""

    ALLOW = "allow"
    DENY = "deny"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether one call is let through by the key policy, and which statement says so."""

    effect: Effect
    source_id: str = ""
    """The statement; empty when none speaks of the call."""
    statement_index: int | None = None
    needs_iam: bool = False
    """The allowance counts only if the caller's own account allows it too."""
    reason: str = ""
    context: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict, hash=False)


def relation(account: str | None, owner: str, organization: Organization) -> tuple[Access, str | None]:
    """How an account stands to the key, and its party's name."""
    if account is None:
        return Access.UNKNOWN, None
    if account == owner:
        return Access.OWNER_DIRECT, None
    if account in organization.accounts:
        return Access.ORGANIZATION, None
    party = organization.parties.get(account)
    return (Access.VENDOR, party) if party else (Access.EXTERNAL, None)

"""The engine's inputs (organization, key, grant) and outputs (verdicts with their witnesses and messages)."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Access(StrEnum):
    """How the grantee is related to the key's owner."""

    OWNER_DIRECT = "owner_direct"
    """A named principal of the key's own account; needs no IAM policy."""
    OWNER_DELEGATED = "owner_delegated"
    """The key's own account, where IAM policies decide which principals have access."""
    ORGANIZATION = "organization"
    VENDOR = "vendor"
    """A foreign account of a known party."""
    EXTERNAL = "external"
    """A foreign account of no known party."""
    PUBLIC = "public"
    """Anyone with an AWS account."""
    PUBLIC_VIA_SERVICE = "public_via_service"
    """Anyone with an AWS account, provided that an AWS service makes the call on their behalf."""
    AWS_SERVICE = "aws_service"
    DELETED = "deleted"
    """A deleted principal; nobody has this access."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Organization:
    """The organization and the known parties. All other accounts are external."""

    organization_id: str | None = None
    accounts: frozenset[str] = frozenset()
    parties: Mapping[str, str] = field(default_factory=dict)
    """Foreign account id to the name of a known party."""
    organization_paths: Mapping[str, str] = field(default_factory=dict)
    """Account id to its path, as aws:PrincipalOrgPaths has it (``o-x/r-x/ou-x/``)."""
    now: dt.datetime | None = None
    """The time at which conditions on the time are evaluated; None tries any time."""


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """The facts about a key; None means unknown."""

    arn: str
    account: str
    manager: str | None = None
    """CUSTOMER or AWS."""
    tags: Mapping[str, str] | None = None
    aliases: tuple[str, ...] | None = None
    """Each with the prefix ``alias/``."""
    key_spec: str | None = None
    key_usage: str | None = None
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """A grant, as kms:ListGrants returns it and the ledger stores it."""

    key_arn: str
    grant_id: str
    name: str | None = None
    grantee_principal: str | None = None
    grantee_service_principal: str | None = None
    retiring_principal: str | None = None
    retiring_service_principal: str | None = None
    issuing_account: str | None = None
    operations: str = "[]"
    """A JSON list."""
    constraints: str | None = None
    """A JSON object: EncryptionContextSubset, EncryptionContextEquals, SourceArn."""
    created_at: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class Witness:
    """A concrete request that the policy or grant allows: the proof of a verdict."""

    caller: str
    account: str | None
    operation: str
    context: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict, hash=False)
    """The condition keys that the request carries, limited to those that the policy tests."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One access path to one key: principal, operations, statement or grant, and conditions."""

    access: Access
    principal: str
    """As written; ``*`` for everyone who meets the statement's conditions."""
    account: str | None
    party: str | None
    operations: tuple[str, ...]
    """The effective operations as ``kms:Name``, sorted."""
    path: str
    """``policy`` or ``grant``."""
    source_id: str
    """The statement's Sid, or ``#`` and its position; or the grant's id."""
    statement_index: int | None
    """The statement's position in the policy, from 0."""
    conditions: str = ""
    """The conditions that restrict the access, in English; empty for none."""
    witness: Witness | None = None
    reason: str = ""
    """Why the access is unknown."""

    @property
    def needs_iam(self) -> bool:
        """Whether IAM policies of the principal's own account have to allow it as well."""
        return self.access in _WITH_IAM and not self.by_service

    @property
    def by_service(self) -> bool:
        """Whether an AWS service makes the requests, for resources of an external account: IAM policies do not limit it."""
        is_service = "." in self.principal and not self.principal.startswith("arn:")
        return self.access in OTHER_ACCOUNT and (is_service or self.conditions.startswith(THROUGH_SERVICE))

    @property
    def message(self) -> str:
        """The verdict as an English sentence."""
        source = f"grant {self.source_id}" if self.path == "grant" else f"statement {self.source_id}"
        operations = _summarize(self.operations) or "use the key"
        principal = self._describe_principal()
        conditions = f", {self.conditions}" if self.conditions else ""
        if self.access is Access.UNKNOWN:
            return (
                f"Could not determine whether {principal} can {operations} through {source}{conditions}: {self.reason}."
            )
        if self.access is Access.DELETED:
            return f"{_capitalize(principal)} no longer exists; {source} still allows it {operations}{conditions}."
        if self.access is Access.OWNER_DELEGATED:
            iam = f", if IAM policies in account {self.account} allow it"
        elif self.needs_iam:
            iam = ", if its own IAM policies allow it" if self.account else ", if their own IAM policies allow it"
        else:
            iam = ""
        return f"{_capitalize(principal)} can {operations} through {source}{iam}{conditions}."

    def _describe_principal(self) -> str:
        party = f" ({self.party})" if self.party else ""
        if self.access is Access.PUBLIC:
            return "anyone in any AWS account"
        if self.access is Access.PUBLIC_VIA_SERVICE:
            return "anyone in any AWS account, through an AWS service,"
        if self.access is Access.AWS_SERVICE:
            return "any AWS service" if self.principal == "*" else f"the AWS service {self.principal}"
        if self.access is Access.ORGANIZATION and self.account is None:
            return "every account of the organization"
        if self.by_service:
            name = "an AWS service" if self.principal == "*" else f"the AWS service {self.principal}"
            return f"{name} on behalf of {self.account or 'an external account'}{party}"
        if self.principal == "*":
            if self.account:
                return f"every principal of account {self.account}{party}"
            return "a principal of an external account"
        if self.account and _ROOT.sub(r"\1", self.principal) == self.account:
            return f"account {self.account}{party}"
        return f"{self.principal}{party}" if self.principal else "an unnamed principal"


THROUGH_SERVICE = "through an AWS service"
"""The beginning of the conditions of any service that acts for resources of an account."""
OTHER_ACCOUNT = frozenset({Access.ORGANIZATION, Access.VENDOR, Access.EXTERNAL})
_WITH_IAM = OTHER_ACCOUNT | {Access.OWNER_DELEGATED, Access.PUBLIC, Access.PUBLIC_VIA_SERVICE}
_ROOT = re.compile(r"arn:[a-z-]+:iam::([0-9]{12}):root")
_LOWER_CASE_STARTS = ("a principal", "an AWS", "an unnamed", "account ", "any ", "anyone ", "every ", "the ")


def _capitalize(text: str) -> str:
    return text[0].upper() + text[1:] if text.startswith(_LOWER_CASE_STARTS) else text


def _summarize(operations: tuple[str, ...]) -> str:
    if len(operations) <= 3:
        return ", ".join(operations)
    important = ("kms:Decrypt", "kms:Encrypt", "kms:CreateGrant", "kms:PutKeyPolicy")
    first = [name for name in important if name in operations]
    examples = (first + [name for name in operations if name not in first])[:2]
    return f"{', '.join(examples)} and {len(operations) - 2} more"


@dataclass(frozen=True, slots=True)
class LintFinding:
    """A problem in a policy that its owner should know about; not an access path."""

    code: str
    source_id: str
    """The statement's Sid, or ``#`` and its position; empty for the policy as a whole."""
    statement_index: int | None
    message: str


@dataclass(frozen=True, slots=True)
class Analysis:
    """The result of analyzing a key policy."""

    verdicts: tuple[Verdict, ...]
    lint_findings: tuple[LintFinding, ...]


class Effect(StrEnum):
    """The effect of a policy on one request."""

    ALLOW = "allow"
    DENY = "deny"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether the key policy allows one request, and which statement decides it."""

    effect: Effect
    source_id: str = ""
    """The deciding statement; empty when none applies to the request."""
    statement_index: int | None = None
    needs_iam: bool = False
    """Whether IAM policies of the caller's own account have to allow it as well."""
    reason: str = ""
    context: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict, hash=False)


def relation(account: str | None, owner: str, organization: Organization) -> tuple[Access, str | None]:
    """Return the relation of an account to the key's owner, and the name of its party."""
    if account is None:
        return Access.UNKNOWN, None
    if account == owner:
        return Access.OWNER_DIRECT, None
    if account in organization.accounts:
        return Access.ORGANIZATION, None
    party = organization.parties.get(account)
    return (Access.VENDOR, party) if party else (Access.EXTERNAL, None)

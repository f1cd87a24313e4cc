"""The first settings file: what AWS says about the caller and its organization, and the file's text.

Sources: sts:GetCallerIdentity, organizations:DescribeOrganization and organizations:ListAccounts.
"""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from crawler.aws.client import AwsClient
from crawler.aws.credentials import CALLER_IDENTITY, Identity, Roles, iam_arn
from crawler.aws.errors import AwsError
from crawler.aws.response_validation import INVALID_ITEM
from crawler.discovery import ACTIVE, DESCRIBE_ORGANIZATION, LIST_ACCOUNTS
from models.errors import UserError
from models.safe_text import printable
from models.settings import AwsSettings, RoleSettings
from models.settings.crawl import CrawlSettings

NO_ORGANIZATION = "AWSOrganizationsNotInUseException"
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./@+-]*")
_PLAIN_VALUES = {"null", "Null", "NULL", "true", "false"}


@dataclass(slots=True)
class Findings:
    """What AWS returned about the caller; a value that it did not return is ``None``, and ``problems`` says why."""

    identity: Identity | None = None
    in_organization: bool | None = None
    organization_id: str | None = None
    management_account: str | None = None
    accounts: int | None = None
    active_accounts: int | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def principal(self) -> str | None:
        """The ARN of the caller as a policy names it; a session's role without its path, which the session does not show."""
        if self.identity is None:
            return None
        arn = iam_arn(self.identity.arn)
        return arn if ":iam:" in arn else None

    def to_text(self) -> list[str]:
        """The lines that tell a user what was found."""
        lines = []
        if self.identity is not None:
            lines.append(f"caller: {self.identity.arn} in account {self.identity.account_id}")
        if self.in_organization is False:
            lines.append("organization: none; only this account is crawled")
        elif self.organization_id:
            lines.append(
                f"organization: {self.organization_id}{self._size()}, managed by account {self.management_account}"
            )
        return lines

    def _size(self) -> str:
        if self.accounts is None:
            return ""
        return f" with {self.accounts} account{'' if self.accounts == 1 else 's'} ({self.active_accounts} active)"


@dataclass(frozen=True, slots=True)
class Choices:
    """The answers from which the settings are written; ``None`` is not set."""

    profile: str | None = None
    region: str = "us-east-1"
    endpoint_url: str | None = None
    role_name: str = "KmsInventoryReadOnly"
    external_id: str | None = None
    iam: bool = False
    owner_tag: str | None = "Owner"


def look(aws: AwsSettings) -> Findings:
    """Return what AWS says about the caller, with read-only calls. Nothing is raised: what fails is a problem in the result."""
    findings = Findings()
    try:
        asyncio.run(_look(aws, findings))
    except UserError as error:
        findings.problems.append(error.message)
    return findings


async def _look(aws: AwsSettings, findings: Findings) -> None:
    with closing(AwsClient(aws, CrawlSettings(max_attempts=2, call_deadline=30))) as client:
        roles = Roles(client, aws, RoleSettings(), [])
        operation = CALLER_IDENTITY
        try:
            findings.identity = await roles.identity()
            operation = DESCRIBE_ORGANIZATION
            response = await client.call(roles.own, operation, aws.region, {})
            organization = response["Organization"]
            findings.organization_id = _identifier(organization["Id"], r"o-[a-z0-9]{6,32}")
            findings.management_account = _identifier(organization["MasterAccountId"], r"[0-9]{12}")
            findings.in_organization = True
            operation = LIST_ACCOUNTS
            states = [
                account.get("State") or account.get("Status")
                async for page in client.pages(roles.own, operation, aws.region, {})
                for account in page["Accounts"]
            ]
            findings.accounts, findings.active_accounts = len(states), states.count(ACTIVE)
        except AwsError as error:
            if error.code == NO_ORGANIZATION:
                findings.in_organization = False
            else:
                findings.problems.append(f"{operation.iam_action} failed: {_reason(error)}")
        except INVALID_ITEM:
            findings.problems.append(f"{operation.iam_action} returned an invalid response")


def _identifier(value: Any, pattern: str) -> str:
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise ValueError("not an identifier")
    return value


def _reason(error: AwsError) -> str:
    return f"{error.cause.text} ({printable(error.code)}: {printable(error.message)})"


def settings_text(choices: Choices, findings: Findings) -> str:
    """Return a commented settings file, which has what differs from the defaults or is likely to be changed."""
    external_id = f"""\
  # The trust policy of the role requires this value: treat it as a secret.
  external_id: {choices.external_id}
"""
    owners = (
        f"owners:\n  - tag: {_scalar(choices.owner_tag)}"
        if choices.owner_tag is not None
        else "# owners:\n#   - tag: Owner"
    )
    return f"""\
{_HEADER}
{_aws(choices, findings)}
{_organization(findings)}
role:
  # The role to assume in every account except the crawler's own. `kmsledger permissions` prints its policies.
  name: {_scalar(choices.role_name)}
{external_id if choices.external_id else ""}
crawl:
  # Read IAM users, roles and policies: with them, access that key policies delegate to IAM is reported as actual, not as
  # possible. The member role then needs iam:GetAccountAuthorizationDetails.
  iam: {"true" if choices.iam else "false"}

# Findings show the owner of a resource: the value of this tag. config.example.yaml has more kinds of owners.
{owners}

{_FOOTER}"""


_HEADER = """\
# Settings of kmsledger, written by `kmsledger init`. What is not set here has its default; config.example.yaml in the repository
# describes every setting. `kmsledger config check` checks this file. Relative paths are relative to its directory.

# The ledger: a SQLite file, or postgresql://USER@HOST/DATABASE.
database: sqlite:///kmsledger.db
"""
_FOOTER = """\
report:
  # Each run writes its reports here.
  directory: reports-out

# To mail the reports after each `kmsledger nightly`, uncomment this group; docs/delivery.md has Amazon SES, webhooks and chats.
# mail:
#   host: smtp.example.org
#   username: kmsledger
#   password: ${KMSLEDGER_MAIL_PASSWORD}
#   sender: kmsledger@example.org
#   recipients: [security@example.org]
"""


def _aws(choices: Choices, findings: Findings) -> str:
    caller = (
        f"When this was written, the caller was {findings.identity.arn}."
        if findings.identity
        else "Nothing is known of the caller, because AWS gave no answer."
    )
    profile = f"  profile: {_scalar(choices.profile)}\n" if choices.profile else ""
    endpoint = (
        f"  # One endpoint for all services.\n  endpoint_url: {_scalar(choices.endpoint_url)}\n"
        if choices.endpoint_url
        else ""
    )
    source = f"profile {choices.profile}" if choices.profile else "the environment or the attached role"
    return f"""\
aws:
  # The crawler's own credentials come from {printable(source)}.
  # {caller}
{profile}  # Home region, for calls to STS and Organizations.
  region: {choices.region}
{endpoint}"""


def _organization(findings: Findings) -> str:
    if findings.in_organization is False and findings.identity is not None:
        return f"""\
# The account belongs to no organization.
organization:
  source: list
  accounts: [{findings.identity.account_id}]
"""
    found = "\n".join(f"# {line}" for line in findings.to_text() if line.startswith("organization"))
    reader = ""
    if findings.accounts is None:
        account = findings.management_account or "123456789012"
        reader = f"""\
  # The accounts could not be listed. If the crawler does not run in the management account or a delegated administrator account,
  # create a role there that it may assume (`kmsledger permissions --role reader`), and name it:
  # reader_role: arn:aws:iam::{account}:role/KmsInventoryOrganizationReader
"""
    comment = f"{found}\n" if found else ""
    return f"""\
{comment}organization:
  # All active accounts of the organization; include and exclude filter by account, organizational unit, tag or name.
  source: organizations
{reader}"""


def _scalar(text: str) -> str:
    """Return text as a YAML scalar that is read back as it is."""
    if _PLAIN.fullmatch(text) and text not in _PLAIN_VALUES:
        return text
    quoted = json.dumps(text.replace("$", "$$"), ensure_ascii=False)
    return "".join(letter if letter.isprintable() else f"\\U{ord(letter):08x}" for letter in quoted)

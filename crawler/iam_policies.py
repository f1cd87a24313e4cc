"""Builds the least-privilege IAM policies of the crawler from the declared operations."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Self

from crawler import discovery
from crawler.aws import credentials
from crawler.services.iam import GET_ACCOUNT_AUTHORIZATION_DETAILS
from crawler.services.key_last_usage import GET_KEY_LAST_USAGE
from crawler.services.kms import ALIASES, KEY_STORES, KEYS
from crawler.services.resource_types import RESOURCE_TYPES
from crawler.spec import Operation, ResourceType
from models.errors import InvalidSettingsError
from models.settings import Settings
from models.settings.crawl import CrawlSettings

NEVER = (
    "kms:CreateGrant",
    "kms:Decrypt",
    "kms:DisableKey",
    "kms:Encrypt",
    "kms:GenerateDataKey*",
    "kms:PutKeyPolicy",
    "kms:ReEncrypt*",
    "kms:ScheduleKeyDeletion",
    "kms:Sign",
    "rds-data:*",
    "s3:GetObject*",
    "secretsmanager:BatchGetSecretValue",
    "secretsmanager:GetSecretValue",
)
"""Explicitly denied actions: an auditor can verify in the role itself that it reads metadata only."""

Tier = Literal["configured", "minimal", "full"]
"""What the settings require; that without optional reads (IAM, policies of secrets, last use) and fallbacks; what any settings
require."""

ALL_ENABLED = CrawlSettings(iam=True)
"""Settings with which every declared operation is called."""


def configured_types(names: Iterable[str]) -> tuple[ResourceType, ...]:
    """Return the configured resource types; all of them when none is named. Raises InvalidSettingsError for unknown names."""
    names = list(names)
    if not names:
        return RESOURCE_TYPES
    known = {kind.name: kind for kind in RESOURCE_TYPES}
    problems = []
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(sorted(known))}"
            problems.append(f"crawl.resource_types: unknown resource type {name}: {hint}")
    if problems:
        raise InvalidSettingsError("\n".join(problems))
    return tuple(known[name] for name in names)


def key_operations() -> tuple[Operation, ...]:
    """Return the operations called for keys."""
    steps = (step for listing in (ALIASES, KEYS, KEY_STORES) for step in listing.walk())
    return (*dict.fromkeys(step.operation for step in steps), GET_KEY_LAST_USAGE)


def operations(
    kinds: Iterable[ResourceType] = RESOURCE_TYPES, crawl: CrawlSettings = ALL_ENABLED
) -> tuple[Operation, ...]:
    """Return every operation that a crawl may call, by default with all settings enabled; the client accepts no other."""
    of_resources = (
        operation
        for kind in kinds
        for operation in kind.operations
        if crawl.secret_policies or operation is not kind.policy_operation
    )
    of_iam = (GET_ACCOUNT_AUTHORIZATION_DETAILS,) if crawl.iam else ()
    of_keys = (
        operation for operation in key_operations() if crawl.last_use.enabled or operation is not GET_KEY_LAST_USAGE
    )
    declared = (*of_keys, *of_resources, *of_iam, *discovery.OPERATIONS, *credentials.OPERATIONS)
    return tuple(dict.fromkeys(declared))


def member_actions(kinds: Iterable[ResourceType] = RESOURCE_TYPES, crawl: CrawlSettings = ALL_ENABLED) -> list[str]:
    """Return the IAM actions of the member role."""
    return sorted({operation.iam_action for operation in operations(kinds, crawl) if operation.caller == "member"})


@dataclass(frozen=True, slots=True)
class Permissions:
    """The policies that an installation needs, from its settings and the declared operations.

    A value in a template (a parameter, a variable) may take the place of an ARN, a name or an external ID.
    """

    settings: Settings
    partition: str = "aws"
    tier: Tier = "configured"

    @classmethod
    def of_tier(cls, settings: Settings, tier: Tier = "configured", partition: str = "aws") -> Self:
        """Return the permissions of a tier."""
        if tier != "configured":
            full = tier == "full"
            last_use = settings.crawl.last_use.model_copy(update={"enabled": full})
            optional = {"iam": full, "secret_policies": full, "last_use": last_use}
            types = {"resource_types": ()} if full else {}
            crawl = settings.crawl.model_copy(update={**optional, **types})
            settings = settings.model_copy(update={"crawl": crawl})
        return cls(settings, partition, tier)

    @property
    def reads_organization(self) -> bool:
        """Whether the accounts come from AWS Organizations."""
        return self.settings.organization.source == "organizations"

    def member(self) -> dict[str, Any]:
        """Return the policy of the role that is assumed in every account."""
        crawl = self.settings.crawl
        allowed = member_actions(configured_types(crawl.resource_types), crawl)
        return _policy(
            {"Sid": "ReadMetadata", "Effect": "Allow", "Action": allowed, "Resource": "*"},
            {"Sid": "NeverReadData", "Effect": "Deny", "Action": list(NEVER), "Resource": "*"},
        )

    def management(self, members: Any = None) -> dict[str, Any]:
        """Return the policy of the identity that runs the crawler; it reads its own account without assuming a role.

        It also reads the organization, unless a reader role does, which it then may assume. ``members`` is the ARN of the roles.
        """
        reader = self.settings.organization.reader_role if self.reads_organization else None
        members = members or f"arn:{self.partition}:iam::*:role/{self.settings.role.name}"
        return _policy(
            *self.member()["Statement"],
            *(self.reader()["Statement"] if self.reads_organization and not reader else []),
            {
                "Sid": "AssumeTheRoles",
                "Effect": "Allow",
                "Action": ["sts:AssumeRole", *self._session_actions()],
                "Resource": [members, reader] if reader else members,
            },
            *self._mail(),
        )

    def reader(self) -> dict[str, Any]:
        """Return the policy of the role that reads the organization (``organization.reader_role``)."""
        organization = self.settings.organization
        unused = set()
        if not (organization.include.tags or organization.exclude.tags or self.tier == "full"):
            unused.add(discovery.LIST_ACCOUNT_TAGS)
        if self.tier == "minimal":
            unused |= discovery.fallback_operations(self.settings.regions)
        actions = {
            operation.iam_action
            for operation in discovery.OPERATIONS
            if operation.caller == "hub" and operation not in unused
        }
        return _policy({"Sid": "ReadTheOrganization", "Effect": "Allow", "Action": sorted(actions), "Resource": "*"})

    def trust(self, principal: Any, condition: Any = None) -> dict[str, Any]:
        """Return the trust policy of the roles: it admits the crawler's identity, with the external ID in the settings.

        Tags and a source identity are actions of their own, and the condition on the external ID applies to AssumeRole only.
        """
        external_id = self.settings.role.external_id
        if condition is None and external_id is not None:
            condition = external_id_condition(external_id.get_secret_value())
        statement = {"Effect": "Allow", "Principal": {"AWS": principal}}
        admitted: dict[str, Any] = {"Sid": "AdmitTheCrawler", **statement, "Action": "sts:AssumeRole"}
        if condition is not None:
            admitted["Condition"] = condition
        passed = self._session_actions()
        return _policy(admitted, *([{"Sid": "AdmitItsTags", **statement, "Action": passed}] if passed else []))

    def key_policy_statement(self, principal: str | None = None) -> dict[str, Any]:
        """Return the statement for a key policy that does not delegate to IAM; ``ACCOUNT`` stands for the key's account."""
        actions = {operation.iam_action for operation in key_operations() if operation.params.get("KeyId")}
        return {
            "Sid": "ReadKeyMetadata",
            "Effect": "Allow",
            "Principal": {"AWS": principal or f"arn:{self.partition}:iam::ACCOUNT:role/{self.settings.role.name}"},
            "Action": sorted(actions & {*self.member()["Statement"][0]["Action"]}),
            "Resource": "*",
        }

    def _session_actions(self) -> list[str]:
        """Return the actions that a session with a source identity or tags requires, of the caller and of the role's trust."""
        role = self.settings.role
        return [
            *(["sts:SetSourceIdentity"] if role.source_identity or self.tier == "full" else []),
            *(["sts:TagSession"] if role.session_tags or self.tier == "full" else []),
        ]

    def _mail(self) -> list[dict[str, Any]]:
        """Return the statements that send the report through Amazon SES, and check this in advance, if the settings do."""
        mail = self.settings.mail
        if mail is None or mail.ses is None:
            return []
        return [
            {
                "Sid": "SendTheReport",
                "Effect": "Allow",
                "Action": ["ses:SendEmail", "ses:SendRawEmail"],
                "Resource": "*",
                "Condition": {"StringEquals": {"ses:FromAddress": mail.sender}},
            },
            # `kmsledger doctor`; these actions do not support the condition.
            {
                "Sid": "CheckTheMail",
                "Effect": "Allow",
                "Action": ["ses:GetAccount", "ses:GetEmailIdentity"],
                "Resource": "*",
            },
        ]


def external_id_condition(external_id: Any) -> dict[str, Any]:
    """Return the condition of a trust policy that requires an external ID."""
    return {"StringEquals": {"sts:ExternalId": external_id}}


def _policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}

"""Builds the least-privilege IAM policies of the crawler from the declared operations."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from crawler import discovery
from crawler.aws import credentials
from crawler.services.iam import GET_ACCOUNT_AUTHORIZATION_DETAILS
from crawler.services.key_last_usage import GET_KEY_LAST_USAGE
from crawler.services.kms import ALIASES, KEY_STORES, KEYS
from crawler.services.resource_types import RESOURCE_TYPES
from crawler.spec import Operation, ResourceType, Step
from models.errors import UserError
from models.settings import RoleSettings
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

ALL_ENABLED = CrawlSettings(iam=True)
"""Settings with which every declared operation is called."""


class UnknownTypeError(UserError):
    """The configuration names a resource type that is not declared."""

    exit_code = 2


def configured_types(names: Iterable[str]) -> tuple[ResourceType, ...]:
    """Return the configured resource types; all of them when none is named."""
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
        raise UnknownTypeError("\n".join(problems))
    return tuple(known[name] for name in names)


def key_operations() -> tuple[Operation, ...]:
    """Return the operations called for keys."""
    listed = (operation for step in (ALIASES, KEYS, KEY_STORES) for operation in _walk(step))
    return (*dict.fromkeys(listed), GET_KEY_LAST_USAGE)


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
    declared = (*key_operations(), *of_resources, *of_iam, *discovery.OPERATIONS, *credentials.OPERATIONS)
    return tuple(dict.fromkeys(declared))


def member_actions(kinds: Iterable[ResourceType] = RESOURCE_TYPES, crawl: CrawlSettings = ALL_ENABLED) -> list[str]:
    """Return the IAM actions of the member role."""
    return sorted({operation.iam_action for operation in operations(kinds, crawl) if operation.caller == "member"})


def member_policy(kinds: Iterable[ResourceType] = RESOURCE_TYPES, crawl: CrawlSettings = ALL_ENABLED) -> dict[str, Any]:
    """Return the policy of the role that is assumed in every account."""
    return _policy(
        {"Sid": "ReadMetadata", "Effect": "Allow", "Action": member_actions(kinds, crawl), "Resource": "*"},
        {"Sid": "NeverReadData", "Effect": "Deny", "Action": list(NEVER), "Resource": "*"},
    )


def management_policy(
    role_name: str,
    partition: str = "aws",
    kinds: Iterable[ResourceType] = RESOURCE_TYPES,
    crawl: CrawlSettings = ALL_ENABLED,
    reader_role: str | None = None,
) -> dict[str, Any]:
    """Return the policy of the identity that runs the crawler; it reads its own account without assuming a role.

    It also reads the organization, unless a reader role does, which it then may assume.
    """
    members = f"arn:{partition}:iam::*:role/{role_name}"
    return _policy(
        *member_policy(kinds, crawl)["Statement"],
        *([] if reader_role else reader_policy()["Statement"]),
        {
            "Sid": "AssumeTheRoles",
            "Effect": "Allow",
            "Action": ["sts:AssumeRole", "sts:SetSourceIdentity", "sts:TagSession"],
            "Resource": [members, reader_role] if reader_role else members,
        },
    )


def reader_policy() -> dict[str, Any]:
    """Return the policy of the role that reads the organization (``organization.reader_role``)."""
    actions = sorted(
        {operation.iam_action for operation in operations() if operation.caller == "hub" and operation.service != "sts"}
    )
    return _policy({"Sid": "ReadTheOrganization", "Effect": "Allow", "Action": actions, "Resource": "*"})


def trust_policy(principal: str, role: RoleSettings) -> dict[str, Any]:
    """Return the trust policy of the roles: it admits the crawler's identity, with the external ID in the settings.

    Tags and a source identity are actions of their own, and the condition on the external ID applies to AssumeRole only.
    """
    statement = {"Effect": "Allow", "Principal": {"AWS": principal}}
    admitted: dict[str, Any] = {"Sid": "AdmitTheCrawler", **statement, "Action": "sts:AssumeRole"}
    if role.external_id is not None:
        admitted["Condition"] = {"StringEquals": {"sts:ExternalId": role.external_id.get_secret_value()}}
    passed = [
        *(["sts:SetSourceIdentity"] if role.source_identity else []),
        *(["sts:TagSession"] if role.session_tags else []),
    ]
    return _policy(admitted, *([{"Sid": "AdmitItsTags", **statement, "Action": passed}] if passed else []))


def key_policy_statement(role_name: str, partition: str = "aws") -> dict[str, Any]:
    """Return the statement for a key policy that does not delegate to IAM; ``ACCOUNT`` stands for the key's account."""
    actions = sorted({operation.iam_action for operation in key_operations() if operation.params.get("KeyId")})
    return {
        "Sid": "ReadKeyMetadata",
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:{partition}:iam::ACCOUNT:role/{role_name}"},
        "Action": actions,
        "Resource": "*",
    }


def _walk(step: Step) -> Iterable[Operation]:
    yield step.operation
    for child in step.children:
        yield from _walk(child)


def _policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}

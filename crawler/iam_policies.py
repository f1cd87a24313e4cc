"""The IAM policies that the crawler needs, derived from the declarations: no more, no less."""

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
"""Denied explicitly, so that the promise to read metadata only can be audited in the role itself."""


EVERYTHING = CrawlSettings(iam=True)
"""Settings that ask all there is to ask."""


class UnknownTypeError(UserError):
    """The configuration names a resource type that is not declared."""

    exit_code = 2


def wanted_types(names: Iterable[str]) -> tuple[ResourceType, ...]:
    """The declared resource types that the configuration wants; all of them when it names none."""
    wanted = list(names)
    if not wanted:
        return RESOURCE_TYPES
    known = {kind.name: kind for kind in RESOURCE_TYPES}
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f": did you mean {near[0]}?" if near else f"; there are {', '.join(sorted(known))}"
            raise UnknownTypeError(
                f"crawl.resource_types names {name}, which is no resource type of this program{hint}"
            )
    return tuple(known[name] for name in wanted)


def key_operations() -> tuple[Operation, ...]:
    """The operations asked about keys."""
    listed = (operation for step in (ALIASES, KEYS, KEY_STORES) for operation in _walk(step))
    return (*dict.fromkeys(listed), GET_KEY_LAST_USAGE)


def operations(
    kinds: Iterable[ResourceType] = RESOURCE_TYPES, crawl: CrawlSettings = EVERYTHING
) -> tuple[Operation, ...]:
    """Every operation that a crawl can send, by default with all settings on; there is no way to send another."""
    of_resources = (
        operation
        for kind in kinds
        for operation in kind.operations
        if crawl.secret_policies or operation is not kind.policy_operation
    )
    of_iam = (GET_ACCOUNT_AUTHORIZATION_DETAILS,) if crawl.iam else ()
    found = (*key_operations(), *of_resources, *of_iam, *discovery.OPERATIONS, *credentials.OPERATIONS)
    return tuple(dict.fromkeys(found))


def member_actions(kinds: Iterable[ResourceType] = RESOURCE_TYPES, crawl: CrawlSettings = EVERYTHING) -> list[str]:
    """IAM actions of the role in the accounts."""
    return sorted({operation.iam_action for operation in operations(kinds, crawl) if operation.caller == "member"})


def member_policy(kinds: Iterable[ResourceType] = RESOURCE_TYPES, crawl: CrawlSettings = EVERYTHING) -> dict[str, Any]:
    """The policy of the role that is assumed in every account."""
    return _policy(
        {"Sid": "ReadMetadata", "Effect": "Allow", "Action": member_actions(kinds, crawl), "Resource": "*"},
        {"Sid": "NeverReadData", "Effect": "Deny", "Action": list(NEVER), "Resource": "*"},
    )


def hub_policy(role_name: str, partition: str = "aws") -> dict[str, Any]:
    """The policy of the identity that runs the crawler, beside the member policy for its own account."""
    reading = sorted(
        {operation.iam_action for operation in operations() if operation.caller == "hub" and operation.service != "sts"}
    )
    return _policy(
        {"Sid": "ReadTheOrganization", "Effect": "Allow", "Action": reading, "Resource": "*"},
        {
            "Sid": "AssumeTheRoles",
            "Effect": "Allow",
            "Action": ["sts:AssumeRole", "sts:SetSourceIdentity", "sts:TagSession"],
            "Resource": f"arn:{partition}:iam::*:role/{role_name}",
        },
    )


def key_policy_statement(role_name: str, partition: str = "aws") -> dict[str, Any]:
    """The statement to add to a key policy that does not let IAM policies decide; ``ACCOUNT`` is the key's account."""
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

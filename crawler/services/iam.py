"""IAM of an account: users, roles, groups and their policies.

Source: the IAM API reference, operation GetAccountAuthorizationDetails, which returns all of it in one listing. IAM is a
global service and belongs to the global scope of the account.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

import orjson

from crawler.spec import Operation, Paging, Scope, Step, Subject
from models.hashing import canonical_json
from models.store.scd2_merge import Batch
from models.tables.iam import (
    AWS_ACCOUNT,
    IamAttachment,
    IamGroup,
    IamInlinePolicy,
    IamManagedPolicy,
    IamMembership,
    IamPrincipal,
    IamScan,
)
from models.tables.keys import Tag

Item = Mapping[str, Any]

REDACTED_EXTERNAL_ID = "(an external id)"
"""Replaces external ids in trust policies."""

GET_ACCOUNT_AUTHORIZATION_DETAILS = Operation(
    "iam",
    "GetAccountAuthorizationDetails",
    {"Filter": ["User", "Role", "Group", "LocalManagedPolicy", "AWSManagedPolicy"]},
    paging=Paging(receive="Marker", send="Marker", limit="MaxItems", size=1000, more="IsTruncated"),
)


def _record_page(subject: Subject, page: Item, batch: Batch) -> None:
    """Record a page; a malformed item is reported and does not discard the rest."""
    if not page.keys() & _RECORDERS.keys():
        raise ValueError(f"the page has none of {', '.join(_RECORDERS)}")
    first_error: Exception | None = None
    for member, record in _RECORDERS.items():
        for item in page.get(member) or ():
            item_batch = Batch()
            try:
                record(subject.scope, item, item_batch)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                first_error = first_error or error
            else:
                batch.extend(item_batch)
    if first_error is not None:
        raise first_error


def _user(scope: Scope, item: Item, batch: Batch) -> None:
    _principal(scope, item, batch, "user", None)
    _policies(scope, item, batch, item.get("UserPolicyList"))
    for group in item.get("GroupList") or ():
        batch.add(IamMembership, user_arn=item["Arn"], group_name=group, account_id=scope.account_id)


def _role(scope: Scope, item: Item, batch: Batch) -> None:
    _principal(
        scope, item, batch, "role", batch.document(redact_external_ids(decode_policy(item["AssumeRolePolicyDocument"])))
    )
    _policies(scope, item, batch, item.get("RolePolicyList"))


def _group(scope: Scope, item: Item, batch: Batch) -> None:
    batch.add(
        IamGroup,
        arn=item["Arn"],
        account_id=scope.account_id,
        name=item["GroupName"],
        path=item.get("Path"),
        unique_id=item.get("GroupId"),
        created_at=item.get("CreateDate"),
    )
    _policies(scope, item, batch, item.get("GroupPolicyList"))


def _principal(scope: Scope, item: Item, batch: Batch, kind: str, trust: bytes | None) -> None:
    prefix = kind.capitalize()
    arn = item["Arn"]
    batch.add(
        IamPrincipal,
        arn=arn,
        account_id=scope.account_id,
        type=kind,
        name=item[f"{prefix}Name"],
        path=item.get("Path"),
        unique_id=item.get(f"{prefix}Id"),
        created_at=item.get("CreateDate"),
        permissions_boundary_arn=(item.get("PermissionsBoundary") or {}).get("PermissionsBoundaryArn"),
        policy_hash=trust,
    )
    for tag in item.get("Tags") or ():
        batch.add(Tag, resource_arn=arn, tag_key=tag["Key"], tag_value=tag.get("Value") or "")
    batch.mark_complete(Tag, arn)


def _policies(scope: Scope, item: Item, batch: Batch, inline: Any) -> None:
    for policy in inline or ():
        batch.add(
            IamInlinePolicy,
            owner_arn=item["Arn"],
            name=policy["PolicyName"],
            account_id=scope.account_id,
            policy_hash=batch.document(decode_policy(policy["PolicyDocument"])),
        )
    for attached in item.get("AttachedManagedPolicies") or ():
        batch.add(IamAttachment, owner_arn=item["Arn"], policy_arn=attached["PolicyArn"], account_id=scope.account_id)


def _managed_policy(scope: Scope, item: Item, batch: Batch) -> None:
    arn = item["Arn"]
    is_aws_policy = arn.split(":")[4] == AWS_ACCOUNT
    if is_aws_policy and not item.get("AttachmentCount", 1) and not item.get("PermissionsBoundaryUsageCount", 1):
        # Skip the AWS managed policies that this account does not use; there are about a thousand.
        return
    version = item["DefaultVersionId"]
    documents = {entry["VersionId"]: entry["Document"] for entry in item["PolicyVersionList"]}
    batch.add(
        IamManagedPolicy,
        policy_arn=arn,
        account_id=AWS_ACCOUNT if is_aws_policy else scope.account_id,
        name=item["PolicyName"],
        default_version=version,
        policy_hash=batch.document(decode_policy(documents[version])),
    )


_RECORDERS: Mapping[str, Callable[[Scope, Item, Batch], None]] = {
    "UserDetailList": _user,
    "RoleDetailList": _role,
    "GroupDetailList": _group,
    "Policies": _managed_policy,
}
"""The lists of a page, each with the function that records its items."""


def decode_policy(document: str) -> str:
    """Return the text of a policy, which IAM percent-encodes (RFC 3986)."""
    return document if document.lstrip().startswith("{") else unquote(document, errors="strict")


def redact_external_ids(trust: str) -> str:
    """Return a trust policy with its external ids redacted: they are shared secrets, the crawler's own among them.

    The condition itself stays, and so does ``*``, which accepts any id.
    """
    policy = orjson.loads(trust)
    statements = policy["Statement"]
    conditions = [
        (keys, key)
        for statement in (statements if isinstance(statements, list) else [statements])
        for keys in statement.get("Condition", {}).values()
        for key in keys
        if key.lower() == "sts:externalid" and keys[key] not in ("*", ["*"])
    ]
    for keys, key in conditions:
        keys[key] = REDACTED_EXTERNAL_ID
    return canonical_json(policy) if conditions else trust


def _record_scan(subject: Subject, batch: Batch) -> None:
    batch.add(IamScan, account_id=subject.scope.account_id)


IAM = Step(
    GET_ACCOUNT_AUTHORIZATION_DETAILS,
    _record_page,
    (IamPrincipal, IamGroup, IamMembership, IamAttachment, IamInlinePolicy, IamManagedPolicy),
    _record_scan,
)

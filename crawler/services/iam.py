"""IAM of an account: users, roles, groups and their policies.

Source: the IAM API reference, operation GetAccountAuthorizationDetails, which returns all of it in one listing. IAM is a
global service and belongs to the global scope of the account.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import unquote

import orjson

from crawler.aws.response_validation import INVALID_ITEM, check_arn, check_identifier
from crawler.resource_mapper import add_tags
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
    """Record a page; an invalid item is reported and does not discard the rest."""
    scope, seen = subject.scope, subject.values.setdefault("iam_arns", set())
    first_error: Exception | None = None
    for member, record in _RECORDERS.items():
        try:
            items = page[member]
        except INVALID_ITEM as error:
            first_error = first_error or error
            continue
        for item in items:
            item_batch = Batch()
            try:
                record(scope, item, item_batch)
                arn = item["Arn"]
                if arn not in seen:
                    batch.extend(item_batch)
                elif batch.drop_conflicts(item_batch):
                    raise ValueError(f"{arn} is listed twice with different values")
                seen.add(arn)
            except INVALID_ITEM as error:
                first_error = first_error or error
    if first_error is not None:
        raise first_error


def _user(scope: Scope, item: Item, batch: Batch) -> None:
    _principal(scope, item, batch, "user", None)
    _policies(scope, item, batch, item.get("UserPolicyList"))
    for group in item.get("GroupList") or ():
        batch.add(IamMembership, user_arn=item["Arn"], group_name=_identifier(group), account_id=scope.account_id)


def _role(scope: Scope, item: Item, batch: Batch) -> None:
    _principal(
        scope, item, batch, "role", batch.document(redact_external_ids(decode_policy(item["AssumeRolePolicyDocument"])))
    )
    _policies(scope, item, batch, item.get("RolePolicyList"))


def _group(scope: Scope, item: Item, batch: Batch) -> None:
    batch.add(
        IamGroup,
        arn=_arn(scope, "group", item, "GroupName"),
        account_id=scope.account_id,
        name=item["GroupName"],
        path=item.get("Path"),
        unique_id=item.get("GroupId"),
        created_at=item.get("CreateDate"),
    )
    _policies(scope, item, batch, item.get("GroupPolicyList"))


def _principal(scope: Scope, item: Item, batch: Batch, kind: str, trust: bytes | None) -> None:
    prefix = kind.capitalize()
    arn = _arn(scope, kind, item, f"{prefix}Name")
    boundary = (item.get("PermissionsBoundary") or {}).get("PermissionsBoundaryArn")
    batch.add(
        IamPrincipal,
        arn=arn,
        account_id=scope.account_id,
        type=kind,
        name=item[f"{prefix}Name"],
        path=item.get("Path"),
        unique_id=item.get(f"{prefix}Id"),
        created_at=item.get("CreateDate"),
        permissions_boundary_arn=_policy_arn(scope, boundary) if boundary else None,
        policy_hash=trust,
    )
    add_tags(GET_ACCOUNT_AUTHORIZATION_DETAILS, arn, item.get("Tags") or (), batch)


def _policies(scope: Scope, item: Item, batch: Batch, inline: Any) -> None:
    documents = _unique((_identifier(policy["PolicyName"]), policy["PolicyDocument"]) for policy in inline or ())
    for name, document in documents.items():
        batch.add(
            IamInlinePolicy,
            owner_arn=item["Arn"],
            name=name,
            account_id=scope.account_id,
            policy_hash=batch.document(decode_policy(document)),
        )
    for attached in item.get("AttachedManagedPolicies") or ():
        policy_arn = _policy_arn(scope, attached["PolicyArn"])
        batch.add(IamAttachment, owner_arn=item["Arn"], policy_arn=policy_arn, account_id=scope.account_id)


def _managed_policy(scope: Scope, item: Item, batch: Batch) -> None:
    arn = _policy_arn(scope, item["Arn"])
    if not arn.endswith(f"/{item['PolicyName']}"):
        raise ValueError(f"{arn!r} is not the ARN of policy {item['PolicyName']!r}")
    is_aws_policy = arn.split(":")[4] == AWS_ACCOUNT
    if is_aws_policy and not item.get("AttachmentCount", 1) and not item.get("PermissionsBoundaryUsageCount", 1):
        # Skip the AWS managed policies that this account does not use; there are about a thousand.
        return
    version = item["DefaultVersionId"]
    documents = _unique((entry["VersionId"], entry["Document"]) for entry in item["PolicyVersionList"])
    batch.add(
        IamManagedPolicy,
        policy_arn=arn,
        account_id=AWS_ACCOUNT if is_aws_policy else scope.account_id,
        name=item["PolicyName"],
        default_version=version,
        policy_hash=batch.document(decode_policy(documents[version])),
    )


def _arn(scope: Scope, kind: str, item: Item, name: str) -> str:
    """Return the ARN of a user, role or group; raises an error if it belongs to another account or name."""
    prefix = f"arn:{scope.partition}:iam::{scope.account_id}:{kind}/"
    arn = check_arn(GET_ACCOUNT_AUTHORIZATION_DETAILS, item["Arn"], prefix)
    if not arn.endswith(f"/{item[name]}"):
        raise ValueError(f"{arn!r} is not the ARN of {kind} {item[name]!r}")
    return arn


def _policy_arn(scope: Scope, arn: str) -> str:
    """Return the ARN of a managed policy; raises an error unless it belongs to the account or to AWS."""
    owner = AWS_ACCOUNT if arn.split(":")[4:5] == [AWS_ACCOUNT] else scope.account_id
    return check_arn(GET_ACCOUNT_AUTHORIZATION_DETAILS, arn, f"arn:{scope.partition}:iam::{owner}:policy/")


def _identifier(name: str) -> str:
    return check_identifier(GET_ACCOUNT_AUTHORIZATION_DETAILS, name)


def _unique(entries: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return entries by name; raises ValueError if a name occurs twice."""
    result: dict[str, str] = {}
    for name, value in entries:
        if name in result:
            raise ValueError(f"{name!r} is listed twice")
        result[name] = value
    return result


_RECORDERS: Mapping[str, Callable[[Scope, Item, Batch], None]] = {
    "UserDetailList": _user,
    "RoleDetailList": _role,
    "GroupDetailList": _group,
    "Policies": _managed_policy,
}
"""The lists of a page, each with the function that records its items."""


def decode_policy(document: str) -> str:
    """Return the text of a policy, which IAM percent-encodes (RFC 3986); raises ValueError if it is empty."""
    if not document:
        raise ValueError("a policy is empty")
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
    complete=_record_scan,
)

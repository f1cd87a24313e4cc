"""The IAM of an account: users, roles, groups, and the policies that say what they may do.

Source: the IAM API reference, operation GetAccountAuthorizationDetails, which tells all of it in one listing. IAM has no
regions, so it is asked in the account's region-less part.
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

KEPT_OUT = "(an external id)"
"""Stands in trust policies for an external id."""

GET_ACCOUNT_AUTHORIZATION_DETAILS = Operation(
    "iam",
    "GetAccountAuthorizationDetails",
    {"Filter": ["User", "Role", "Group", "LocalManagedPolicy", "AWSManagedPolicy"]},
    paging=Paging(receive="Marker", send="Marker", limit="MaxItems", size=1000, more="IsTruncated"),
)


def _page(subject: Subject, page: Item, batch: Batch) -> None:
    """Everything of one page. One item that cannot be understood keeps none of the others out, but is told."""
    if not page.keys() & _KINDS.keys():
        raise ValueError(f"the page has none of {', '.join(_KINDS)}")
    problem: Exception | None = None
    for kind, record in _KINDS.items():
        for item in page.get(kind) or ():
            learned = Batch()
            try:
                record(subject.scope, item, learned)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                problem = problem or error
            else:
                batch.extend(learned)
    if problem is not None:
        raise problem


def _user(scope: Scope, item: Item, batch: Batch) -> None:
    _principal(scope, item, batch, "user", None)
    _policies(scope, item, batch, item.get("UserPolicyList"))
    for group in item.get("GroupList") or ():
        batch.add(IamMembership, user_arn=item["Arn"], group_name=group, account_id=scope.account_id)


def _role(scope: Scope, item: Item, batch: Batch) -> None:
    _principal(
        scope, item, batch, "role", batch.document(without_external_ids(decoded(item["AssumeRolePolicyDocument"])))
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
            policy_hash=batch.document(decoded(policy["PolicyDocument"])),
        )
    for attached in item.get("AttachedManagedPolicies") or ():
        batch.add(IamAttachment, owner_arn=item["Arn"], policy_arn=attached["PolicyArn"], account_id=scope.account_id)


def _managed_policy(scope: Scope, item: Item, batch: Batch) -> None:
    arn = item["Arn"]
    of_aws = arn.split(":")[4] == AWS_ACCOUNT
    if of_aws and not item.get("AttachmentCount", 1) and not item.get("PermissionsBoundaryUsageCount", 1):
        # There are a thousand of them, the same in every account; here nothing uses this one.
        return
    version = item["DefaultVersionId"]
    documents = {one["VersionId"]: one["Document"] for one in item["PolicyVersionList"]}
    batch.add(
        IamManagedPolicy,
        policy_arn=arn,
        account_id=AWS_ACCOUNT if of_aws else scope.account_id,
        name=item["PolicyName"],
        default_version=version,
        policy_hash=batch.document(decoded(documents[version])),
    )


_KINDS: Mapping[str, Callable[[Scope, Item, Batch], None]] = {
    "UserDetailList": _user,
    "RoleDetailList": _role,
    "GroupDetailList": _group,
    "Policies": _managed_policy,
}
"""Members of a page, and what their items become."""


def decoded(document: str) -> str:
    """The text of a policy, which IAM sends percent-encoded (RFC 3986)."""
    return document if document.lstrip().startswith("{") else unquote(document, errors="strict")


def without_external_ids(trust: str) -> str:
    """A trust policy without the external ids that it asks for: they are shared secrets, our own among them.

    That it asks for one stays, and so does ``*``, which asks for none in particular.
    """
    policy = orjson.loads(trust)
    statements = policy["Statement"]
    found = [
        (keys, key)
        for statement in (statements if isinstance(statements, list) else [statements])
        for keys in statement.get("Condition", {}).values()
        for key in keys
        if key.lower() == "sts:externalid" and keys[key] not in ("*", ["*"])
    ]
    for keys, key in found:
        keys[key] = KEPT_OUT
    return canonical_json(policy) if found else trust


def _complete(subject: Subject, batch: Batch) -> None:
    account_id = subject.scope.account_id
    for model in (IamPrincipal, IamGroup, IamMembership, IamAttachment, IamInlinePolicy, IamManagedPolicy):
        batch.mark_complete(model, account_id)
    batch.add(IamScan, account_id=account_id)


IAM = Step(GET_ACCOUNT_AUTHORIZATION_DETAILS, _page, _complete)


def not_asked(scope: Scope, batch: Batch) -> None:
    """The configuration leaves IAM out: what was read of it before is only what was last known."""
    batch.mark_complete(IamScan, scope.account_id)

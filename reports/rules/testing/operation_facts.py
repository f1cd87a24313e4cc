"""The facts that each operation returns, by IAM action."""

from __future__ import annotations

from collections.abc import Mapping

from models.aws_types import AWS_TYPES, TRAIL, AwsType
from models.tables import (
    Alias,
    CustomKeyStore,
    IamAttachment,
    IamGroup,
    IamInlinePolicy,
    IamManagedPolicy,
    IamMembership,
    IamPrincipal,
    IamScan,
    Key,
    KeyGrant,
    KeyLastUse,
    KeyMetadata,
    KeyPolicy,
    KeyReference,
    KeyRotation,
    KeyRotationEvent,
    Resource,
    ResourcePolicy,
    ShadowTrail,
    Tag,
    Trail,
    TrailScan,
    TrailSelector,
    TrailStatus,
)
from models.versioned import VersionedTable

OF_KEY: Mapping[str, tuple[type[VersionedTable], ...]] = {
    "kms:DescribeKey": (KeyMetadata,),
    "kms:GetKeyPolicy": (KeyPolicy,),
    "kms:ListGrants": (KeyGrant,),
    "kms:ListResourceTags": (Tag,),
    "kms:GetKeyRotationStatus": (KeyRotation, KeyRotationEvent),
    "kms:ListKeyRotations": (KeyRotationEvent,),
    "kms:GetKeyLastUsage": (KeyLastUse,),
}
"""Operations called for one key."""
NOT_FOR_AWS = frozenset({"kms:GetKeyPolicy", "kms:ListGrants", "kms:ListResourceTags", "kms:GetKeyRotationStatus"})
"""Operations not called for keys that AWS manages."""

OF_TRAIL: Mapping[str, tuple[type[VersionedTable], ...]] = {
    "cloudtrail:GetTrailStatus": (TrailStatus,),
    "cloudtrail:GetEventSelectors": (TrailSelector,),
}
IAM = "iam:GetAccountAuthorizationDetails"
OF_IAM: tuple[type[VersionedTable], ...] = (
    IamScan,
    IamPrincipal,
    IamGroup,
    IamMembership,
    IamAttachment,
    IamInlinePolicy,
    IamManagedPolicy,
)
OF_SCOPE: Mapping[str, tuple[type[VersionedTable], ...]] = {
    "kms:ListKeys": (Key,),
    "kms:ListAliases": (Alias,),
    "kms:DescribeCustomKeyStores": (CustomKeyStore,),
    **{resource_type.listing: (Resource,) for resource_type in AWS_TYPES.values()},
    AWS_TYPES[TRAIL].listing: (Trail, ShadowTrail, TrailScan),
}
"""Listings of an account and region; the facts that describe their items go with them."""
GLOBAL_LISTINGS = frozenset(resource_type.listing for resource_type in AWS_TYPES.values() if resource_type.is_global)
OPERATIONS: Mapping[str, str] = {
    **{resource_type.listing: resource_type.operation for resource_type in AWS_TYPES.values()},
    **{
        resource_type.detail: resource_type.detail_operation
        for resource_type in AWS_TYPES.values()
        if resource_type.detail
    },
}
"""API operations by IAM action, where the names can differ."""


def of_resource(resource_type: AwsType) -> Mapping[str, tuple[type[VersionedTable], ...]]:
    """Operations called for one resource of a type."""
    calls = ((resource_type.detail, KeyReference), (resource_type.tags, Tag), (resource_type.policy, ResourcePolicy))
    return {action: (model,) for action, model in calls if action}


OF_RESOURCE: Mapping[str, tuple[type[VersionedTable], ...]] = {
    action: models for resource_type in AWS_TYPES.values() for action, models in of_resource(resource_type).items()
}
"""Operations called for one resource."""
DESCRIBED_BY: Mapping[type[VersionedTable], str] = {
    **dict.fromkeys((KeyMetadata, KeyPolicy, KeyGrant, KeyRotation, KeyRotationEvent, KeyLastUse), "key_arn"),
    **dict.fromkeys((Tag, KeyReference, ResourcePolicy), "resource_arn"),
    **dict.fromkeys((TrailStatus, TrailSelector), "trail_arn"),
}
"""Facts about one key, resource or trail, by the column that names it."""

"""The facts that each operation returns, by IAM action."""

from __future__ import annotations

from collections.abc import Mapping

from models import tables
from models.aws_types import AWS_TYPES, TRAIL
from models.tables import VersionedTable, versioned_tables

Models = tuple[type[VersionedTable], ...]

OF_KEY: Mapping[str, Models] = {
    "kms:DescribeKey": (tables.KeyMetadata,),
    "kms:GetKeyPolicy": (tables.KeyPolicy,),
    "kms:ListGrants": (tables.KeyGrant,),
    "kms:ListResourceTags": (tables.Tag,),
    "kms:GetKeyRotationStatus": (tables.KeyRotation, tables.KeyRotationEvent),
    "kms:ListKeyRotations": (tables.KeyRotationEvent,),
    "kms:GetKeyLastUsage": (tables.KeyLastUse,),
}
"""Operations called for one key."""
NOT_FOR_AWS = frozenset({"kms:GetKeyPolicy", "kms:ListGrants", "kms:ListResourceTags", "kms:GetKeyRotationStatus"})
"""Operations not called for keys that AWS manages."""
OF_TRAIL: Mapping[str, Models] = {
    "cloudtrail:GetTrailStatus": (tables.TrailStatus,),
    "cloudtrail:GetEventSelectors": (tables.TrailSelector,),
}
OF_ITEM: Mapping[str, Models] = {
    **OF_KEY,
    **OF_TRAIL,
    **{
        action: (model,)
        for resource_type in AWS_TYPES.values()
        for action, model in (
            (resource_type.detail, tables.KeyReference),
            (resource_type.tags, tables.Tag),
            (resource_type.policy, tables.ResourcePolicy),
            (resource_type.replicas, tables.ResourceReplica),
        )
        if action
    },
}
"""Operations called for one key, trail or resource."""

IAM = "iam:GetAccountAuthorizationDetails"
TRAILS = AWS_TYPES[TRAIL].listing
_LISTINGS: Mapping[str, Models] = {
    "kms:ListKeys": (tables.Key,),
    "kms:ListAliases": (tables.Alias,),
    "kms:DescribeCustomKeyStores": (tables.CustomKeyStore,),
    TRAILS: (tables.Trail, tables.ShadowTrail, tables.TrailScan, tables.Resource),
    IAM: (
        tables.IamScan,
        tables.IamPrincipal,
        tables.IamGroup,
        tables.IamMembership,
        tables.IamAttachment,
        tables.IamInlinePolicy,
        tables.IamManagedPolicy,
    ),
}
LISTINGS = tuple(dict.fromkeys([*_LISTINGS, *(resource_type.listing for resource_type in AWS_TYPES.values())]))
"""Listings of an account and region; the facts that describe their items go with them."""
GLOBAL_LISTINGS = frozenset({IAM, *(each.listing for each in AWS_TYPES.values() if each.is_global)})
OPERATIONS: Mapping[str, str] = {
    **{resource_type.listing: resource_type.operation for resource_type in AWS_TYPES.values()},
    **{resource_type.detail: resource_type.detail_operation for resource_type in AWS_TYPES.values()},
}
"""API operations by IAM action, where the names can differ."""
DESCRIBED_BY: Mapping[type[VersionedTable], str] = {
    model: own
    for model in versioned_tables().values()
    for own, parent, _ in model.parents
    if parent in {"key", "resource", "trail"}
}
"""Facts about one key, resource or trail, by the column that names it."""


def listed_by(action: str) -> Models:
    """The tables of a listing; those of resource types that the registry lacks are listings of resources, too."""
    return _LISTINGS.get(action, (tables.Resource,))

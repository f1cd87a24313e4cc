"""What examples have to know of AWS: the kinds of resources, and which facts which operation tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of resources."""

    arn: str
    """Of the ARN, what follows the account: with {name}."""
    listing: str
    """The action that lists them."""
    role: str = "storage"
    managed: str | None = None
    """The alias of the AWS managed key that an omitted key means."""
    further: Mapping[str, tuple[type[VersionedTable], ...]] | None = None
    """Further questions, asked for each resource, and what they tell."""


_RDS = "alias/aws/rds"
_CACHE: Mapping[str, tuple[type[VersionedTable], ...]] = {"elasticache:ListTagsForResource": (Tag,)}
_INSTANCE = Kind("rds:db:{name}", "rds:DescribeDBInstances", managed=_RDS)
_CLUSTER = Kind("rds:cluster:{name}", "rds:DescribeDBClusters", managed=_RDS)
KINDS: Mapping[str, Kind] = {
    "AWS::SecretsManager::Secret": Kind(
        "secretsmanager:secret:{name}-AbCdEf",
        "secretsmanager:ListSecrets",
        "secret",
        "alias/aws/secretsmanager",
        {"secretsmanager:GetResourcePolicy": (ResourcePolicy,)},
    ),
    "AWS::RDS::DBInstance": _INSTANCE,
    "AWS::DocDB::DBInstance": _INSTANCE,
    "AWS::Neptune::DBInstance": _INSTANCE,
    "AWS::RDS::DBCluster": _CLUSTER,
    "AWS::DocDB::DBCluster": _CLUSTER,
    "AWS::Neptune::DBCluster": _CLUSTER,
    "AWS::RDS::DBSnapshot": Kind("rds:snapshot:{name}", "rds:DescribeDBSnapshots", managed=_RDS),
    "AWS::RDS::DBClusterSnapshot": Kind("rds:cluster-snapshot:{name}", "rds:DescribeDBClusterSnapshots", managed=_RDS),
    "AWS::RDS::DBInstanceAutomatedBackup": Kind(
        "rds:auto-backup:{name}", "rds:DescribeDBInstanceAutomatedBackups", managed=_RDS
    ),
    "AWS::RDS::DBClusterAutomatedBackup": Kind(
        "rds:cluster-auto-backup:{name}", "rds:DescribeDBClusterAutomatedBackups", managed=_RDS
    ),
    "AWS::ElastiCache::ReplicationGroup": Kind(
        "elasticache:replicationgroup:{name}", "elasticache:DescribeReplicationGroups", further=_CACHE
    ),
    "AWS::ElastiCache::CacheCluster": Kind(
        "elasticache:cluster:{name}", "elasticache:DescribeCacheClusters", further=_CACHE
    ),
    "AWS::ElastiCache::ServerlessCache": Kind(
        "elasticache:serverlesscache:{name}", "elasticache:DescribeServerlessCaches", further=_CACHE
    ),
    "AWS::ElastiCache::Snapshot": Kind("elasticache:snapshot:{name}", "elasticache:DescribeSnapshots", further=_CACHE),
    "AWS::ElastiCache::ServerlessCacheSnapshot": Kind(
        "elasticache:serverlesscachesnapshot:{name}", "elasticache:DescribeServerlessCacheSnapshots", further=_CACHE
    ),
    "AWS::S3::Bucket": Kind(
        "s3:::{account}-{name}",
        "s3:ListAllMyBuckets",
        "default-encryption",
        "alias/aws/s3",
        {"s3:GetEncryptionConfiguration": (KeyReference,), "s3:GetBucketTagging": (Tag,)},
    ),
}
OPERATIONS = {"s3:ListAllMyBuckets": "ListBuckets", "s3:GetEncryptionConfiguration": "GetBucketEncryption"}
"""Operations whose action has another name."""

OF_KEY: Mapping[str, tuple[type[VersionedTable], ...]] = {
    "kms:DescribeKey": (KeyMetadata,),
    "kms:GetKeyPolicy": (KeyPolicy,),
    "kms:ListGrants": (KeyGrant,),
    "kms:ListResourceTags": (Tag,),
    "kms:GetKeyRotationStatus": (KeyRotation, KeyRotationEvent),
    "kms:ListKeyRotations": (KeyRotationEvent,),
    "kms:GetKeyLastUsage": (KeyLastUse,),
}
"""What each question about one key tells."""
NOT_FOR_AWS = frozenset({"kms:GetKeyPolicy", "kms:ListGrants", "kms:ListResourceTags", "kms:GetKeyRotationStatus"})
"""Keys that AWS manages are not asked these."""

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
    "cloudtrail:DescribeTrails": (Trail, ShadowTrail, TrailScan),
    **{kind.listing: (Resource,) for kind in KINDS.values()},
}
"""What the listings of an account and region tell; what describes the listed goes with them."""
GLOBAL_LISTINGS = frozenset({"s3:ListAllMyBuckets"})
DESCRIBED_BY: Mapping[type[VersionedTable], str] = {
    **dict.fromkeys((KeyMetadata, KeyPolicy, KeyGrant, KeyRotation, KeyRotationEvent, KeyLastUse), "key_arn"),
    **dict.fromkeys((Tag, KeyReference, ResourcePolicy), "resource_arn"),
    **dict.fromkeys((TrailStatus, TrailSelector), "trail_arn"),
}
"""Facts about one thing, by the column that names it."""

"""The resource types that use keys, one declaration each.

CONTRIBUTING.md shows how to add one; ``tests/crawler/test_declarations.py`` checks it against botocore's service models, which
also supply the response for its round trip. Sources: the API references of the services, operation by operation as named.
"""

from __future__ import annotations

from crawler.spec import KeyPath, Operation, Paging, ResourceType
from models.aws_types import RDS_KEY, S3_KEY, SECRETS_MANAGER_KEY
from models.tables.resources import KeyClass

SENTINELS = {
    "auto": KeyClass.AWS_OWNED,
    "AWS_OWNED_KMS_KEY": KeyClass.AWS_OWNED,
    "AWS_OWNED_KEY": KeyClass.AWS_OWNED,
    "DefaultKey": KeyClass.AWS_OWNED,
    "DEFAULT": KeyClass.AWS_OWNED,
    "S3_MANAGED_KEY": KeyClass.AWS_OWNED,
}
"""Words that services return in place of a key."""


def _marker(size: int = 100) -> Paging:
    return Paging(receive="Marker", send="Marker", limit="MaxRecords", size=size)


def _token(size: int = 100) -> Paging:
    return Paging(receive="NextToken", send="NextToken", limit="MaxResults", size=size)


# What RDS says of encryption: the type where it is given, else the older flag, which may be false for databases under a
# key that RDS owns.
_RDS_ENCRYPTION = "StorageEncryptionType || to_string(StorageEncrypted)"
_RDS_BACKUP_ENCRYPTION = "StorageEncryptionType || to_string(Encrypted)"
_RDS_OMITTED = {
    "none": KeyClass.NONE,
    "false": KeyClass.NONE,
    "sse-rds": KeyClass.AWS_OWNED,
    "sse-kms": RDS_KEY,
    "true": RDS_KEY,
}
_RDS_STORAGE = KeyPath("KmsKeyId", "storage", _RDS_OMITTED, discriminator=_RDS_ENCRYPTION)
_RDS_BACKUP = KeyPath("KmsKeyId", "storage", _RDS_OMITTED, discriminator=_RDS_BACKUP_ENCRYPTION)
_RDS_DATABASE_KEYS = (
    _RDS_STORAGE,
    KeyPath(
        "PerformanceInsightsKMSKeyId",
        "performance-insights",
        {"true": RDS_KEY, "false": None, "null": None},
        discriminator="to_string(PerformanceInsightsEnabled)",
    ),
    KeyPath("ActivityStreamKmsKeyId", "activity-stream", {"": None}),
    KeyPath(
        "MasterUserSecret.KmsKeyId",
        "master-user-secret",
        {"true": SECRETS_MANAGER_KEY, "false": None},
        discriminator="to_string(MasterUserSecret != `null`)",
    ),
)
_DOCUMENTDB = {"docdb": "AWS::DocDB", "neptune": "AWS::Neptune"}


def _engines(kind: str) -> dict[str, str]:
    return {engine: f"{family}::{kind}" for engine, family in _DOCUMENTDB.items()}


# Both kinds of listing tell only of encryption at rest by a flag when no key is named.
_ELASTICACHE_OMITTED = {
    "none": KeyClass.NONE,
    "false": KeyClass.NONE,
    "sse-elasticache": KeyClass.AWS_OWNED,
    "true": KeyClass.AWS_OWNED,
}
_ELASTICACHE_TAGS = Operation("elasticache", "ListTagsForResource", {"ResourceName": "@arn"}, items="TagList")

SECRET = ResourceType(
    "AWS::SecretsManager::Secret",
    Operation("secretsmanager", "ListSecrets", {"IncludePlannedDeletion": True}, items="SecretList", paging=_token()),
    arn="ARN",
    title="Name",
    keys=(KeyPath("KmsKeyId", "secret", {"": SECRETS_MANAGER_KEY}),),
    tags="Tags",
    policy_operation=Operation("secretsmanager", "GetResourcePolicy", {"SecretId": "@arn"}),
    policy="ResourcePolicy",
    created="CreatedDate",
    deletion="DeletedDate",
    details={
        "rotation_enabled": "RotationEnabled",
        "rotation_days": "RotationRules.AutomaticallyAfterDays",
        "rotation_schedule": "RotationRules.ScheduleExpression",
        "last_rotated": "LastRotatedDate",
        "last_accessed": "LastAccessedDate",
        "next_rotation": "NextRotationDate",
        "owning_service": "OwningService",
        "primary_region": "PrimaryRegion",
        "last_changed": "LastChangedDate",
    },
    missing_values={"last_rotated": "never", "last_accessed": "never"},
    truncate_to_week=frozenset({"last_accessed"}),
    note="Lists secrets that are scheduled for deletion too: they still need their key. A replica appears in its own region. "
    "When a secret was last read is kept to the week, and is told only for its own region.",
)

DB_INSTANCE = ResourceType(
    "AWS::RDS::DBInstance",
    Operation("rds", "DescribeDBInstances", items="DBInstances", paging=_marker()),
    arn="DBInstanceArn",
    title="DBInstanceIdentifier",
    keys=_RDS_DATABASE_KEYS,
    tags="TagList",
    status="DBInstanceStatus",
    encryption=_RDS_ENCRYPTION,
    created="InstanceCreateTime",
    details={"engine": "Engine", "engine_version": "EngineVersion", "cluster": "DBClusterIdentifier"},
    type_by_engine=_engines("DBInstance"),
    note="Returns Neptune and DocumentDB instances too.",
)

DB_CLUSTER = ResourceType(
    "AWS::RDS::DBCluster",
    Operation("rds", "DescribeDBClusters", items="DBClusters", paging=_marker()),
    arn="DBClusterArn",
    title="DBClusterIdentifier",
    keys=_RDS_DATABASE_KEYS,
    tags="TagList",
    status="Status",
    encryption=_RDS_ENCRYPTION,
    created="ClusterCreateTime",
    details={"engine": "Engine", "engine_version": "EngineVersion"},
    type_by_engine=_engines("DBCluster"),
    note="Aurora clusters created since February 2026 are encrypted with a key that RDS owns unless a key is named.",
)


def _snapshot(name: str, operation: str, *, prefix: str, storage: KeyPath, encryption: str) -> ResourceType:
    return ResourceType(
        name,
        Operation("rds", operation, items=f"{prefix}s", paging=_marker()),
        arn=f"{prefix}Arn",
        title=f"{prefix}Identifier",
        keys=(storage,),
        tags="TagList",
        status="Status",
        encryption=encryption,
        created="SnapshotCreateTime",
        details={"engine": "Engine", "kind": "SnapshotType"},
        note="Own snapshots only; those kept by AWS Backup are listed by AWS Backup.",
    )


DB_SNAPSHOT = _snapshot(
    "AWS::RDS::DBSnapshot",
    "DescribeDBSnapshots",
    prefix="DBSnapshot",
    storage=_RDS_BACKUP,
    encryption=_RDS_BACKUP_ENCRYPTION,
)
DB_CLUSTER_SNAPSHOT = _snapshot(
    "AWS::RDS::DBClusterSnapshot",
    "DescribeDBClusterSnapshots",
    prefix="DBClusterSnapshot",
    storage=_RDS_STORAGE,
    encryption=_RDS_ENCRYPTION,
)

DB_INSTANCE_BACKUP = ResourceType(
    "AWS::RDS::DBInstanceAutomatedBackup",
    Operation("rds", "DescribeDBInstanceAutomatedBackups", items="DBInstanceAutomatedBackups", paging=_marker()),
    # The API describes the ARN as that of replicated backups; the backup of a living instance is named after it.
    arn="DBInstanceAutomatedBackupsArn || join('', ['arn:{partition}:rds:{region}:{account}:db:', "
    "DBInstanceIdentifier, '#automated-backup'])",
    title="DBInstanceIdentifier",
    keys=(_RDS_BACKUP,),
    tags="TagList",
    status="Status",
    encryption=_RDS_BACKUP_ENCRYPTION,
    details={"engine": "Engine"},
    note="Backups of deleted instances that are kept, and copies from other regions, included.",
)

DB_CLUSTER_BACKUP = ResourceType(
    "AWS::RDS::DBClusterAutomatedBackup",
    Operation("rds", "DescribeDBClusterAutomatedBackups", items="DBClusterAutomatedBackups", paging=_marker()),
    arn="DBClusterAutomatedBackupsArn || join('', ['arn:{partition}:rds:{region}:{account}:cluster:', "
    "DBClusterIdentifier, '#automated-backup'])",
    title="DBClusterIdentifier",
    keys=(_RDS_STORAGE,),
    tags="TagList",
    status="Status",
    encryption=_RDS_ENCRYPTION,
    details={"engine": "Engine"},
)

REPLICATION_GROUP = ResourceType(
    "AWS::ElastiCache::ReplicationGroup",
    Operation("elasticache", "DescribeReplicationGroups", items="ReplicationGroups", paging=_marker()),
    arn="ARN",
    title="ReplicationGroupId",
    keys=(
        KeyPath(
            "KmsKeyId",
            "storage",
            _ELASTICACHE_OMITTED,
            discriminator="StorageEncryptionType || to_string(AtRestEncryptionEnabled)",
        ),
    ),
    tags_operation=_ELASTICACHE_TAGS,
    status="Status",
    encryption="StorageEncryptionType || to_string(AtRestEncryptionEnabled)",
    created="ReplicationGroupCreateTime",
    details={"engine": "Engine", "transit_encryption": "TransitEncryptionEnabled"},
)

CACHE_CLUSTER = ResourceType(
    "AWS::ElastiCache::CacheCluster",
    Operation(
        "elasticache",
        "DescribeCacheClusters",
        {"ShowCacheClustersNotInReplicationGroups": True},
        items="CacheClusters[?ReplicationGroupId == `null`]",
        paging=_marker(),
    ),
    arn="ARN",
    title="CacheClusterId",
    # The answer has no member for a key: an encrypted stand-alone cluster's key cannot be learned.
    keys=(
        KeyPath(
            "no_such_member",
            "storage",
            {"false": KeyClass.NONE, "null": KeyClass.NONE},
            discriminator="to_string(AtRestEncryptionEnabled)",
        ),
    ),
    tags_operation=_ELASTICACHE_TAGS,
    status="CacheClusterStatus",
    encryption="to_string(AtRestEncryptionEnabled)",
    created="CacheClusterCreateTime",
    details={"engine": "Engine", "engine_version": "EngineVersion"},
    note="Stand-alone clusters; the API does not name the key of an encrypted one.",
)

SERVERLESS_CACHE = ResourceType(
    "AWS::ElastiCache::ServerlessCache",
    Operation("elasticache", "DescribeServerlessCaches", items="ServerlessCaches", paging=_token()),
    arn="ARN",
    title="ServerlessCacheName",
    keys=(KeyPath("KmsKeyId", "storage", {"": KeyClass.AWS_OWNED}),),
    tags_operation=_ELASTICACHE_TAGS,
    status="Status",
    encryption="StorageEncryptionType",
    created="CreateTime",
    details={"engine": "Engine", "engine_version": "FullEngineVersion"},
    note="Always encrypted; with a key that ElastiCache owns unless one is named.",
)

CACHE_SNAPSHOT = ResourceType(
    "AWS::ElastiCache::Snapshot",
    Operation("elasticache", "DescribeSnapshots", items="Snapshots", paging=_marker(50)),
    arn="ARN",
    title="SnapshotName",
    keys=(KeyPath("KmsKeyId", "storage"),),
    tags_operation=_ELASTICACHE_TAGS,
    status="SnapshotStatus",
    created="NodeSnapshots[0].SnapshotCreateTime",
    details={"engine": "Engine", "replication_group": "ReplicationGroupId", "source": "SnapshotSource"},
    note="Without a named key the answer does not tell whether a snapshot is encrypted.",
)

SERVERLESS_CACHE_SNAPSHOT = ResourceType(
    "AWS::ElastiCache::ServerlessCacheSnapshot",
    Operation("elasticache", "DescribeServerlessCacheSnapshots", items="ServerlessCacheSnapshots", paging=_token(50)),
    arn="ARN",
    title="ServerlessCacheSnapshotName",
    keys=(KeyPath("KmsKeyId", "storage", {"": KeyClass.AWS_OWNED}),),
    tags_operation=_ELASTICACHE_TAGS,
    status="Status",
    created="CreateTime",
    details={"cache": "ServerlessCacheConfiguration.ServerlessCacheName"},
)

BUCKET = ResourceType(
    "AWS::S3::Bucket",
    # BucketRegion is returned only if a parameter is sent.
    Operation(
        "s3",
        "ListBuckets",
        items="Buckets",
        paging=Paging(receive="ContinuationToken", send="ContinuationToken", limit="MaxBuckets", size=1000),
        action="s3:ListAllMyBuckets",
    ),
    arn="BucketArn || join('', ['arn:', '{partition}', ':s3:::', Name])",
    title="Name",
    keys=(
        KeyPath(
            "ServerSideEncryptionConfiguration.Rules[].ApplyServerSideEncryptionByDefault.KMSMasterKeyID",
            "default-encryption",
            {
                "AES256": KeyClass.AWS_OWNED,
                "aws:fsx": KeyClass.AWS_OWNED,
                "aws:kms": S3_KEY,
                "aws:kms:dsse": S3_KEY,
                "null": KeyClass.NONE,
            },
            discriminator="ServerSideEncryptionConfiguration.Rules[0].ApplyServerSideEncryptionByDefault.SSEAlgorithm || 'null'",
        ),
    ),
    detail=Operation(
        "s3",
        "GetBucketEncryption",
        {"Bucket": "@title", "ExpectedBucketOwner": "@account_id"},
        action="s3:GetEncryptionConfiguration",
        empty_error_codes=frozenset({"ServerSideEncryptionConfigurationNotFoundError"}),
    ),
    tags_operation=Operation(
        "s3",
        "GetBucketTagging",
        {"Bucket": "@title", "ExpectedBucketOwner": "@account_id"},
        items="TagSet",
        empty_error_codes=frozenset({"NoSuchTagSet"}),
    ),
    created="CreationDate",
    region="BucketRegion",
    note="The bucket's default only: an object may have been written under another key.",
)

GET_EVENT_SELECTORS = Operation("cloudtrail", "GetEventSelectors", {"TrailName": "@arn"})
GET_TRAIL_STATUS = Operation("cloudtrail", "GetTrailStatus", {"Name": "@arn"})

TRAIL = ResourceType(
    "AWS::CloudTrail::Trail",
    Operation("cloudtrail", "DescribeTrails", {"includeShadowTrails": True}, items="trailList"),
    arn="TrailARN",
    title="Name",
    # Without a key of KMS the log files are encrypted by S3, with keys of its own.
    keys=(KeyPath("KmsKeyId", "logs", {"": KeyClass.AWS_OWNED}),),
    extra_operations=(GET_EVENT_SELECTORS, GET_TRAIL_STATUS),
    note="Tells too whether the use of keys is logged: see crawler.services.cloudtrail, which has the steps.",
)

RESOURCE_TYPES: tuple[ResourceType, ...] = (
    SECRET,
    DB_INSTANCE,
    DB_CLUSTER,
    DB_SNAPSHOT,
    DB_CLUSTER_SNAPSHOT,
    DB_INSTANCE_BACKUP,
    DB_CLUSTER_BACKUP,
    REPLICATION_GROUP,
    CACHE_CLUSTER,
    SERVERLESS_CACHE,
    CACHE_SNAPSHOT,
    SERVERLESS_CACHE_SNAPSHOT,
    BUCKET,
    TRAIL,
)

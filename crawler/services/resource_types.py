"""The resource types that use keys, one declaration each.

CONTRIBUTING.md shows how to add one; ``tests/crawler/test_declarations.py`` checks it against botocore's service models, which
also supply the response for its round trip. Sources: the API references of the services, operation by operation as named.
"""

from __future__ import annotations

from crawler.spec import KeyPath, Operation, Paging, ResourceType
from models.aws_types import RDS_KEY, S3_KEY, SECRETS_MANAGER_KEY
from models.tables.resources import KeyClass


def _marker(size: int = 100) -> Paging:
    return Paging(receive="Marker", send="Marker", limit="MaxRecords", size=size)


def _token(size: int = 100) -> Paging:
    return Paging(receive="NextToken", send="NextToken", limit="MaxResults", size=size)


# The encryption as RDS reports it: the type if present, else the older flag, which may be false for databases encrypted with
# a key that RDS owns.
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


# Without a key, both listings report encryption at rest only as a flag.
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
    primary_region="PrimaryRegion",
    replicas_operation=Operation("secretsmanager", "DescribeSecret", {"SecretId": "@arn"}),
    replicas="ReplicationStatus",
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
    note="Includes secrets that are scheduled for deletion: they still need their key. A replica appears in its own region. "
    "The last access is stored by week and covers the secret's own region only.",
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
    note="Includes Neptune and DocumentDB instances.",
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
        note="The account's own snapshots only; AWS Backup lists those that it keeps.",
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
    # The API documents the ARN for replicated backups only; other backups get an ARN derived from the instance.
    arn="DBInstanceAutomatedBackupsArn || join('', ['arn:{partition}:rds:{region}:{account}:db:', "
    "DBInstanceIdentifier, '#automated-backup'])",
    title="DBInstanceIdentifier",
    keys=(_RDS_BACKUP,),
    tags="TagList",
    status="Status",
    encryption=_RDS_BACKUP_ENCRYPTION,
    details={"engine": "Engine"},
    note="Includes retained backups of deleted instances and copies from other regions.",
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
    # The response has no member for the key of an encrypted stand-alone cluster.
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
    note="Stand-alone clusters; the API does not return the key of an encrypted cluster.",
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
    note="Always encrypted, with a key that ElastiCache owns unless a key is named.",
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
    note="Without a key, the response does not show whether a snapshot is encrypted.",
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
    arn="join('', ['arn:{partition}:s3:::', Name])",
    arn_prefix="arn:{partition}:s3:::",
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
                # Since January 2023, S3 encrypts each bucket without a default encryption with its own keys.
                "null": KeyClass.AWS_OWNED,
            },
            discriminator="ServerSideEncryptionConfiguration.Rules[0].ApplyServerSideEncryptionByDefault.SSEAlgorithm || 'null'",
        ),
    ),
    detail=Operation(
        "s3",
        "GetBucketEncryption",
        {"Bucket": "@title", "ExpectedBucketOwner": "@account_id"},
        requires=(
            "ServerSideEncryptionConfiguration.Rules[0]",
            "ServerSideEncryptionConfiguration.Rules[0].ApplyServerSideEncryptionByDefault?.SSEAlgorithm",
        ),
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
    note="The default encryption of the bucket; objects may be encrypted with other keys.",
)

GET_EVENT_SELECTORS = Operation("cloudtrail", "GetEventSelectors", {"TrailName": "@arn"})
GET_TRAIL_STATUS = Operation("cloudtrail", "GetTrailStatus", {"Name": "@arn"})

TRAIL = ResourceType(
    "AWS::CloudTrail::Trail",
    Operation("cloudtrail", "DescribeTrails", {"includeShadowTrails": True}, items="trailList"),
    arn="TrailARN",
    title="Name",
    # Without a KMS key, S3 encrypts the log files with its own keys.
    keys=(KeyPath("KmsKeyId", "logs", {"": KeyClass.AWS_OWNED}),),
    extra_operations=(GET_EVENT_SELECTORS, GET_TRAIL_STATUS),
    note="Also shows whether key usage is logged; crawler.services.cloudtrail has the steps.",
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

"""The operations of Secrets Manager, RDS, ElastiCache and S3 about resources that use keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.fake_aws.aws_protocols import ApiError
from benchmarks.fake_aws.buckets import Bucket
from benchmarks.fake_aws.request_context import Call, Handler
from benchmarks.fake_aws.secrets import resource_policy
from benchmarks.fake_aws.world_state import AccountRegion

UNPAGED_BUCKETS = 10_000
"""Above this number, ListBuckets must be paged."""


def _list_secrets(call: Call) -> dict[str, Any]:
    secrets = call.account_region.secrets
    if not call.params.get("IncludePlannedDeletion"):
        secrets = [secret for secret in secrets if "DeletedDate" not in secret]
    return call.listing("secrets", "SecretList", secrets)


def _get_resource_policy(call: Call) -> dict[str, Any]:
    arn = str(call.params.get("SecretId", ""))
    secret = call.account_region.secrets_by_arn.get(arn)
    if secret is None:
        raise ApiError("ResourceNotFoundException", 400, "Secrets Manager can't find the specified secret.")
    response = {"ARN": arn, "Name": secret["Name"]}
    policy = resource_policy(arn)
    return response | {"ResourcePolicy": policy} if policy else response


def _describe_secret(call: Call) -> dict[str, Any]:
    arn = _get_resource_policy(call)["ARN"]
    secret = call.account_region.secrets_by_arn[arn]
    described: dict[str, Any] = {name: secret[name] for name in ("ARN", "Name", "PrimaryRegion") if name in secret}
    if secret.get("PrimaryRegion") != call.region:
        return described
    return described | {
        "ReplicationStatus": [{"Region": "eu-north-1", "Status": "Failed", "StatusMessage": "It exists."}]
    }


def _listing(name: str, entries: Callable[[AccountRegion], list[dict[str, Any]]]) -> Handler:
    return lambda call: call.listing(name, name, entries(call.account_region))


def _cache_tags(call: Call) -> dict[str, Any]:
    arn = str(call.params.get("ResourceName", ""))
    tags = call.account_region.caches.tags(arn)
    if tags is None:
        raise ApiError("CacheClusterNotFound", 404, f"{arn} is either not present or not available.")
    return {"TagList": tags}


def _list_buckets(call: Call) -> dict[str, Any]:
    world = call.state.world
    all_buckets = world.buckets(call.session.account_id, call.state.day).entries
    if not call.params and len(all_buckets) > UNPAGED_BUCKETS:
        raise ApiError("InvalidRequest", 400, "There are more than 10,000 buckets: the listing must be paged.")
    prefix, region = call.params.get("Prefix", ""), call.params.get("BucketRegion")
    buckets = [bucket for bucket in all_buckets if bucket.name.startswith(prefix) and region in {None, bucket.region}]
    page = call.page(f"{prefix}/{region}", len(buckets))
    shown = [_entry(bucket, with_region=bool(call.params)) for bucket in buckets[page.start : page.start + page.size]]
    return call.paged(page, {"Owner": {"ID": f"{call.session.account_id:0>64}"}, "Buckets": shown})


def _entry(bucket: Bucket, *, with_region: bool) -> dict[str, Any]:
    """An entry of ListBuckets; S3 returns the region only if the request has a parameter."""
    response = {"Name": bucket.name, "CreationDate": bucket.created}
    return response | {"BucketRegion": bucket.region} if with_region else response


def _bucket(call: Call) -> Bucket:
    name = call.params["Bucket"]
    bucket = call.state.world.buckets(call.session.account_id, call.state.day).by_name.get(name)
    if bucket is None:
        raise ApiError("NoSuchBucket", 404, "The specified bucket does not exist")
    if bucket.region != call.region:
        message = "The bucket you are attempting to access must be addressed using the specified endpoint."
        raise ApiError("PermanentRedirect", 301, message, {"x-amz-bucket-region": bucket.region})
    owner = call.params.get("ExpectedBucketOwner", call.session.account_id)
    if owner != call.session.account_id:
        raise ApiError("AccessDenied", 403, "Access Denied")
    return bucket


def _get_bucket_encryption(call: Call) -> dict[str, Any]:
    bucket = _bucket(call)
    if bucket.algorithm is None:
        message = "The server side encryption configuration was not found"
        raise ApiError("ServerSideEncryptionConfigurationNotFoundError", 404, message)
    default = {"SSEAlgorithm": bucket.algorithm}
    if bucket.key:
        default["KMSMasterKeyID"] = bucket.key
    rule = {"ApplyServerSideEncryptionByDefault": default, "BucketKeyEnabled": bucket.key is not None}
    return {"ServerSideEncryptionConfiguration": {"Rules": [rule]}}


def _get_bucket_tagging(call: Call) -> dict[str, Any]:
    bucket = _bucket(call)
    if not bucket.tags:
        raise ApiError("NoSuchTagSet", 404, "The TagSet does not exist")
    return {"TagSet": [{"Key": key, "Value": value} for key, value in bucket.tags]}


OPERATIONS: dict[str, Handler] = {
    "secretsmanager:ListSecrets": _list_secrets,
    "secretsmanager:GetResourcePolicy": _get_resource_policy,
    "secretsmanager:DescribeSecret": _describe_secret,
    "rds:DescribeDBInstances": _listing("DBInstances", lambda scope: scope.databases.instances),
    "rds:DescribeDBClusters": _listing("DBClusters", lambda scope: scope.databases.clusters),
    "rds:DescribeDBSnapshots": _listing("DBSnapshots", lambda scope: scope.databases.snapshots),
    "rds:DescribeDBClusterSnapshots": _listing("DBClusterSnapshots", lambda scope: scope.databases.cluster_snapshots),
    "rds:DescribeDBInstanceAutomatedBackups": _listing(
        "DBInstanceAutomatedBackups", lambda scope: scope.databases.instance_backups
    ),
    "rds:DescribeDBClusterAutomatedBackups": _listing(
        "DBClusterAutomatedBackups", lambda scope: scope.databases.cluster_backups
    ),
    "elasticache:DescribeReplicationGroups": _listing(
        "ReplicationGroups", lambda scope: scope.caches.replication_groups
    ),
    "elasticache:DescribeCacheClusters": _listing("CacheClusters", lambda scope: scope.caches.cache_clusters),
    "elasticache:DescribeServerlessCaches": _listing("ServerlessCaches", lambda scope: scope.caches.serverless_caches),
    "elasticache:DescribeSnapshots": _listing("Snapshots", lambda scope: scope.caches.cache_snapshots),
    "elasticache:DescribeServerlessCacheSnapshots": _listing(
        "ServerlessCacheSnapshots", lambda scope: scope.caches.serverless_snapshots
    ),
    "elasticache:ListTagsForResource": _cache_tags,
    "s3:ListBuckets": _list_buckets,
    "s3:GetBucketEncryption": _get_bucket_encryption,
    "s3:GetBucketTagging": _get_bucket_tagging,
}

"""The operations of Secrets Manager, RDS, ElastiCache and S3 that say what uses keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from benchmarks.fake_aws.aws_protocols import RefusedError, query_answer, root_answer
from benchmarks.fake_aws.buckets import Bucket
from benchmarks.fake_aws.pagination import RULES
from benchmarks.fake_aws.request_context import Call, Handler
from benchmarks.fake_aws.secrets import resource_policy
from benchmarks.fake_aws.world_state import Place

UNPAGED_BUCKETS = 10_000
"""ListBuckets must be paged above this number."""


def _list_secrets(call: Call) -> bytes:
    secrets = call.place.secrets
    if not call.asked.get("IncludePlannedDeletion"):
        secrets = [secret for secret in secrets if "DeletedDate" not in secret]
    page = call.page("secrets", len(secrets))
    told: dict[str, Any] = {"SecretList": secrets[page.start : page.start + page.size]}
    if page.token is not None:
        told["NextToken"] = page.token
    return orjson.dumps(told)


def _get_resource_policy(call: Call) -> bytes:
    arn = str(call.asked.get("SecretId", ""))
    secret = call.place.secrets_by_arn.get(arn)
    if secret is None:
        raise RefusedError("ResourceNotFoundException", 400, "Secrets Manager can't find the specified secret.")
    told = {"ARN": arn, "Name": secret["Name"]}
    policy = resource_policy(arn)
    return orjson.dumps(told | {"ResourcePolicy": policy} if policy else told)


def _listing(name: str, entries: Callable[[Place], list[dict[str, Any]]]) -> Handler:
    def handle(call: Call) -> bytes:
        found = entries(call.place)
        page = call.page(name, len(found))
        told: dict[str, Any] = {name: found[page.start : page.start + page.size]}
        if page.token is not None:
            told[RULES[call.operation].token] = page.token
        return query_answer(call.service, call.name, told)

    return handle


def _cache_tags(call: Call) -> bytes:
    arn = str(call.asked.get("ResourceName", ""))
    tags = call.place.caches.tags(arn)
    if tags is None:
        raise RefusedError("CacheClusterNotFound", 404, f"{arn} is either not present or not available.")
    return query_answer("elasticache", "ListTagsForResource", {"TagList": tags})


def _list_buckets(call: Call) -> bytes:
    world = call.state.world
    every = world.buckets(call.session.account_id, call.state.night).listed
    asked = {name for name in call.asked if name != "x-id"}
    if not asked and len(every) > UNPAGED_BUCKETS:
        raise RefusedError("InvalidRequest", 400, "There are more than 10,000 buckets: the listing must be paged.")
    prefix, region = call.asked.get("prefix", ""), call.asked.get("bucket-region")
    buckets = [bucket for bucket in every if bucket.name.startswith(prefix) and region in {None, bucket.region}]
    page = call.page(f"{prefix}/{region}", len(buckets))
    shown = [_entry(bucket, with_region=bool(asked)) for bucket in buckets[page.start : page.start + page.size]]
    told: dict[str, Any] = {"Owner": {"ID": f"{call.session.account_id:0>64}"}, "Buckets": shown}
    if page.token is not None:
        told["ContinuationToken"] = page.token
    return root_answer("s3", "ListAllMyBucketsResult", told)


def _entry(bucket: Bucket, *, with_region: bool) -> dict[str, Any]:
    """S3 tells the region only if at least one parameter was sent."""
    told = {"Name": bucket.name, "CreationDate": bucket.created}
    return told | {"BucketRegion": bucket.region} if with_region else told


def _bucket(call: Call) -> Bucket:
    name = call.asked["Bucket"]
    found = call.state.world.buckets(call.session.account_id, call.state.night).by_name.get(name)
    if found is None:
        raise RefusedError("NoSuchBucket", 404, "The specified bucket does not exist")
    if found.region != call.region:
        message = "The bucket you are attempting to access must be addressed using the specified endpoint."
        raise RefusedError("PermanentRedirect", 301, message, {"x-amz-bucket-region": found.region})
    owner = call.asked.get("x-amz-expected-bucket-owner", call.session.account_id)
    if owner != call.session.account_id:
        raise RefusedError("AccessDenied", 403, "Access Denied")
    return found


def _get_bucket_encryption(call: Call) -> bytes:
    bucket = _bucket(call)
    if bucket.algorithm is None:
        message = "The server side encryption configuration was not found"
        raise RefusedError("ServerSideEncryptionConfigurationNotFoundError", 404, message)
    default = {"SSEAlgorithm": bucket.algorithm}
    if bucket.key:
        default["KMSMasterKeyID"] = bucket.key
    rule = {"ApplyServerSideEncryptionByDefault": default, "BucketKeyEnabled": bucket.key is not None}
    return root_answer("s3", "ServerSideEncryptionConfiguration", {"Rule": rule})


def _get_bucket_tagging(call: Call) -> bytes:
    bucket = _bucket(call)
    if not bucket.tags:
        raise RefusedError("NoSuchTagSet", 404, "The TagSet does not exist")
    return root_answer("s3", "Tagging", {"TagSet": [{"Key": key, "Value": value} for key, value in bucket.tags]})


OPERATIONS: dict[str, Handler] = {
    "secretsmanager:ListSecrets": _list_secrets,
    "secretsmanager:GetResourcePolicy": _get_resource_policy,
    "rds:DescribeDBInstances": _listing("DBInstances", lambda place: place.databases.instances),
    "rds:DescribeDBClusters": _listing("DBClusters", lambda place: place.databases.clusters),
    "rds:DescribeDBSnapshots": _listing("DBSnapshots", lambda place: place.databases.snapshots),
    "rds:DescribeDBClusterSnapshots": _listing("DBClusterSnapshots", lambda place: place.databases.cluster_snapshots),
    "rds:DescribeDBInstanceAutomatedBackups": _listing(
        "DBInstanceAutomatedBackups", lambda place: place.databases.instance_backups
    ),
    "rds:DescribeDBClusterAutomatedBackups": _listing(
        "DBClusterAutomatedBackups", lambda place: place.databases.cluster_backups
    ),
    "elasticache:DescribeReplicationGroups": _listing(
        "ReplicationGroups", lambda place: place.caches.replication_groups
    ),
    "elasticache:DescribeCacheClusters": _listing("CacheClusters", lambda place: place.caches.cache_clusters),
    "elasticache:DescribeServerlessCaches": _listing("ServerlessCaches", lambda place: place.caches.serverless_caches),
    "elasticache:DescribeSnapshots": _listing("Snapshots", lambda place: place.caches.cache_snapshots),
    "elasticache:DescribeServerlessCacheSnapshots": _listing(
        "ServerlessCacheSnapshots", lambda place: place.caches.serverless_snapshots
    ),
    "elasticache:ListTagsForResource": _cache_tags,
    "s3:ListBuckets": _list_buckets,
    "s3:GetBucketEncryption": _get_bucket_encryption,
    "s3:GetBucketTagging": _get_bucket_tagging,
}

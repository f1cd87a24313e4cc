"""Scripted responses of one account-region with a key of every kind, resources that use them, and buckets."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any

from tests.crawler.scripted_aws import ACCOUNT, REGION, Answer, RecordedCall, Result, ScriptedAws, aws_error, paged

LONG_AGO = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)
POLICY = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "kms:*"}]})
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "database": {"Description": "databases"},
    "signing": {"KeySpec": "RSA_2048", "KeyUsage": "SIGN_VERIFY"},
    "mac": {"KeySpec": "HMAC_256", "KeyUsage": "GENERATE_VERIFY_MAC"},
    "imported": {"Origin": "EXTERNAL"},
    "hsm": {"Origin": "AWS_CLOUDHSM", "CustomKeyStoreId": "cks-1"},
    "outside": {"Origin": "EXTERNAL_KEY_STORE", "CustomKeyStoreId": "cks-2"},
    "managed": {"KeyManager": "AWS"},
    "replica": {
        "MultiRegion": True,
        "MultiRegionConfiguration": {
            "MultiRegionKeyType": "REPLICA",
            "PrimaryKey": {
                "Arn": f"arn:aws:kms:us-east-1:{ACCOUNT}:key/00000000-0000-4000-8000-000000000008",
                "Region": "us-east-1",
            },
            "ReplicaKeys": [],
        },
    },
}
"""Keys by their distinguishing metadata."""


def key_id(name: str) -> str:
    """Return the id of a sample key: a UUID made of its index."""
    return f"00000000-0000-4000-8000-{list(KINDS).index(name):012}"


def key_arn(name: str) -> str:
    """Return the ARN of a sample key."""
    return f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{key_id(name)}"


def arn_of(service: str, resource: str) -> str:
    """Return the ARN of a sample resource."""
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}"


SECRETS = [
    {"ARN": arn_of("secretsmanager", "secret:orders"), "Name": "orders", "KmsKeyId": key_arn("plain"), "Tags": []},
    {"ARN": arn_of("secretsmanager", "secret:default"), "Name": "default", "Tags": [{"Key": "Owner", "Value": "shop"}]},
    {"ARN": arn_of("secretsmanager", "secret:alias"), "Name": "alias", "KmsKeyId": "alias/database"},
]
DATABASES = [
    {
        "DBInstanceArn": arn_of("rds", "db:orders"),
        "DBInstanceIdentifier": "orders",
        "DBInstanceStatus": "available",
        "Engine": "postgres",
        "StorageEncrypted": True,
        "KmsKeyId": key_arn("database"),
        "InstanceCreateTime": LONG_AGO,
        "TagList": [{"Key": "Owner", "Value": "shop"}],
    }
]
CACHES = [
    {
        "ARN": arn_of("elasticache", "replicationgroup:cache"),
        "ReplicationGroupId": "cache",
        "AtRestEncryptionEnabled": True,
    }
]
BUCKETS = [
    {"Name": "logs", "BucketRegion": REGION, "CreationDate": LONG_AGO},
    {"Name": "plain", "BucketRegion": "us-east-1", "CreationDate": LONG_AGO},
]
OWN_TRAIL = {
    "Name": "audit",
    "TrailARN": arn_of("cloudtrail", "trail/audit"),
    "HomeRegion": REGION,
    "S3BucketName": "logs",
    "KmsKeyId": key_arn("plain"),
    "IsMultiRegionTrail": True,
    "IsOrganizationTrail": False,
    "IncludeGlobalServiceEvents": True,
    "LogFileValidationEnabled": True,
    "HasCustomEventSelectors": True,
}
ORGANIZATION_TRAIL = {
    "Name": "organization",
    "TrailARN": "arn:aws:cloudtrail:us-east-1:999999999999:trail/organization",
    "HomeRegion": "us-east-1",
    "S3BucketName": "organization-logs",
    "IsMultiRegionTrail": True,
    "IsOrganizationTrail": True,
    "LogFileValidationEnabled": True,
    "HasCustomEventSelectors": False,
}
BASIC_SELECTOR = {
    "ReadWriteType": "All",
    "IncludeManagementEvents": True,
    "DataResources": [],
    "ExcludeManagementEventSources": ["kms.amazonaws.com"],
}
TAGS = {"TagSet": [{"Key": "Owner", "Value": "shop"}]}
EMPTY = {
    "rds:DescribeDBClusters": "DBClusters",
    "rds:DescribeDBSnapshots": "DBSnapshots",
    "rds:DescribeDBClusterSnapshots": "DBClusterSnapshots",
    "rds:DescribeDBInstanceAutomatedBackups": "DBInstanceAutomatedBackups",
    "rds:DescribeDBClusterAutomatedBackups": "DBClusterAutomatedBackups",
    "elasticache:DescribeCacheClusters": "CacheClusters",
    "elasticache:DescribeServerlessCaches": "ServerlessCaches",
    "elasticache:DescribeSnapshots": "Snapshots",
    "elasticache:DescribeServerlessCacheSnapshots": "ServerlessCacheSnapshots",
}


def _named(call: RecordedCall) -> str:
    return next(name for name in KINDS if key_arn(name) == call["KeyId"])


def _described(call: RecordedCall) -> Result:
    plain = {
        "KeyId": key_id(_named(call)),
        "Arn": call["KeyId"],
        "KeyManager": "CUSTOMER",
        "KeyState": "Enabled",
        "Enabled": True,
        "KeySpec": "SYMMETRIC_DEFAULT",
        "KeyUsage": "ENCRYPT_DECRYPT",
        "Origin": "AWS_KMS",
        "CreationDate": LONG_AGO,
        "MultiRegion": False,
    }
    return {"KeyMetadata": plain | KINDS[_named(call)]}


def _grants(call: RecordedCall) -> Result:
    grant = {"GrantId": f"grant-{_named(call)}", "GranteePrincipal": "rds.amazonaws.com", "Operations": ["Decrypt"]}
    return {"Grants": [grant | {"KeyId": call["KeyId"], "CreationDate": LONG_AGO}], "Truncated": False}


def _rotation(call: RecordedCall) -> Result:
    if _named(call) not in {"plain", "database", "managed"}:
        message = f"{call['KeyId']} origin is EXTERNAL which is not valid for this operation."
        return aws_error("UnsupportedOperationException", message)
    return {"KeyRotationEnabled": True, "RotationPeriodInDays": 365}


def _encryption(call: RecordedCall) -> Result:
    default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key_arn("plain")} if call["Bucket"] == "logs" else None
    rule = {"ApplyServerSideEncryptionByDefault": default or {"SSEAlgorithm": "AES256"}}
    return {"ServerSideEncryptionConfiguration": {"Rules": [rule]}}


def _bucket_tags(call: RecordedCall) -> Result:
    return TAGS if call["Bucket"] == "logs" else aws_error("NoSuchTagSet", "The TagSet does not exist", 404)


def _secret_policy(call: RecordedCall) -> Result:
    return {"ARN": call["SecretId"], **({"ResourcePolicy": POLICY} if call["SecretId"].endswith("orders") else {})}


def answers() -> dict[str, Answer]:
    """Return the sample responses by operation; the keys have two pages."""
    keys = [{"KeyId": key_id(name), "KeyArn": key_arn(name)} for name in KINDS]
    half = len(keys) // 2
    aliases = [
        {"AliasName": "alias/database", "AliasArn": arn_of("kms", "alias/database"), "TargetKeyId": key_id("database")},
        {"AliasName": "alias/aws/rds", "AliasArn": arn_of("kms", "alias/aws/rds"), "TargetKeyId": key_id("managed")},
        {"AliasName": "alias/aws/s3", "AliasArn": arn_of("kms", "alias/aws/s3")},
    ]
    store = {"CustomKeyStoreId": "cks-1", "CustomKeyStoreName": "vault", "ConnectionState": "CONNECTED"}
    responses: dict[str, Answer] = {
        "kms:ListAliases": {"Aliases": aliases, "Truncated": False},
        "kms:ListKeys": paged(
            "Keys", [keys[:half], keys[half:]], send="Marker", receive="NextMarker", more="Truncated"
        ),
        "kms:DescribeKey": _described,
        "kms:GetKeyPolicy": {"Policy": POLICY, "PolicyName": "default"},
        "kms:ListGrants": _grants,
        "kms:ListResourceTags": {"Tags": [{"TagKey": "Owner", "TagValue": "shop"}], "Truncated": False},
        "kms:GetKeyRotationStatus": _rotation,
        "kms:ListKeyRotations": {
            "Rotations": [{"RotationDate": LONG_AGO, "RotationType": "AUTOMATIC"}],
            "Truncated": False,
        },
        "kms:DescribeCustomKeyStores": {"CustomKeyStores": [store], "Truncated": False},
        "secretsmanager:ListSecrets": {"SecretList": SECRETS},
        "secretsmanager:GetResourcePolicy": _secret_policy,
        "rds:DescribeDBInstances": {"DBInstances": DATABASES},
        "elasticache:DescribeReplicationGroups": {"ReplicationGroups": CACHES},
        "elasticache:ListTagsForResource": {"TagList": TAGS["TagSet"]},
        "cloudtrail:DescribeTrails": {"trailList": [OWN_TRAIL, ORGANIZATION_TRAIL]},
        "cloudtrail:GetEventSelectors": {"TrailARN": OWN_TRAIL["TrailARN"], "EventSelectors": [BASIC_SELECTOR]},
        "cloudtrail:GetTrailStatus": {"IsLogging": True, "StartLoggingTime": LONG_AGO},
        "s3:ListBuckets": {"Buckets": BUCKETS},
        "s3:GetBucketEncryption": _encryption,
        "s3:GetBucketTagging": _bucket_tags,
    }
    return {**responses, **{name: {items: []} for name, items in EMPTY.items()}}


def sample_aws(changed: Mapping[str, Answer] | None = None) -> ScriptedAws:
    """Return a scripted AWS with the sample responses, some of them replaced."""
    return ScriptedAws({**answers(), **(changed or {})})


def only_for(name: str, answer: Answer, operation: str) -> Answer:
    """Return the given response for one key, and the sample response for the others."""
    usual = answers()[operation]

    def respond(call: RecordedCall) -> Result:
        chosen = answer if call["KeyId"] == key_arn(name) else usual
        return chosen(call) if callable(chosen) else chosen

    return respond

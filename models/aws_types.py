"""The AWS resource types: properties shared by the crawler, the reports and the tests of rules.

A type needs no entry. By default its service, ARN and listing follow from its CloudFormation name; an entry states the
differences. ``tests/models/test_aws_types.py`` compares the entries with the crawler's declarations.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

SECRET: Final = "AWS::SecretsManager::Secret"  # noqa: S105 - the name of a resource type
TRAIL: Final = "AWS::CloudTrail::Trail"

SECRETS_MANAGER_KEY: Final = "alias/aws/secretsmanager"
RDS_KEY: Final = "alias/aws/rds"
S3_KEY: Final = "alias/aws/s3"

_NAME = re.compile(r"AWS::[A-Za-z0-9]+::[A-Za-z0-9]+")
_SERVICE_LABELS: Mapping[str, str] = {
    "cloudtrail": "CloudTrail",
    "elasticache": "ElastiCache",
    "lambda": "Lambda",
    "secretsmanager": "Secrets Manager",
}


@dataclass(frozen=True, slots=True)
class AwsType:
    """A type of resources that use KMS keys. Raises ValueError if the name is not a CloudFormation type name."""

    name: str
    """The name in CloudFormation."""
    service: str = ""
    """The service in ARNs and IAM actions."""
    arn: str = ""
    """What follows the account in an ARN, with {name} and {account}."""
    listing: str = ""
    """The IAM action that lists the resources."""
    operation: str = ""
    """The API operation of that action."""
    detail: str = ""
    """The IAM action that returns the keys of one resource, where the listing does not."""
    detail_operation: str = ""
    """The API operation of that action."""
    tags: str = ""
    """The IAM action that returns the tags of one resource, where the listing does not."""
    policy: str = ""
    """The IAM action that returns the policy of one resource."""
    replicas: str = ""
    """The IAM action that returns the replicas of one resource."""
    is_global: bool = False
    """Whether one listing covers the resources of all regions; their ARNs name neither region nor account."""
    key_role: str = "storage"
    """The role of the resource's main key."""
    default_key_alias: str | None = None
    """The AWS managed key that the resource uses when it names none."""
    found_by_name: bool | None = None
    """Whether the name alone identifies a resource; by default not for copies, which often have the name of their source."""
    asff: str = "Other"
    """The type in the AWS Security Finding Format, which has a fixed list."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is not the name of a resource type, such as {SECRET}")
        _, family, kind = self.name.split("::")
        service = self.service or family.lower()
        listing = self.listing or f"{service}:List{kind}s"
        defaults: dict[str, object] = {
            "service": service,
            "arn": f"{kind.lower()}/{{name}}",
            "listing": listing,
            "operation": listing.partition(":")[2],
            "detail_operation": self.detail.partition(":")[2],
        }
        for field, default in defaults.items():
            if not getattr(self, field):
                object.__setattr__(self, field, default)
        if self.found_by_name is None:
            object.__setattr__(self, "found_by_name", "Snapshot" not in kind and "Backup" not in kind)

    @property
    def item_actions(self) -> tuple[str, ...]:
        """The IAM actions that describe one resource."""
        return tuple(filter(None, (self.detail, self.tags, self.policy, self.replicas)))


@cache
def aws_type(name: str) -> AwsType:
    """The registered type, or a type with defaults derived from the name. Raises ValueError for an invalid name."""
    return AWS_TYPES.get(name) or AwsType(name)


def service_label(service: str) -> str:
    """The name of a service in prose, from its name in ARNs."""
    return _SERVICE_LABELS.get(service) or (service.upper() if len(service) <= 3 else service)


def asff_type(name: str) -> str:
    """The type in the AWS Security Finding Format, for every type of resource that can have findings."""
    registered = AWS_TYPES.get(name)
    return registered.asff if registered else _OTHER_ASFF_TYPES.get(name, "Other")


def _rds(kind: str, arn: str, *, family: str = "RDS", asff: str = "Other") -> AwsType:
    listing = f"rds:Describe{kind}s"
    return AwsType(f"AWS::{family}::{kind}", "rds", f"{arn}:{{name}}", listing, default_key_alias=RDS_KEY, asff=asff)


def _elasticache(kind: str) -> AwsType:
    return AwsType(
        f"AWS::ElastiCache::{kind}",
        arn=f"{kind.lower().removeprefix('cache')}:{{name}}",
        listing=f"elasticache:Describe{kind}s",
        tags="elasticache:ListTagsForResource",
    )


AWS_TYPES: Final[Mapping[str, AwsType]] = {
    resource_type.name: resource_type
    for resource_type in (
        AwsType(
            SECRET,
            arn="secret:{name}-AbCdEf",
            policy="secretsmanager:GetResourcePolicy",
            replicas="secretsmanager:DescribeSecret",
            key_role="secret",
            default_key_alias=SECRETS_MANAGER_KEY,
            asff="AwsSecretsManagerSecret",
        ),
        _rds("DBInstance", "db", asff="AwsRdsDbInstance"),
        _rds("DBInstance", "db", family="DocDB"),
        _rds("DBInstance", "db", family="Neptune"),
        _rds("DBCluster", "cluster", asff="AwsRdsDbCluster"),
        _rds("DBCluster", "cluster", family="DocDB"),
        _rds("DBCluster", "cluster", family="Neptune"),
        _rds("DBSnapshot", "snapshot", asff="AwsRdsDbSnapshot"),
        _rds("DBClusterSnapshot", "cluster-snapshot", asff="AwsRdsDbClusterSnapshot"),
        _rds("DBInstanceAutomatedBackup", "auto-backup"),
        _rds("DBClusterAutomatedBackup", "cluster-auto-backup"),
        _elasticache("ReplicationGroup"),
        _elasticache("CacheCluster"),
        _elasticache("ServerlessCache"),
        _elasticache("Snapshot"),
        _elasticache("ServerlessCacheSnapshot"),
        AwsType(
            "AWS::S3::Bucket",
            arn="{account}-{name}",
            listing="s3:ListAllMyBuckets",
            operation="ListBuckets",
            detail="s3:GetEncryptionConfiguration",
            detail_operation="GetBucketEncryption",
            tags="s3:GetBucketTagging",
            is_global=True,
            key_role="default-encryption",
            default_key_alias=S3_KEY,
            asff="AwsS3Bucket",
        ),
        AwsType(
            TRAIL,
            listing="cloudtrail:DescribeTrails",
            key_role="logs",
            found_by_name=False,
            asff="AwsCloudTrailTrail",
        ),
    )
}
"""The types with properties that do not follow from their name."""

_OTHER_ASFF_TYPES: Mapping[str, str] = {"account": "AwsAccount", "AWS::KMS::Key": "AwsKmsKey"}

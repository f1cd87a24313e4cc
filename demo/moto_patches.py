"""Patches for moto 5.2 where its responses differ from those of AWS in a way that matters to kmsledger.

Each patch is a function that wraps one method of moto; its docstring describes the behaviour of AWS. The patches are applied
once per process and change responses only: operations that moto lacks stay errors (see `demo.server`). The exception is
kms:GetKeyLastUsage, which returns what `demo.server.AwsServer.set_key_use` has set.
"""

from __future__ import annotations

import copy
import datetime as dt
import json
import re
import uuid
from collections.abc import Callable
from functools import cache, wraps
from typing import Any

from moto.cloudtrail.models import CloudTrailBackend, Trail, cloudtrail_backends
from moto.ec2.models.amis import AmiBackend
from moto.ec2.responses.availability_zones_and_regions import AvailabilityZonesAndRegions
from moto.iam.models import AWSManagedPolicy, IAMBackend, ManagedPolicy
from moto.kms import models as kms
from moto.kms.exceptions import NotFoundException
from moto.kms.responses import KmsResponse
from moto.kms.utils import RESERVED_ALIASES
from moto.organizations.models import organizations_backends
from moto.rds.models import RDSBackend
from moto.s3.models import S3Backend
from moto.s3.responses import S3Response
from moto.secretsmanager.models import FakeSecret, SecretsManagerBackend

DEFAULT_ROTATION_DAYS = 365
TRACKING_BEGAN = dt.datetime(2026, 3, 11, 18, 23, 45, tzinfo=dt.UTC)
SECRETS_ALIAS = "alias/aws/secretsmanager"
MANAGED_KEY_PURPOSE = {
    "alias/aws/rds": "Default key that protects my RDS database volumes when no other key is defined",
    SECRETS_ALIAS: "Default key that protects my Secrets Manager data when no other key is defined",
    "alias/aws/s3": "Default key that protects my S3 objects when no other key is defined",
}


@cache
def apply() -> None:
    """Apply all patches; a second call does nothing."""
    for name in ("enable_key", "disable_key", "schedule_key_deletion", "cancel_key_deletion", "replicate_key"):
        _wrap(kms.KmsBackend, name, _accept_arn)
    _wrap(kms.KmsBackend, "create_key", _key_defaults)
    _wrap(kms.KmsBackend, "_generate_default_keys", _managed_key)
    _wrap(kms.KmsBackend, "create_alias", _date_created_alias)
    _wrap(kms.KmsBackend, "update_alias", _date_updated_alias)
    _wrap(kms.KmsBackend, "replicate_key", _separate_replica)
    _wrap(kms.KmsBackend, "describe_key", _multi_region_type)
    _wrap(kms.KmsBackend, "create_grant", _date_grant)
    _wrap(kms.Grant, "to_json", _grant_entry)
    _wrap(KmsResponse, "list_aliases", _alias_entries)
    _wrap(KmsResponse, "enable_key_rotation", _keep_rotation_period)
    _wrap(KmsResponse, "get_key_rotation_status", _rotation_status)
    kms_models: Any = kms
    # Moto makes an RSA key of 4096 bits for every key, which takes most of the time; nobody signs with these keys.
    kms_models.generate_private_key = lambda _spec: None
    # Moto makes 1,300 images of virtual machines with their volumes for every account-region; the crawler reads none.
    images: Any = AmiBackend
    images._load_amis = lambda _backend: None  # noqa: SLF001 - moto
    kms_response: Any = KmsResponse
    kms_response.get_key_last_usage = _last_usage
    _wrap(IAMBackend, "_init_aws_policies", _aws_policies)
    managed_policy: Any = ManagedPolicy  # GetAccountAuthorizationDetails also returns the name of a policy
    managed_policy.policy_name = property(lambda policy: policy.name)
    _wrap(AvailabilityZonesAndRegions, "describe_regions", _filtered_regions)
    _wrap(CloudTrailBackend, "describe_trails", _shadow_trails)
    _wrap(Trail, "get_event_selectors", _event_selectors)
    _wrap(Trail, "description", _trail_entry)
    _wrap(RDSBackend, "create_db_instance", _database_key)
    _wrap(RDSBackend, "create_db_cluster", _cluster_key)
    _wrap(S3Backend, "create_bucket", _bucket_encryption)
    _wrap(S3Backend, "put_bucket_encryption", _bucket_managed_key)
    _wrap(S3Response, "all_buckets", _bucket_regions)
    _wrap(FakeSecret, "to_dict", _primary_region)
    _wrap(SecretsManagerBackend, "create_secret", _secret_created)
    _wrap(SecretsManagerBackend, "update_secret", _secret_updated)


def _wrap(owner: type, name: str, patch: Callable[..., Any]) -> None:
    """Replace a method with `patch(original, self, ...)`."""
    original = getattr(owner, name)

    @wraps(original)
    def patched(self: Any, *args: Any, **kwargs: Any) -> Any:
        return patch(original, self, *args, **kwargs)

    setattr(owner, name, patched)


def _now() -> float:
    return dt.datetime.now(dt.UTC).timestamp()


def _accept_arn(original: Any, backend: Any, key_id: str, *args: Any, **kwargs: Any) -> Any:
    """Every operation accepts the ARN of a key."""
    return original(backend, backend.get_key_id(key_id), *args, **kwargs)


def _key_defaults(original: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
    """DescribeKey returns MultiRegion and KeyUsage for every key."""
    key = original(backend, *args, **kwargs)
    key.multi_region = bool(key.multi_region)
    key.key_usage = key.key_usage or "ENCRYPT_DECRYPT"
    return key


def _managed_key(original: Any, backend: Any, alias_name: str) -> Any:
    """The key behind `alias/aws/x` is managed by AWS, rotates every year, and can only be used through that service."""
    key_id = original(backend, alias_name)
    if key_id is not None:
        key = backend.keys[key_id]
        service = alias_name.rpartition("/")[2]
        key.key_manager = "AWS"
        key.key_rotation_status = True
        key.description = MANAGED_KEY_PURPOSE.get(alias_name, f"Default key that protects my {service} data")
        key.policy = json.dumps(_managed_policy(service, key.account_id, key.region))
    return key_id


def _managed_policy(service: str, account_id: str, region: str) -> dict[str, Any]:
    return {
        "Version": "2012-10-17",
        "Id": f"auto-{service}-1",
        "Statement": [
            {
                "Sid": f"Allow access through {service} for all principals in the account that may use it",
                "Effect": "Allow",
                "Principal": {"AWS": "*"},
                "Action": [
                    "kms:Encrypt",
                    "kms:Decrypt",
                    "kms:ReEncrypt*",
                    "kms:GenerateDataKey*",
                    "kms:CreateGrant",
                    "kms:DescribeKey",
                ],
                "Resource": "*",
                "Condition": {
                    "StringEquals": {
                        "kms:CallerAccount": account_id,
                        "kms:ViaService": f"{service}.{region}.amazonaws.com",
                    }
                },
            },
            {
                "Sid": "Allow direct access to key metadata to the account",
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:aws:iam::{account_id}:root"},
                "Action": ["kms:Describe*", "kms:Get*", "kms:List*", "kms:RevokeGrant"],
                "Resource": "*",
            },
        ],
    }


def _date_created_alias(original: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
    """ListAliases returns when an alias was created and when it was last updated."""
    alias = original(backend, *args, **kwargs)
    alias.created = alias.updated = _now()
    return alias


def _date_updated_alias(original: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
    """Like `_date_created_alias`."""
    alias = original(backend, *args, **kwargs)
    alias.updated = _now()
    return alias


def _alias_entries(original: Any, response: Any) -> str:
    """A predefined alias whose key does not exist yet has no TargetKeyId."""
    document = json.loads(original(response))
    aliases = {alias.alias_name: alias for alias in response.kms_backend.list_aliases()}
    for entry in document["Aliases"]:
        alias = aliases.get(entry["AliasName"])
        if alias is not None:
            entry |= {"CreationDate": alias.created, "LastUpdatedDate": alias.updated}
        elif entry["AliasName"] in RESERVED_ALIASES:
            del entry["TargetKeyId"]
    return json.dumps(document)


def _separate_replica(original: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
    """A replica has its own aliases, grants and policy; in moto it shares those of the primary key."""
    replica = original(backend, *args, **kwargs)
    replica.aliases, replica.grants, replica.rotations = {}, {}, []
    replica.policy = replica.generate_default_policy()
    return replica


def _multi_region_type(original: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
    """DescribeKey of a replica does not change the type of the primary key."""
    key = original(backend, *args, **kwargs)
    if key.multi_region:
        shared = copy.deepcopy(key.multi_region_configuration)
        shared["MultiRegionKeyType"] = "PRIMARY" if key.arn == shared["PrimaryKey"]["Arn"] else "REPLICA"
        key.multi_region_configuration = shared
    return key


def _date_grant(original: Any, backend: Any, key_id: str, *args: Any, **kwargs: Any) -> Any:
    """ListGrants returns the creation date and the issuing account of a grant."""
    grant_id, token = original(backend, key_id, *args, **kwargs)
    key = backend.describe_key(key_id)
    grant = key.grants[grant_id]
    grant.created, grant.issuer, grant.key_arn = _now(), f"arn:aws:iam::{backend.account_id}:root", key.arn
    return grant_id, token


def _grant_entry(original: Any, grant: Any) -> dict[str, Any]:
    """Like `_date_grant`; the KeyId of an entry is the ARN of the key, and fields without a value are left out."""
    entry = original(grant) | {"CreationDate": grant.created, "IssuingAccount": grant.issuer, "KeyId": grant.key_arn}
    return {name: value for name, value in entry.items() if value is not None}


def _keep_rotation_period(original: Any, response: Any) -> Any:
    """EnableKeyRotation accepts a period in days."""
    document = original(response)
    key = response.kms_backend.keys[response.kms_backend.get_key_id(response._get_param("KeyId"))]  # noqa: SLF001 - moto
    key.rotation_days = response._get_param("RotationPeriodInDays") or DEFAULT_ROTATION_DAYS  # noqa: SLF001 - moto
    return document


def _rotation_status(original: Any, response: Any) -> str:
    """GetKeyRotationStatus returns the period and the next rotation of a key with rotation enabled."""
    document = json.loads(original(response))
    key = response.kms_backend.keys[response.kms_backend.get_key_id(response._get_param("KeyId"))]  # noqa: SLF001 - moto
    document["KeyId"] = key.arn
    if document["KeyRotationEnabled"]:
        days = getattr(key, "rotation_days", DEFAULT_ROTATION_DAYS)
        document |= {"RotationPeriodInDays": days, "NextRotationDate": key.creation_date + days * 86400}
    return json.dumps(document)


def _last_usage(response: Any) -> str:
    """GetKeyLastUsage returns the last use since tracking began, which is never before the creation of the key."""
    key_id = response._get_param("KeyId")  # noqa: SLF001 - moto
    if "alias/" in key_id:
        raise NotFoundException(f"Invalid keyId {key_id}")
    response._validate_key_id(key_id)  # noqa: SLF001 - moto
    key = response.kms_backend.describe_key(key_id)
    last_use = getattr(key, "last_use", None)
    usage = {}
    if last_use is not None:
        operation, used_at = last_use
        event = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{key.arn} {operation} {used_at.isoformat()}"))
        usage = {
            "Operation": operation,
            "Timestamp": used_at.timestamp(),
            "CloudTrailEventId": event,
            "KmsRequestId": event,
        }
    document = {
        "KeyId": key.arn,
        "KeyLastUsage": usage,
        "TrackingStartDate": max(TRACKING_BEGAN.timestamp(), key.creation_date),
        "KeyCreationDate": key.creation_date,
    }
    return json.dumps(document)


def _database_key(original: Any, backend: Any, settings: dict[str, Any]) -> Any:
    """An encrypted database without a customer key uses `aws/rds`; responses contain key ARNs."""
    if settings.get("db_cluster_identifier") is None and settings.get("storage_encrypted"):
        settings = {**settings, "kms_key_id": _rds_key(backend, settings.get("kms_key_id"))}
    database = original(backend, settings)
    database.storage_encryption_type = "sse-kms" if database.storage_encrypted else "none"
    database.performance_insights_enabled = bool(settings.get("enable_performance_insights"))
    if database.performance_insights_enabled:
        database.performance_insights_kms_key_id = _rds_key(backend, settings.get("performance_insights_kms_key_id"))
    return database


def _cluster_key(original: Any, backend: Any, settings: dict[str, Any]) -> Any:
    """Like `_database_key`; an unencrypted cluster has no key."""
    encrypted = bool(settings.get("storage_encrypted"))
    if encrypted:
        settings = {**settings, "kms_key_id": _rds_key(backend, settings.get("kms_key_id"))}
    cluster = original(backend, settings)
    cluster.storage_encryption_type = "sse-kms" if encrypted else "none"
    if not encrypted:
        cluster.kms_key_id = None
    return cluster


def _rds_key(backend: Any, reference: str | None) -> str:
    name = reference or "alias/aws/rds"
    try:
        return str(backend.kms.describe_key(name).arn)
    except KeyError:  # a key of another account or region
        return name


def _bucket_encryption(original: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
    """Since January 2023, new buckets use SSE-S3 by default."""
    bucket = original(backend, *args, **kwargs)
    bucket.encryption = {
        "Rule": {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}, "BucketKeyEnabled": "false"}
    }
    return bucket


def _bucket_managed_key(original: Any, backend: Any, bucket_name: str, encryption: dict[str, Any]) -> Any:
    """`aws:kms` without a key uses the key behind `alias/aws/s3` and creates it at the first use."""
    default = encryption["Rule"]["ApplyServerSideEncryptionByDefault"]
    if default["SSEAlgorithm"].startswith("aws:kms") and not default.get("KMSMasterKeyID"):
        region = backend.get_bucket(bucket_name).region_name
        kms.kms_backends[backend.account_id][region].get_key_id_from_alias("alias/aws/s3")
    return original(backend, bucket_name, encryption)


def _primary_region(original: Any, secret: Any) -> dict[str, Any]:
    """A secret with replicas names its region as the primary one."""
    described: dict[str, Any] = original(secret)
    return described | {"PrimaryRegion": secret.region} if secret.replicas else described


def _secret_created(original: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
    """Like `_bucket_managed_key`, for a secret without a key and `alias/aws/secretsmanager`."""
    if kwargs.get("kms_key_id") in {None, SECRETS_ALIAS}:
        kms.kms_backends[backend.account_id][backend.region_name].get_key_id_from_alias(SECRETS_ALIAS)
    return original(backend, *args, **kwargs)


def _secret_updated(original: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
    """Like `_secret_created`; an update without a key does not change the key."""
    if kwargs.get("kms_key_id") == SECRETS_ALIAS:
        kms.kms_backends[backend.account_id][backend.region_name].get_key_id_from_alias(SECRETS_ALIAS)
    return original(backend, *args, **kwargs)


def _aws_policies(original: Any, backend: Any) -> list[Any]:
    """Every account has the AWS managed policies: only AdministratorAccess here, because loading all takes seconds."""
    allow_all = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    policy_data = {
        "DefaultVersionId": "v1",
        "Path": "/",
        "Document": {"Version": "2012-10-17", "Statement": [allow_all]},
        "CreateDate": "2015-02-06T18:39:46+00:00",
        "UpdateDate": "2015-02-06T18:39:46+00:00",
    }
    policy = AWSManagedPolicy.from_data("AdministratorAccess", backend.account_id, backend.region_name, policy_data)
    return [*original(backend), policy]


def _filtered_regions(original: Any, response: Any) -> Any:
    """DescribeRegions supports the filter `opt-in-status`."""
    document = original(response)
    if statuses := response._filters_from_querystring().get("opt-in-status"):  # noqa: SLF001 - moto
        document.result["Regions"] = [
            region for region in document.result["Regions"] if region.opt_in_status in statuses
        ]
    return document


def _shadow_trails(original: Any, backend: Any, include_shadow_trails: bool) -> list[Any]:
    """DescribeTrails returns an organization trail as a shadow trail in every account of the organization."""
    described = list(original(backend, include_shadow_trails))
    if not include_shadow_trails:
        return described
    for owner, organization in list(organizations_backends.items()):
        members = {account.id for account in organization["aws"].accounts} - {owner}
        if backend.account_id in members:
            owned = [trail for regional in cloudtrail_backends[owner].values() for trail in regional.trails.values()]
            described += [
                trail
                for trail in owned
                if trail.is_org_trail and (trail.is_multi_region or trail.region_name == backend.region_name)
            ]
    return described


def _event_selectors(original: Any, trail: Any) -> Any:
    """A trail without event selectors has the default: the management events of all services."""
    basic, advanced = original(trail)
    default = {"ReadWriteType": "All", "IncludeManagementEvents": True, "DataResources": []}
    return ([default | {"ExcludeManagementEventSources": []}] if not basic and not advanced else basic), advanced


def _trail_entry(original: Any, trail: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """DescribeTrails returns HasCustomEventSelectors and leaves out fields without a value."""
    entry = original(trail, *args, **kwargs)
    entry["HasCustomEventSelectors"] = bool(trail.event_selectors or trail.advanced_event_selectors)
    return {name: value for name, value in entry.items() if value is not None}


def _bucket_regions(original: Any, response: Any) -> Any:
    """ListBuckets with any parameter returns the region of every bucket."""
    status, headers, body = original(response)
    if response.querystring.keys() - {"x-id"}:
        regions = {bucket.name: bucket.region_name for bucket in response.backend.buckets.values()}
        text = body.decode() if isinstance(body, bytes) else body
        body = re.sub(
            r"<Name>([^<]+)</Name>", lambda name: f"{name[0]}<BucketRegion>{regions[name[1]]}</BucketRegion>", text
        )
    return status, headers, body

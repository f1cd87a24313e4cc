"""Where moto 5.2 answers otherwise than AWS does in something that a ledger of keys must get right, corrected.

Each correction is one function that wraps one method of moto's; the docstring says what AWS does. They are applied once
a process, and they change answers only: what moto cannot do at all stays an error (see `demo.server`), but for
kms:GetKeyLastUsage, which is answered from what `demo.server.AwsServer.set_key_use` was told.
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
from moto.secretsmanager.models import SecretsManagerBackend

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
    """Put all corrections in place; a second call does nothing."""
    for name in ("enable_key", "disable_key", "schedule_key_deletion", "cancel_key_deletion", "replicate_key"):
        _wrap(kms.KmsBackend, name, _by_arn)
    _wrap(kms.KmsBackend, "create_key", _regionality)
    _wrap(kms.KmsBackend, "_generate_default_keys", _managed_key)
    _wrap(kms.KmsBackend, "create_alias", _alias_created)
    _wrap(kms.KmsBackend, "update_alias", _alias_moved)
    _wrap(kms.KmsBackend, "replicate_key", _separate_replica)
    _wrap(kms.KmsBackend, "describe_key", _own_regionality)
    _wrap(kms.KmsBackend, "create_grant", _date_grant)
    _wrap(kms.Grant, "to_json", _grant_entry)
    _wrap(KmsResponse, "list_aliases", _alias_entries)
    _wrap(KmsResponse, "enable_key_rotation", _keep_rotation_period)
    _wrap(KmsResponse, "get_key_rotation_status", _rotation_status)
    answering: Any = KmsResponse
    answering.get_key_last_usage = _last_usage
    _wrap(IAMBackend, "_init_aws_policies", _aws_policies)
    named: Any = ManagedPolicy  # GetAccountAuthorizationDetails tells the name of a policy as well
    named.policy_name = property(lambda policy: policy.name)
    _wrap(AvailabilityZonesAndRegions, "describe_regions", _filtered_regions)
    _wrap(CloudTrailBackend, "describe_trails", _shadow_trails)
    _wrap(Trail, "get_event_selectors", _event_selectors)
    _wrap(Trail, "description", _trail_entry)
    _wrap(RDSBackend, "create_db_instance", _database_key)
    _wrap(RDSBackend, "create_db_cluster", _cluster_key)
    _wrap(S3Backend, "create_bucket", _bucket_encryption)
    _wrap(S3Backend, "put_bucket_encryption", _bucket_managed_key)
    _wrap(S3Response, "all_buckets", _bucket_regions)
    _wrap(SecretsManagerBackend, "create_secret", _secret_created)
    _wrap(SecretsManagerBackend, "update_secret", _secret_updated)


def _wrap(owner: type, name: str, correction: Callable[..., Any]) -> None:
    """Let `correction(original, self, ...)` stand in for a method."""
    original = getattr(owner, name)

    @wraps(original)
    def corrected(self: Any, *args: Any, **kwargs: Any) -> Any:
        return correction(original, self, *args, **kwargs)

    setattr(owner, name, corrected)


def _now() -> float:
    return dt.datetime.now(dt.UTC).timestamp()


def _by_arn(original: Any, backend: Any, key_id: str, *args: Any, **kwargs: Any) -> Any:
    """A key may be named by its ARN in every operation."""
    return original(backend, backend.get_key_id(key_id), *args, **kwargs)


def _regionality(original: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
    """DescribeKey says of every key whether it is a multi-Region key, and what it is for."""
    key = original(backend, *args, **kwargs)
    key.multi_region = bool(key.multi_region)
    key.key_usage = key.key_usage or "ENCRYPT_DECRYPT"
    return key


def _managed_key(original: Any, backend: Any, alias_name: str) -> Any:
    """The key behind `alias/aws/x` is managed by AWS, rotates every year, and may be used through that service only."""
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


def _alias_created(original: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
    """ListAliases tells when an alias was made and when it last moved."""
    alias = original(backend, *args, **kwargs)
    alias.created = alias.updated = _now()
    return alias


def _alias_moved(original: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
    """As `_alias_created`."""
    alias = original(backend, *args, **kwargs)
    alias.updated = _now()
    return alias


def _alias_entries(original: Any, response: Any) -> str:
    """A predefined alias whose key does not exist yet has no TargetKeyId."""
    answer = json.loads(original(response))
    aliases = {alias.alias_name: alias for alias in response.kms_backend.list_aliases()}
    for entry in answer["Aliases"]:
        alias = aliases.get(entry["AliasName"])
        if alias is not None:
            entry |= {"CreationDate": alias.created, "LastUpdatedDate": alias.updated}
        elif entry["AliasName"] in RESERVED_ALIASES:
            del entry["TargetKeyId"]
    return json.dumps(answer)


def _separate_replica(original: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
    """A replica has its own aliases, grants and policy; moto lets it share the primary's."""
    replica = original(backend, *args, **kwargs)
    replica.aliases, replica.grants, replica.rotations = {}, {}, []
    replica.policy = replica.generate_default_policy()
    return replica


def _own_regionality(original: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
    """A primary key stays PRIMARY when one of its replicas is described."""
    key = original(backend, *args, **kwargs)
    if key.multi_region:
        shared = copy.deepcopy(key.multi_region_configuration)
        shared["MultiRegionKeyType"] = "PRIMARY" if key.arn == shared["PrimaryKey"]["Arn"] else "REPLICA"
        key.multi_region_configuration = shared
    return key


def _date_grant(original: Any, backend: Any, key_id: str, *args: Any, **kwargs: Any) -> Any:
    """ListGrants tells when and by which account a grant was made."""
    grant_id, token = original(backend, key_id, *args, **kwargs)
    key = backend.describe_key(key_id)
    grant = key.grants[grant_id]
    grant.created, grant.issuer, grant.key_arn = _now(), f"arn:aws:iam::{backend.account_id}:root", key.arn
    return grant_id, token


def _grant_entry(original: Any, grant: Any) -> dict[str, Any]:
    """As `_date_grant`; the KeyId of an entry is the key's ARN, and what was not given is not listed."""
    entry = original(grant) | {"CreationDate": grant.created, "IssuingAccount": grant.issuer, "KeyId": grant.key_arn}
    return {name: value for name, value in entry.items() if value is not None}


def _keep_rotation_period(original: Any, response: Any) -> Any:
    """EnableKeyRotation takes a period in days."""
    answer = original(response)
    key = response.kms_backend.keys[response.kms_backend.get_key_id(response._get_param("KeyId"))]  # noqa: SLF001 - moto
    key.rotation_days = response._get_param("RotationPeriodInDays") or DEFAULT_ROTATION_DAYS  # noqa: SLF001 - moto
    return answer


def _rotation_status(original: Any, response: Any) -> str:
    """A key that rotates tells its period and its next rotation."""
    answer = json.loads(original(response))
    key = response.kms_backend.keys[response.kms_backend.get_key_id(response._get_param("KeyId"))]  # noqa: SLF001 - moto
    answer["KeyId"] = key.arn
    if answer["KeyRotationEnabled"]:
        days = getattr(key, "rotation_days", DEFAULT_ROTATION_DAYS)
        answer |= {"RotationPeriodInDays": days, "NextRotationDate": key.creation_date + days * 86400}
    return json.dumps(answer)


def _last_usage(response: Any) -> str:
    """GetKeyLastUsage: the last use of a key since its tracking began, which is never before the key was created."""
    key_id = response._get_param("KeyId")  # noqa: SLF001 - moto
    if "alias/" in key_id:
        raise NotFoundException(f"Invalid keyId {key_id}")
    response._validate_key_id(key_id)  # noqa: SLF001 - moto
    key = response.kms_backend.describe_key(key_id)
    used = getattr(key, "last_use", None)
    usage = {}
    if used is not None:
        operation, at = used
        event = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{key.arn} {operation} {at.isoformat()}"))
        usage = {"Operation": operation, "Timestamp": at.timestamp(), "CloudTrailEventId": event, "KmsRequestId": event}
    answer = {
        "KeyId": key.arn,
        "KeyLastUsage": usage,
        "TrackingStartDate": max(TRACKING_BEGAN.timestamp(), key.creation_date),
        "KeyCreationDate": key.creation_date,
    }
    return json.dumps(answer)


def _database_key(original: Any, backend: Any, settings: dict[str, Any]) -> Any:
    """An encrypted database without a key of its own is under `aws/rds`; keys are answered as ARNs."""
    if settings.get("db_cluster_identifier") is None and settings.get("storage_encrypted"):
        settings = {**settings, "kms_key_id": _rds_key(backend, settings.get("kms_key_id"))}
    database = original(backend, settings)
    database.storage_encryption_type = "sse-kms" if database.storage_encrypted else "none"
    database.performance_insights_enabled = bool(settings.get("enable_performance_insights"))
    if database.performance_insights_enabled:
        database.performance_insights_kms_key_id = _rds_key(backend, settings.get("performance_insights_kms_key_id"))
    return database


def _cluster_key(original: Any, backend: Any, settings: dict[str, Any]) -> Any:
    """As `_database_key`; a cluster that is not encrypted has no key."""
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
    except KeyError:  # a key of another account or region: leave it as it was given
        return name


def _bucket_encryption(original: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
    """Since January 2023 every new bucket is encrypted with keys of S3 until it is told otherwise."""
    bucket = original(backend, *args, **kwargs)
    bucket.encryption = {
        "Rule": {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}, "BucketKeyEnabled": "false"}
    }
    return bucket


def _bucket_managed_key(original: Any, backend: Any, bucket_name: str, encryption: dict[str, Any]) -> Any:
    """`aws:kms` without a key is the key behind `alias/aws/s3`, which comes into being then."""
    default = encryption["Rule"]["ApplyServerSideEncryptionByDefault"]
    if default["SSEAlgorithm"].startswith("aws:kms") and not default.get("KMSMasterKeyID"):
        region = backend.get_bucket(bucket_name).region_name
        kms.kms_backends[backend.account_id][region].get_key_id_from_alias("alias/aws/s3")
    return original(backend, bucket_name, encryption)


def _secret_created(original: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
    """As `_bucket_managed_key`, for a secret without a key and `alias/aws/secretsmanager`."""
    if kwargs.get("kms_key_id") in {None, SECRETS_ALIAS}:
        kms.kms_backends[backend.account_id][backend.region_name].get_key_id_from_alias(SECRETS_ALIAS)
    return original(backend, *args, **kwargs)


def _secret_updated(original: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
    """As `_secret_created`; an update without a key leaves the key as it is."""
    if kwargs.get("kms_key_id") == SECRETS_ALIAS:
        kms.kms_backends[backend.account_id][backend.region_name].get_key_id_from_alias(SECRETS_ALIAS)
    return original(backend, *args, **kwargs)


def _aws_policies(original: Any, backend: Any) -> list[Any]:
    """Every account has the managed policies of AWS: here the one that the demo attaches, as loading all takes seconds."""
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    made = {
        "DefaultVersionId": "v1",
        "Path": "/",
        "Document": {"Version": "2012-10-17", "Statement": [everything]},
        "CreateDate": "2015-02-06T18:39:46+00:00",
        "UpdateDate": "2015-02-06T18:39:46+00:00",
    }
    policy = AWSManagedPolicy.from_data("AdministratorAccess", backend.account_id, backend.region_name, made)
    return [*original(backend), policy]


def _filtered_regions(original: Any, response: Any) -> Any:
    """DescribeRegions obeys a filter by `opt-in-status`."""
    answer = original(response)
    if wanted := response._filters_from_querystring().get("opt-in-status"):  # noqa: SLF001 - moto's own way to filters
        answer.result["Regions"] = [each for each in answer.result["Regions"] if each.opt_in_status in wanted]
    return answer


def _shadow_trails(original: Any, backend: Any, include_shadow_trails: bool) -> list[Any]:
    """An organization's trail is shown, as a shadow, in every account of the organization."""
    found = list(original(backend, include_shadow_trails))
    if not include_shadow_trails:
        return found
    for owner, organization in list(organizations_backends.items()):
        members = {account.id for account in organization["aws"].accounts} - {owner}
        if backend.account_id in members:
            of_all = [trail for each in cloudtrail_backends[owner].values() for trail in each.trails.values()]
            found += [
                trail
                for trail in of_all
                if trail.is_org_trail and (trail.is_multi_region or trail.region_name == backend.region_name)
            ]
    return found


def _event_selectors(original: Any, trail: Any) -> Any:
    """A trail without selectors of its own has the default: the management events of every service."""
    basic, advanced = original(trail)
    default = {"ReadWriteType": "All", "IncludeManagementEvents": True, "DataResources": []}
    return ([default | {"ExcludeManagementEventSources": []}] if not basic and not advanced else basic), advanced


def _trail_entry(original: Any, trail: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """The listing tells whether a trail has selectors of its own, and leaves out what it does not have."""
    told = original(trail, *args, **kwargs)
    told["HasCustomEventSelectors"] = bool(trail.event_selectors or trail.advanced_event_selectors)
    return {name: value for name, value in told.items() if value is not None}


def _bucket_regions(original: Any, response: Any) -> Any:
    """A ListBuckets call with any parameter tells the region of every bucket."""
    status, headers, body = original(response)
    if response.querystring.keys() - {"x-id"}:
        regions = {bucket.name: bucket.region_name for bucket in response.backend.buckets.values()}
        text = body.decode() if isinstance(body, bytes) else body
        body = re.sub(
            r"<Name>([^<]+)</Name>", lambda name: f"{name[0]}<BucketRegion>{regions[name[1]]}</BucketRegion>", text
        )
    return status, headers, body

"""A plain boto3 script as a baseline: one session per account, one client per service and region, one thread.

It makes the same calls as a crawl, with the same page sizes, and discards the responses. Endpoint and credentials come
from the environment (``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID`` ...).

    python -m benchmarks.boto3_baseline --role KmsInventoryReadOnly --external-id ID [--shared]
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import boto3
import botocore.session
from botocore.exceptions import ClientError

HOME = "us-east-1"
LISTINGS: Mapping[str, tuple[tuple[str, str, dict[str, Any]], ...]] = {
    "secretsmanager": (("list_secrets", "SecretList", {"IncludePlannedDeletion": True, "MaxResults": 100}),),
    "rds": (
        ("describe_db_instances", "DBInstances", {"MaxRecords": 100}),
        ("describe_db_clusters", "DBClusters", {"MaxRecords": 100}),
        ("describe_db_snapshots", "DBSnapshots", {"MaxRecords": 100}),
        ("describe_db_cluster_snapshots", "DBClusterSnapshots", {"MaxRecords": 100}),
        ("describe_db_instance_automated_backups", "DBInstanceAutomatedBackups", {"MaxRecords": 100}),
        ("describe_db_cluster_automated_backups", "DBClusterAutomatedBackups", {"MaxRecords": 100}),
    ),
    "elasticache": (
        ("describe_replication_groups", "ReplicationGroups", {"MaxRecords": 100}),
        (
            "describe_cache_clusters",
            "CacheClusters",
            {"MaxRecords": 100, "ShowCacheClustersNotInReplicationGroups": True},
        ),
        ("describe_serverless_caches", "ServerlessCaches", {"MaxResults": 100}),
        ("describe_snapshots", "Snapshots", {"MaxRecords": 50}),
        ("describe_serverless_cache_snapshots", "ServerlessCacheSnapshots", {"MaxResults": 50}),
    ),
}
"""Service → method, item list of a page, parameters."""
CANNOT_ROTATE = {"AWS_CLOUDHSM", "EXTERNAL_KEY_STORE"}
ENABLED = {"ENABLED", "ENABLED_BY_DEFAULT", "ENABLING"}


def items(client: Any, method: str, member: str, **params: Any) -> Iterator[Any]:
    """All items of a listing, paged by hand, because not every operation has a paginator."""
    while True:
        page = getattr(client, method)(**params)
        yield from page[member]
        name = next(
            (name for name in ("NextToken", "NextMarker", "Marker", "ContinuationToken") if page.get(name)), None
        )
        if name is None:
            return
        params[name.removeprefix("Next") if name == "NextMarker" else name] = page[name]


def organization() -> Iterator[tuple[str, set[str]]]:
    """Account ids with their enabled regions, read by the management account."""
    organizations, regions_client = (
        boto3.client("organizations", region_name=HOME),
        boto3.client("account", region_name=HOME),
    )
    management = organizations.describe_organization()["Organization"]["MasterAccountId"]
    waiting = [root["Id"] for root in items(organizations, "list_roots", "Roots", MaxResults=20)]
    while waiting:
        params = {"ParentId": waiting.pop(), "MaxResults": 20}
        units = items(organizations, "list_organizational_units_for_parent", "OrganizationalUnits", **params)
        waiting += [unit["Id"] for unit in units]
    for account in items(organizations, "list_accounts", "Accounts", MaxResults=20):
        account_options = {} if account["Id"] == management else {"AccountId": account["Id"]}
        regions = items(regions_client, "list_regions", "Regions", MaxResults=50, **account_options)
        yield account["Id"], {region["RegionName"] for region in regions if region["RegionOptStatus"] in ENABLED}


def read_key(kms: Any, arn: str, *, managed: bool) -> None:
    """Make all calls for one key; a denied call does not prevent the next one."""
    key: dict[str, Any] = {}
    with contextlib.suppress(ClientError):
        key = kms.describe_key(KeyId=arn)["KeyMetadata"]
    if managed or key.get("KeyManager") == "AWS":
        return
    with contextlib.suppress(ClientError):
        kms.get_key_policy(KeyId=arn, PolicyName="default")
    with contextlib.suppress(ClientError):
        list(items(kms, "list_grants", "Grants", KeyId=arn, Limit=100))
    with contextlib.suppress(ClientError):
        list(items(kms, "list_resource_tags", "Tags", KeyId=arn, Limit=50))
    if key.get("KeySpec", "") in {"", "SYMMETRIC_DEFAULT"} and key.get("Origin") not in CANNOT_ROTATE:
        with contextlib.suppress(ClientError):
            kms.get_key_rotation_status(KeyId=arn)
            list(items(kms, "list_key_rotations", "Rotations", KeyId=arn, Limit=1000))


def read_region(session: boto3.Session, account_id: str, region: str) -> None:
    """Read keys, resources that use keys, and trails."""
    kms = session.client("kms", region_name=region)
    aliases = list(items(kms, "list_aliases", "Aliases", Limit=100))
    managed = {alias.get("TargetKeyId") for alias in aliases if alias["AliasName"].startswith("alias/aws/")}
    for key in items(kms, "list_keys", "Keys", Limit=1000):
        read_key(kms, key["KeyArn"], managed=key["KeyId"] in managed)
    list(items(kms, "describe_custom_key_stores", "CustomKeyStores", Limit=1000))
    trails = session.client("cloudtrail", region_name=region)
    for trail in trails.describe_trails(includeShadowTrails=True)["trailList"]:
        with contextlib.suppress(ClientError):
            if trail["HomeRegion"] == region and trail["TrailARN"].split(":")[4] == account_id:
                trails.get_event_selectors(TrailName=trail["TrailARN"])
                trails.get_trail_status(Name=trail["TrailARN"])
    for service, listings in LISTINGS.items():
        client: Any = session.client(service, region_name=region)  # type: ignore[call-overload]  # the service name is a variable
        for method, member, params in listings:
            for item in items(client, method, member, **params):
                in_group = method == "describe_cache_clusters" and "ReplicationGroupId" in item
                if service == "elasticache" and not in_group:
                    client.list_tags_for_resource(ResourceName=item["ARN"])
                if service == "secretsmanager" and "DeletedDate" not in item:
                    client.get_resource_policy(SecretId=item["ARN"])


def read_buckets(session: boto3.Session, account_id: str) -> None:
    """Read the buckets of all regions."""
    s3 = session.client("s3", region_name=HOME)
    for bucket in items(s3, "list_buckets", "Buckets", MaxBuckets=1000):
        for read in (s3.get_bucket_encryption, s3.get_bucket_tagging):
            with contextlib.suppress(ClientError):
                read(Bucket=bucket["Name"], ExpectedBucketOwner=account_id)


def main() -> None:
    """Read the organization, account by account."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.boto3_baseline")
    parser.add_argument("--role", required=True, help="role to assume in each account")
    parser.add_argument("--external-id", required=True, help="external id of the role")
    parser.add_argument("--shared", action="store_true", help="share botocore's loaded service models between sessions")
    parser.add_argument("--accounts", type=int, help="number of accounts to read (default: all)")
    options = parser.parse_args()
    sts = boto3.client("sts", region_name=HOME)
    own = sts.get_caller_identity()["Account"]
    loader = botocore.session.get_session().get_component("data_loader")
    for account_id, regions in itertools.islice(organization(), options.accounts):
        keys: dict[str, Any] = {}
        if account_id != own:
            role = f"arn:aws:iam::{account_id}:role/{options.role}"
            params = {"RoleArn": role, "RoleSessionName": "bare", "ExternalId": options.external_id}
            keys = sts.assume_role(**params)["Credentials"]
        core = botocore.session.get_session()
        if options.shared:
            core.register_component("data_loader", loader)
        session = boto3.Session(
            aws_access_key_id=keys.get("AccessKeyId"),
            aws_secret_access_key=keys.get("SecretAccessKey"),
            aws_session_token=keys.get("SessionToken"),
            botocore_session=core,
        )
        for region in sorted(regions):
            read_region(session, account_id, region)
        read_buckets(session, account_id)


if __name__ == "__main__":
    main()

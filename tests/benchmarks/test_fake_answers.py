"""Every operation, called with boto3, returns what the generated organization contains."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import botocore.exceptions
import botocore.handlers
import botocore.session
import pytest

from benchmarks.fake_aws import iam
from benchmarks.fake_aws.accounts import PRODUCTION, ROOT, UNITS
from benchmarks.fake_aws.client import FakeAws
from benchmarks.fake_aws.kms import OPERATIONS as KMS_OPERATIONS
from benchmarks.fake_aws.presets import preset
from benchmarks.fake_aws.secrets import resource_policy
from benchmarks.fake_aws.service import GENERATED, Service
from benchmarks.fake_aws.trails import own_trails, selectors, shadows, status
from benchmarks.fake_aws.world_state import AccountRegion, World
from crawler.iam_policies import operations
from crawler.spec import Operation

pytestmark = pytest.mark.deep  # the endpoint of tests and benchmarks, not the product

ExpectedItems = Callable[[FakeAws, AccountRegion], list[Any]]
REGION = "us-east-1"
DECLARED = {str(operation): operation for operation in operations()}
LISTINGS: dict[str, ExpectedItems] = {
    "kms:ListKeys": lambda _, account_region: [
        {"KeyId": key_id, "KeyArn": f"arn:aws:kms:{account_region.region}:{account_region.account_id}:key/{key_id}"}
        for key_id in account_region.key_ids
    ],
    "kms:ListAliases": lambda _, account_region: account_region.aliases,
    "kms:DescribeCustomKeyStores": lambda _, account_region: account_region.stores,
    "secretsmanager:ListSecrets": lambda _, account_region: account_region.secrets,
    "rds:DescribeDBInstances": lambda _, account_region: account_region.databases.instances,
    "rds:DescribeDBClusters": lambda _, account_region: account_region.databases.clusters,
    "rds:DescribeDBSnapshots": lambda _, account_region: account_region.databases.snapshots,
    "rds:DescribeDBClusterSnapshots": lambda _, account_region: account_region.databases.cluster_snapshots,
    "rds:DescribeDBInstanceAutomatedBackups": lambda _, account_region: account_region.databases.instance_backups,
    "rds:DescribeDBClusterAutomatedBackups": lambda _, account_region: account_region.databases.cluster_backups,
    "elasticache:DescribeReplicationGroups": lambda _, account_region: account_region.caches.replication_groups,
    "elasticache:DescribeCacheClusters": lambda _, account_region: account_region.caches.cache_clusters,
    "elasticache:DescribeServerlessCaches": lambda _, account_region: account_region.caches.serverless_caches,
    "elasticache:DescribeSnapshots": lambda _, account_region: account_region.caches.cache_snapshots,
    "elasticache:DescribeServerlessCacheSnapshots": lambda _, account_region: (
        account_region.caches.serverless_snapshots
    ),
    "cloudtrail:DescribeTrails": lambda _, account_region: own_trails(account_region) + shadows(account_region),
    "s3:ListBuckets": lambda fake, account_region: [
        {"Name": bucket.name, "CreationDate": bucket.created, "BucketRegion": bucket.region}
        for bucket in fake.world.buckets(account_region.account_id).entries
    ],
}
KEY_OPERATIONS: dict[str, Callable[[AccountRegion, str], Any]] = {
    "kms:DescribeKey": lambda account_region, key_id: [_key(account_region, key_id).metadata],
    "kms:GetKeyPolicy": lambda account_region, key_id: [
        {"Policy": _key(account_region, key_id).policy, "PolicyName": "default"}
    ],
    "kms:ListGrants": lambda account_region, key_id: _key(account_region, key_id).grants.page(0, 1_000_000),
    "kms:ListResourceTags": lambda account_region, key_id: _key(account_region, key_id).tags,
    "kms:GetKeyRotationStatus": lambda account_region, key_id: [_key(account_region, key_id).rotation],
    "kms:ListKeyRotations": lambda account_region, key_id: _key(account_region, key_id).rotations,
    "kms:GetKeyLastUsage": lambda account_region, key_id: [_key(account_region, key_id).last_usage],
}
LAST_USAGE = Operation("kms", "GetKeyLastUsage", {"KeyId": "@key_arn"})


def _key(account_region: AccountRegion, key_id: str) -> Any:
    actual = account_region.key(key_id)
    assert actual is not None
    return actual


@functools.cache
def output_of(operation: str) -> Any:
    service, _, name = operation.partition(":")
    model = botocore.session.get_session().get_service_model(service)
    return model.operation_model(name).output_shape


def shape_errors(value: Any, shape: Any, path: str) -> Iterator[str]:
    """Violations of the shape of a parsed response: types, required members, enumeration values."""
    types: dict[str, Any] = {
        "string": str,
        "boolean": bool,
        "integer": int,
        "long": int,
        "timestamp": dt.datetime,
        "list": list,
        "structure": dict,
        "map": dict,
    }
    if not isinstance(value, types[shape.type_name]):
        yield f"{path} is a {type(value).__name__}, not a {shape.type_name}"
    elif shape.type_name == "structure":
        yield from (f"{path} lacks {name}" for name in shape.required_members if name not in value)
        for name, each in value.items():
            yield from shape_errors(each, shape.members[name], f"{path}.{name}")
    elif shape.type_name == "list":
        for each in value:
            yield from shape_errors(each, shape.member, f"{path}[]")
    elif shape.type_name == "string" and getattr(shape, "enum", None) and value not in shape.enum:
        yield f"{path}: {value} is not in the enumeration"


def pages(client: Any, operation: Operation, **params: Any) -> Iterator[dict[str, Any]]:
    """All pages, each validated against its shape."""
    paging = operation.paging
    if paging and paging.limit:
        params[paging.limit] = paging.size
    while True:
        page = client._make_api_call(operation.name, params)
        page.pop("ResponseMetadata")
        assert list(shape_errors(page, output_of(str(operation)), str(operation))) == []
        yield page
        if paging is None or not page.get(paging.receive):
            assert not (paging and paging.more and page[paging.more])
            return
        assert not paging.more or page[paging.more] is True
        params[paging.send] = page[paging.receive]


def items(client: Any, operation: Operation, **params: Any) -> list[Any]:
    """The items of all pages, as plain values."""
    name = operation.items.partition("[")[0]
    actual: list[Any] = []
    for page in pages(client, operation, **params):
        expected = page.get(name) if name else page
        actual += expected if isinstance(expected, list) else [expected]
    return [plain_values(each) for each in actual]


def response_or_code(client: Any, name: str, **params: Any) -> Any:
    """The single page of a response, or the error code."""
    try:
        return next(pages(client, DECLARED[name], **params))
    except botocore.exceptions.ClientError as error:
        return error.response["Error"]["Code"]


def plain_values(value: Any) -> Any:
    """The value with all timestamps converted to seconds."""
    if isinstance(value, dt.datetime):
        return round(value.timestamp(), 3)
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, Mapping):
        return {name: plain_values(each) for name, each in value.items()}
    return [plain_values(each) for each in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def edge_case_session(endpoint: FakeAws) -> tuple[AccountRegion, Any]:
    """The account-region with the edge cases, and a session of its account."""
    account = endpoint.world.accounts[1].id
    return endpoint.world.account_region(account, REGION), endpoint.session(account)


def test_every_declared_operation_has_a_handler() -> None:
    """Every operation that the crawler declares is generated, or has a recorded response."""
    handlers = Service(World(preset("tiny"))).handlers
    assert DECLARED.keys() - handlers.keys() == set()
    assert handlers.keys() - DECLARED.keys() == {"kms:GetKeyLastUsage"} - DECLARED.keys()


def test_every_operation_is_tested() -> None:
    """The tests below cover all operations of the generated organization."""
    organization = {name for name in GENERATED if name.startswith(("sts:", "organizations:", "account:", "ec2:"))}
    other = {"elasticache:ListTagsForResource", "s3:GetBucketEncryption", "s3:GetBucketTagging"}
    other |= {"iam:GetAccountAuthorizationDetails"}
    other |= {"secretsmanager:GetResourcePolicy", "secretsmanager:DescribeSecret"}
    other |= {"cloudtrail:GetEventSelectors", "cloudtrail:GetTrailStatus"}
    assert {*LISTINGS, *KEY_OPERATIONS, *organization, *other} == GENERATED.keys()
    assert {name for name in {*LISTINGS, *KEY_OPERATIONS} if name.startswith("kms:")} == KMS_OPERATIONS.keys()


@pytest.mark.parametrize("name", LISTINGS)
def test_a_listing_returns_all_entries(name: str, fake: FakeAws, edge_case_session: tuple[AccountRegion, Any]) -> None:
    """The items of all pages equal those of the organization, member by member."""
    account_region, session = edge_case_session
    operation = DECLARED[name]
    actual = items(session.client(operation.service, REGION), operation, **operation.params)
    assert actual == plain_values(LISTINGS[name](fake, account_region))


@pytest.mark.parametrize("name", KEY_OPERATIONS)
def test_key_operations_return_the_key(name: str, fake: FakeAws, edge_case_session: tuple[AccountRegion, Any]) -> None:
    """For each key, every operation returns its data or the expected error."""
    account_region, session = edge_case_session
    operation = DECLARED.get(name, LAST_USAGE)
    client = session.client("kms", REGION)
    policy_name = {"PolicyName": "default"} if name == "kms:GetKeyPolicy" else {}
    assert fake.world.parameters.giant_grants > 100
    for key_id in account_region.key_ids:
        key = _key(account_region, key_id)
        if operation.name in key.denied:
            expected: Any = "AccessDeniedException"
        elif "Rotation" in name and key.rotation is None:
            expected = "UnsupportedOperationException"
        else:
            expected = plain_values(KEY_OPERATIONS[name](account_region, key_id))
        try:
            actual: Any = items(client, operation, KeyId=key.arn, **policy_name)
        except botocore.exceptions.ClientError as error:
            actual = error.response["Error"]["Code"]
        assert actual == expected, key_id


def test_authorization_details_are_paged(edge_case_session: tuple[AccountRegion, Any]) -> None:
    """All pages together contain each user, group, role and policy once, with percent-encoded documents as in IAM."""
    account_region, session = edge_case_session
    client = session.client("iam", REGION)
    client.meta.events.unregister("after-call.iam", botocore.handlers.json_decode_policies)
    params: dict[str, Any] = {"MaxItems": 3}
    actual: list[tuple[str, Any]] = []
    while True:
        page = client.get_account_authorization_details(**params)
        page.pop("ResponseMetadata")
        assert list(shape_errors(page, output_of("iam:GetAccountAuthorizationDetails"), "iam")) == []
        actual += [(kind, plain_values(entry)) for kind in iam.LISTS for entry in page.get(kind, ())]
        if not page["IsTruncated"]:
            break
        params["Marker"] = page["Marker"]
    expected = [(kind, plain_values(entry)) for kind, entry in iam.entries(account_region.account_id)]
    assert actual == expected
    (first, *_) = [entry for kind, entry in expected if kind == "RoleDetailList"]
    assert first["AssumeRolePolicyDocument"].startswith("%7B%22Version%22")
    users = client.get_account_authorization_details(Filter=["User"])
    assert not any(users.get(kind) for kind in iam.LISTS[1:])


def test_secrets_return_their_resource_policy(edge_case_session: tuple[AccountRegion, Any]) -> None:
    """Some secrets have a resource policy, most have none; an unknown secret is an error."""
    account_region, session = edge_case_session
    client = session.client("secretsmanager", REGION)
    described = [client.describe_secret(SecretId=secret["ARN"]) for secret in account_region.secrets]
    assert [secret["Name"] for secret in described if "ReplicationStatus" in secret] == ["odd/replicated"]
    response = {secret["ARN"]: client.get_resource_policy(SecretId=secret["ARN"]) for secret in account_region.secrets}
    assert {arn: result.get("ResourcePolicy") for arn, result in response.items()} == {
        arn: resource_policy(arn) for arn in response
    }
    assert {bool(resource_policy(arn)) for arn in response} == {True, False}
    assert response_or_code(client, "secretsmanager:GetResourcePolicy", SecretId="none") == "ResourceNotFoundException"


def test_trails_are_described_in_their_account(fake: FakeAws) -> None:
    """A region lists its own and shadow trails; selectors and status are available only for its own trails."""
    management, member = (fake.world.account_region(fake.world.accounts[index].id, REGION) for index in (0, 1))
    client = fake.session().client("cloudtrail", REGION)
    for trail in own_trails(management):
        arn = trail["TrailARN"]
        assert response_or_code(client, "cloudtrail:GetEventSelectors", TrailName=arn) == selectors(arn)
        assert plain_values(response_or_code(client, "cloudtrail:GetTrailStatus", Name=arn)) == plain_values(
            status(arn)
        )
    (seen,) = [trail["TrailARN"] for trail in shadows(member) if trail["IsOrganizationTrail"]]
    assert seen in {trail["TrailARN"] for trail in own_trails(management)}
    client = fake.session(member.account_id).client("cloudtrail", REGION)
    assert response_or_code(client, "cloudtrail:GetEventSelectors", TrailName=seen) == "TrailNotFoundException"
    assert response_or_code(client, "cloudtrail:GetTrailStatus", Name=seen) == "TrailNotFoundException"


def test_caches_return_their_tags(edge_case_session: tuple[AccountRegion, Any]) -> None:
    """ListTagsForResource of ElastiCache accepts every listed ARN and no other."""
    account_region, session = edge_case_session
    client = session.client("elasticache", REGION)
    operation = DECLARED["elasticache:ListTagsForResource"]
    caches = account_region.caches
    for cache in (
        *caches.replication_groups,
        *caches.serverless_caches,
        *caches.cache_clusters,
        *caches.cache_snapshots,
    ):
        assert items(client, operation, ResourceName=cache["ARN"]) == caches.tags(cache["ARN"])
    with pytest.raises(client.exceptions.ClientError, match="CacheClusterNotFound"):
        client.list_tags_for_resource(
            ResourceName=f"arn:aws:elasticache:{REGION}:{account_region.account_id}:cluster:none"
        )


def test_buckets_are_read_in_their_region(fake: FakeAws, edge_case_session: tuple[AccountRegion, Any]) -> None:
    """Encryption and tags of a bucket are readable in its region, and only by its owner."""
    account_region, session = edge_case_session
    buckets = fake.world.buckets(account_region.account_id).entries
    assert {bucket.algorithm for bucket in buckets} >= {None, "AES256", "aws:kms", "aws:kms:dsse", "aws:fsx"}
    for bucket in buckets:
        client = session.client("s3", bucket.region)
        params = {"Bucket": bucket.name, "ExpectedBucketOwner": account_region.account_id}
        encryption = response_or_code(client, "s3:GetBucketEncryption", **params)
        if bucket.algorithm is None:
            assert encryption == "ServerSideEncryptionConfigurationNotFoundError"
        else:
            (rule,) = encryption["ServerSideEncryptionConfiguration"]["Rules"]
            default = rule["ApplyServerSideEncryptionByDefault"]
            assert (default["SSEAlgorithm"], default.get("KMSMasterKeyID")) == (bucket.algorithm, bucket.key)
        tags = response_or_code(client, "s3:GetBucketTagging", **params)
        response = [{"Key": key, "Value": value} for key, value in bucket.tags]
        assert tags == ({"TagSet": response} if response else "NoSuchTagSet")
    client = session.client("s3", REGION)
    with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
        client.get_bucket_tagging(
            Bucket=next(each.name for each in buckets if each.region == REGION),
            ExpectedBucketOwner=account_region.other,
        )


def test_a_bucket_request_in_the_wrong_region_is_redirected(
    fake: FakeAws, edge_case_session: tuple[AccountRegion, Any]
) -> None:
    """S3 returns the correct region, and boto3 follows the redirect."""
    account_region, session = edge_case_session
    bucket = next(each for each in fake.world.buckets(account_region.account_id).entries if each.region != REGION)
    response = session.client("s3", REGION).get_bucket_encryption(Bucket=bucket.name)
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert fake.control.counters()["errors"] == {"s3:GetBucketEncryption PermanentRedirect": 1}


def test_the_organization_tree_is_consistent(fake: FakeAws) -> None:
    """Accounts, their paths and the tree of units agree in all listings."""
    world, client = fake.world, fake.session().client("organizations")
    accounts = items(client, DECLARED["organizations:ListAccounts"])
    assert accounts == plain_values([account.entry(world.parameters) for account in world.accounts])
    assert all("State" in account and "Status" not in account for account in accounts)
    organization = items(client, DECLARED["organizations:DescribeOrganization"])[0]
    assert organization["MasterAccountId"] == world.management.id
    assert items(client, DECLARED["organizations:ListRoots"])[0]["Id"] == ROOT
    below = {
        parent: {
            unit["Id"]
            for unit in items(client, DECLARED["organizations:ListOrganizationalUnitsForParent"], ParentId=parent)
        }
        for parent in (ROOT, UNITS["workload"], PRODUCTION)
    }
    assert below == {ROOT: set(UNITS.values()), UNITS["workload"]: {PRODUCTION}, PRODUCTION: set()}
    parents_by_account = {
        account["Id"]: parent
        for parent in (ROOT, PRODUCTION, *UNITS.values())
        for account in items(client, DECLARED["organizations:ListAccountsForParent"], ParentId=parent)
    }
    assert parents_by_account == {account["Id"]: account["Paths"][0].split("/")[-2] for account in accounts}
    tags = items(client, DECLARED["organizations:ListTagsForResource"], ResourceId=accounts[0]["Id"])
    assert [tag["Key"] for tag in tags] == ["Environment"]


def test_only_the_management_account_reads_the_organization(edge_case_session: tuple[AccountRegion, Any]) -> None:
    """A member account is denied."""
    client = edge_case_session[1].client("organizations")
    with pytest.raises(client.exceptions.ClientError, match="AccessDeniedException"):
        client.list_accounts()


def test_both_region_operations_agree(fake: FakeAws, edge_case_session: tuple[AccountRegion, Any]) -> None:
    """account:ListRegions and ec2:DescribeRegions agree; the management account must not pass its own id."""
    account_region, session = edge_case_session
    own = fake.session().client("account")
    entries = items(own, DECLARED["account:ListRegions"], AccountId=account_region.account_id)
    assert {each["RegionName"]: each["RegionOptStatus"] for each in entries} == account_region.account.region_states(
        fake.world.parameters
    )
    described = items(session.client("ec2"), DECLARED["ec2:DescribeRegions"], AllRegions=True)
    assert [each["RegionName"] for each in described] == [each["RegionName"] for each in entries]
    assert {each["OptInStatus"] for each in described} <= {"opt-in-not-required", "opted-in", "not-opted-in"}
    with pytest.raises(own.exceptions.ClientError, match="ValidationException"):
        own.list_regions(AccountId=fake.world.management.id)
    assert len(items(own, DECLARED["account:ListRegions"])) == len(entries)


def test_caller_identity(fake: FakeAws, edge_case_session: tuple[AccountRegion, Any]) -> None:
    """GetCallerIdentity distinguishes a user from a role session."""
    operation = DECLARED["sts:GetCallerIdentity"]
    (own,), (member,) = (items(session.client("sts"), operation) for session in (fake.session(), edge_case_session[1]))
    assert own["Arn"] == f"arn:aws:iam::{fake.world.management.id}:user/kmsledger"
    assert member["Arn"] == f"arn:aws:sts::{edge_case_session[0].account_id}:assumed-role/KmsInventoryReadOnly/fake"


def test_assume_role_checks_the_trust(fake: FakeAws) -> None:
    """A missing role, a wrong external id, a suspended or an unknown account get the same denial; others get an hour."""
    world, client = fake.world, fake.session().client("sts")

    def assume(account: str, external_id: str, **more: Any) -> str:
        role = f"arn:aws:iam::{account}:role/{world.parameters.role_name}"
        try:
            response = client.assume_role(RoleArn=role, RoleSessionName="tests", ExternalId=external_id, **more)
        except client.exceptions.ClientError as error:
            return str(error.response["Error"]["Code"])
        response.pop("ResponseMetadata")
        assert list(shape_errors(response, output_of("sts:AssumeRole"), "answer")) == []
        remaining = response["Credentials"]["Expiration"] - dt.datetime.now(dt.UTC)
        return f"{round(remaining.total_seconds() / 60)} minutes"

    good = world.parameters.external_id or ""
    results = [assume(account.id, good) for account in world.accounts[1:6]]
    assert results == ["60 minutes", "60 minutes", *["AccessDenied"] * 3]
    assert assume(world.accounts[1].id, "guessed") == "AccessDenied"
    assert assume("123456789012", good) == "AccessDenied"
    assert assume(world.accounts[1].id, good, DurationSeconds=900) == "15 minutes"

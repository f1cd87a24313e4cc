"""Every operation, through a stock boto3 client, against what the world itself says is true."""

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
from benchmarks.fake_aws.secrets import resource_policy
from benchmarks.fake_aws.service import HANDLERS
from benchmarks.fake_aws.trails import own_trails, selectors, shadows, status
from benchmarks.fake_aws.world_state import Place
from crawler.iam_policies import operations
from crawler.spec import Operation

Truth = Callable[[FakeAws, Place], list[Any]]
REGION = "us-east-1"
DECLARED = {str(operation): operation for operation in operations()}
PAGED_FOR_PLACE: dict[str, Truth] = {
    "kms:ListKeys": lambda _, place: [
        {"KeyId": key_id, "KeyArn": f"arn:aws:kms:{place.region}:{place.account_id}:key/{key_id}"}
        for key_id in place.key_ids
    ],
    "kms:ListAliases": lambda _, place: place.aliases,
    "kms:DescribeCustomKeyStores": lambda _, place: place.stores,
    "secretsmanager:ListSecrets": lambda _, place: place.secrets,
    "rds:DescribeDBInstances": lambda _, place: place.databases.instances,
    "rds:DescribeDBClusters": lambda _, place: place.databases.clusters,
    "rds:DescribeDBSnapshots": lambda _, place: place.databases.snapshots,
    "rds:DescribeDBClusterSnapshots": lambda _, place: place.databases.cluster_snapshots,
    "rds:DescribeDBInstanceAutomatedBackups": lambda _, place: place.databases.instance_backups,
    "rds:DescribeDBClusterAutomatedBackups": lambda _, place: place.databases.cluster_backups,
    "elasticache:DescribeReplicationGroups": lambda _, place: place.caches.replication_groups,
    "elasticache:DescribeCacheClusters": lambda _, place: place.caches.cache_clusters,
    "elasticache:DescribeServerlessCaches": lambda _, place: place.caches.serverless_caches,
    "elasticache:DescribeSnapshots": lambda _, place: place.caches.cache_snapshots,
    "elasticache:DescribeServerlessCacheSnapshots": lambda _, place: place.caches.serverless_snapshots,
    "cloudtrail:DescribeTrails": lambda _, place: own_trails(place) + shadows(place),
    "s3:ListBuckets": lambda fake, place: [
        {"Name": bucket.name, "CreationDate": bucket.created, "BucketRegion": bucket.region}
        for bucket in fake.world.buckets(place.account_id).listed
    ],
}
OF_A_KEY: dict[str, Callable[[Place, str], Any]] = {
    "kms:DescribeKey": lambda place, key_id: [_key(place, key_id).metadata],
    "kms:GetKeyPolicy": lambda place, key_id: [{"Policy": _key(place, key_id).policy, "PolicyName": "default"}],
    "kms:ListGrants": lambda place, key_id: _key(place, key_id).grants.page(0, 1_000_000),
    "kms:ListResourceTags": lambda place, key_id: _key(place, key_id).tags,
    "kms:GetKeyRotationStatus": lambda place, key_id: [_key(place, key_id).rotation],
    "kms:ListKeyRotations": lambda place, key_id: _key(place, key_id).rotations,
    "kms:GetKeyLastUsage": lambda place, key_id: [_key(place, key_id).last_usage],
}
LAST_USAGE = Operation("kms", "GetKeyLastUsage", {"KeyId": "@key_arn"})


def _key(place: Place, key_id: str) -> Any:
    found = place.key(key_id)
    assert found is not None
    return found


@functools.cache
def output_of(operation: str) -> Any:
    service, _, name = operation.partition(":")
    model = botocore.session.get_session().get_service_model(service)
    return model.operation_model(name).output_shape


def complaints(value: Any, shape: Any, path: str) -> Iterator[str]:
    """Where a parsed answer is not of its shape: types, required members, words that are not in an enumeration."""
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
            yield from complaints(each, shape.members[name], f"{path}.{name}")
    elif shape.type_name == "list":
        for each in value:
            yield from complaints(each, shape.member, f"{path}[]")
    elif shape.type_name == "string" and getattr(shape, "enum", None) and value not in shape.enum:
        yield f"{path}: {value} is not in the enumeration"


def pages(client: Any, operation: Operation, **asked: Any) -> Iterator[dict[str, Any]]:
    """All pages, each checked against its shape."""
    paging = operation.paging
    if paging and paging.limit:
        asked[paging.limit] = paging.size
    while True:
        page = client._make_api_call(operation.name, asked)
        page.pop("ResponseMetadata")
        assert list(complaints(page, output_of(str(operation)), str(operation))) == []
        yield page
        if paging is None or not page.get(paging.receive):
            assert not (paging and paging.more and page[paging.more])
            return
        assert not paging.more or page[paging.more] is True
        asked[paging.send] = page[paging.receive]


def items(client: Any, operation: Operation, **asked: Any) -> list[Any]:
    """What all pages hold, as plain values."""
    name = operation.items.partition("[")[0]
    found: list[Any] = []
    for page in pages(client, operation, **asked):
        held = page.get(name) if name else page
        found += held if isinstance(held, list) else [held]
    return [plain(each) for each in found]


def answer_or_code(client: Any, name: str, **asked: Any) -> Any:
    """The one page of an answer, or the code of the error."""
    try:
        return next(pages(client, DECLARED[name], **asked))
    except botocore.exceptions.ClientError as error:
        return error.response["Error"]["Code"]


def plain(value: Any) -> Any:
    """Times as seconds, however they were told."""
    if isinstance(value, dt.datetime):
        return round(value.timestamp(), 3)
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def odd(endpoint: FakeAws) -> tuple[Place, Any]:
    """The account-region with the odd things in it, and a session there."""
    account = endpoint.world.accounts[1].id
    return endpoint.world.place(account, REGION), endpoint.session(account)


def test_every_declared_operation_is_answered() -> None:
    """An operation that the crawler learns to send needs an answer here."""
    assert DECLARED.keys() - HANDLERS.keys() == set()
    assert HANDLERS.keys() - DECLARED.keys() == {"kms:GetKeyLastUsage"} - DECLARED.keys()


def test_every_operation_has_its_comparison() -> None:
    """No operation is left out of the tests below."""
    organization = {name for name in HANDLERS if name.startswith(("sts:", "organizations:", "account:", "ec2:"))}
    other = {"elasticache:ListTagsForResource", "s3:GetBucketEncryption", "s3:GetBucketTagging"}
    other |= {"iam:GetAccountAuthorizationDetails", "secretsmanager:GetResourcePolicy"}
    other |= {"cloudtrail:GetEventSelectors", "cloudtrail:GetTrailStatus"}
    assert {*PAGED_FOR_PLACE, *OF_A_KEY, *organization, *other} == HANDLERS.keys()
    assert {name for name in {*PAGED_FOR_PLACE, *OF_A_KEY} if name.startswith("kms:")} == KMS_OPERATIONS.keys()


@pytest.mark.parametrize("name", PAGED_FOR_PLACE)
def test_a_listing_tells_the_whole_truth(name: str, fake: FakeAws, odd: tuple[Place, Any]) -> None:
    """What a client gathers from all pages is what the world holds, member by member."""
    place, session = odd
    operation = DECLARED[name]
    found = items(session.client(operation.service, REGION), operation, **operation.params)
    assert found == plain(PAGED_FOR_PLACE[name](fake, place))


@pytest.mark.parametrize("name", OF_A_KEY)
def test_a_key_is_told_truly(name: str, fake: FakeAws, odd: tuple[Place, Any]) -> None:
    """For each key the answer is the world's, or the error that the world says it must be."""
    place, session = odd
    operation = DECLARED.get(name, LAST_USAGE)
    client = session.client("kms", REGION)
    policy_name = {"PolicyName": "default"} if name == "kms:GetKeyPolicy" else {}
    assert fake.world.parameters.giant_grants > 100
    for key_id in place.key_ids:
        key = _key(place, key_id)
        if operation.name in key.denied:
            expected: Any = "AccessDeniedException"
        elif "Rotation" in name and key.rotation is None:
            expected = "UnsupportedOperationException"
        else:
            expected = plain(OF_A_KEY[name](place, key_id))
        try:
            found: Any = items(client, operation, KeyId=key.arn, **policy_name)
        except botocore.exceptions.ClientError as error:
            found = error.response["Error"]["Code"]
        assert found == expected, key_id


def test_the_iam_of_an_account_is_told_in_pages(odd: tuple[Place, Any]) -> None:
    """All pages together hold each user, group, role and policy once; documents are percent-encoded as IAM sends them."""
    place, session = odd
    client = session.client("iam", REGION)
    client.meta.events.unregister("after-call.iam", botocore.handlers.json_decode_policies)
    asked: dict[str, Any] = {"MaxItems": 3}
    found: list[tuple[str, Any]] = []
    while True:
        page = client.get_account_authorization_details(**asked)
        page.pop("ResponseMetadata")
        assert list(complaints(page, output_of("iam:GetAccountAuthorizationDetails"), "iam")) == []
        found += [(kind, plain(entry)) for kind in iam.LISTS for entry in page.get(kind, ())]
        if not page["IsTruncated"]:
            break
        asked["Marker"] = page["Marker"]
    held = [(kind, plain(entry)) for kind, entry in iam.listed(place.account_id)]
    assert found == held
    (first, *_) = [entry for kind, entry in held if kind == "RoleDetailList"]
    assert first["AssumeRolePolicyDocument"].startswith("%7B%22Version%22")
    users = client.get_account_authorization_details(Filter=["User"])
    assert not any(users.get(kind) for kind in iam.LISTS[1:])


def test_policies_of_secrets_are_told(odd: tuple[Place, Any]) -> None:
    """Some secrets have a resource policy, most have none, and an unknown secret is an error."""
    place, session = odd
    client = session.client("secretsmanager", REGION)
    told = {secret["ARN"]: client.get_resource_policy(SecretId=secret["ARN"]) for secret in place.secrets}
    assert {arn: one.get("ResourcePolicy") for arn, one in told.items()} == {arn: resource_policy(arn) for arn in told}
    assert {bool(resource_policy(arn)) for arn in told} == {True, False}
    assert answer_or_code(client, "secretsmanager:GetResourcePolicy", SecretId="none") == "ResourceNotFoundException"


def test_trails_are_told_to_their_own_account(fake: FakeAws) -> None:
    """Each region tells its own trails and those that record it; only its own may be asked for selectors and status."""
    management, member = (fake.world.place(fake.world.accounts[index].id, REGION) for index in (0, 1))
    client = fake.session().client("cloudtrail", REGION)
    for trail in own_trails(management):
        arn = trail["TrailARN"]
        assert answer_or_code(client, "cloudtrail:GetEventSelectors", TrailName=arn) == selectors(arn)
        assert plain(answer_or_code(client, "cloudtrail:GetTrailStatus", Name=arn)) == plain(status(arn))
    (seen,) = [trail["TrailARN"] for trail in shadows(member) if trail["IsOrganizationTrail"]]
    assert seen in {trail["TrailARN"] for trail in own_trails(management)}
    client = fake.session(member.account_id).client("cloudtrail", REGION)
    assert answer_or_code(client, "cloudtrail:GetEventSelectors", TrailName=seen) == "TrailNotFoundException"
    assert answer_or_code(client, "cloudtrail:GetTrailStatus", Name=seen) == "TrailNotFoundException"


def test_tags_of_caches_are_told(odd: tuple[Place, Any]) -> None:
    """ListTagsForResource of ElastiCache knows every ARN that the listings name, and no other."""
    place, session = odd
    client = session.client("elasticache", REGION)
    operation = DECLARED["elasticache:ListTagsForResource"]
    caches = place.caches
    for cache in (
        *caches.replication_groups,
        *caches.serverless_caches,
        *caches.cache_clusters,
        *caches.cache_snapshots,
    ):
        assert items(client, operation, ResourceName=cache["ARN"]) == caches.tags(cache["ARN"])
    with pytest.raises(client.exceptions.ClientError, match="CacheClusterNotFound"):
        client.list_tags_for_resource(ResourceName=f"arn:aws:elasticache:{REGION}:{place.account_id}:cluster:none")


def test_buckets_answer_in_their_region(fake: FakeAws, odd: tuple[Place, Any]) -> None:
    """Encryption and tags of a bucket are told in its own region, and to its owner only."""
    place, session = odd
    buckets = fake.world.buckets(place.account_id).listed
    assert {bucket.algorithm for bucket in buckets} >= {None, "AES256", "aws:kms", "aws:kms:dsse", "aws:fsx"}
    for bucket in buckets:
        client = session.client("s3", bucket.region)
        asked = {"Bucket": bucket.name, "ExpectedBucketOwner": place.account_id}
        encryption = answer_or_code(client, "s3:GetBucketEncryption", **asked)
        if bucket.algorithm is None:
            assert encryption == "ServerSideEncryptionConfigurationNotFoundError"
        else:
            (rule,) = encryption["ServerSideEncryptionConfiguration"]["Rules"]
            default = rule["ApplyServerSideEncryptionByDefault"]
            assert (default["SSEAlgorithm"], default.get("KMSMasterKeyID")) == (bucket.algorithm, bucket.key)
        tags = answer_or_code(client, "s3:GetBucketTagging", **asked)
        told = [{"Key": key, "Value": value} for key, value in bucket.tags]
        assert tags == ({"TagSet": told} if told else "NoSuchTagSet")
    client = session.client("s3", REGION)
    with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
        client.get_bucket_tagging(
            Bucket=next(each.name for each in buckets if each.region == REGION), ExpectedBucketOwner=place.other
        )


def test_a_bucket_asked_in_the_wrong_region_is_redirected(fake: FakeAws, odd: tuple[Place, Any]) -> None:
    """S3 names the right region, and boto3 goes there by itself."""
    place, session = odd
    bucket = next(each for each in fake.world.buckets(place.account_id).listed if each.region != REGION)
    answer = session.client("s3", REGION).get_bucket_encryption(Bucket=bucket.name)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert fake.control.counters()["errors"] == {"s3:GetBucketEncryption PermanentRedirect": 1}


def test_the_organization_is_told(fake: FakeAws) -> None:
    """Accounts, their paths and the tree of units agree, by both ways of asking."""
    world, client = fake.world, fake.session().client("organizations")
    accounts = items(client, DECLARED["organizations:ListAccounts"])
    assert accounts == plain([account.entry(world.parameters) for account in world.accounts])
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
    walked = {
        account["Id"]: parent
        for parent in (ROOT, PRODUCTION, *UNITS.values())
        for account in items(client, DECLARED["organizations:ListAccountsForParent"], ParentId=parent)
    }
    assert walked == {account["Id"]: account["Paths"][0].split("/")[-2] for account in accounts}
    tags = items(client, DECLARED["organizations:ListTagsForResource"], ResourceId=accounts[0]["Id"])
    assert [tag["Key"] for tag in tags] == ["Environment"]


def test_only_the_management_account_reads_the_organization(odd: tuple[Place, Any]) -> None:
    """A member is refused."""
    client = odd[1].client("organizations")
    with pytest.raises(client.exceptions.ClientError, match="AccessDeniedException"):
        client.list_accounts()


def test_regions_are_told_both_ways(fake: FakeAws, odd: tuple[Place, Any]) -> None:
    """account:ListRegions and ec2:DescribeRegions agree; the management account must not name itself."""
    place, session = odd
    own = fake.session().client("account")
    listed = items(own, DECLARED["account:ListRegions"], AccountId=place.account_id)
    assert {each["RegionName"]: each["RegionOptStatus"] for each in listed} == place.account.region_states(
        fake.world.parameters
    )
    described = items(session.client("ec2"), DECLARED["ec2:DescribeRegions"], AllRegions=True)
    assert [each["RegionName"] for each in described] == [each["RegionName"] for each in listed]
    assert {each["OptInStatus"] for each in described} <= {"opt-in-not-required", "opted-in", "not-opted-in"}
    with pytest.raises(own.exceptions.ClientError, match="ValidationException"):
        own.list_regions(AccountId=fake.world.management.id)
    assert len(items(own, DECLARED["account:ListRegions"])) == len(listed)


def test_callers_learn_who_they_are(fake: FakeAws, odd: tuple[Place, Any]) -> None:
    """GetCallerIdentity tells a user from a role session."""
    operation = DECLARED["sts:GetCallerIdentity"]
    (own,), (member,) = (items(session.client("sts"), operation) for session in (fake.session(), odd[1]))
    assert own["Arn"] == f"arn:aws:iam::{fake.world.management.id}:user/kmsledger"
    assert member["Arn"] == f"arn:aws:sts::{odd[0].account_id}:assumed-role/KmsInventoryReadOnly/fake"


def test_a_role_is_assumed_only_by_the_rules(fake: FakeAws) -> None:
    """Missing role, other external id, suspended account and strangers get the same bare denial; good ones get an hour."""
    world, client = fake.world, fake.session().client("sts")

    def ask(account: str, external_id: str, **more: Any) -> str:
        role = f"arn:aws:iam::{account}:role/{world.parameters.role_name}"
        try:
            answer = client.assume_role(RoleArn=role, RoleSessionName="tests", ExternalId=external_id, **more)
        except client.exceptions.ClientError as error:
            return str(error.response["Error"]["Code"])
        answer.pop("ResponseMetadata")
        assert list(complaints(answer, output_of("sts:AssumeRole"), "answer")) == []
        left = answer["Credentials"]["Expiration"] - dt.datetime.now(dt.UTC)
        return f"{round(left.total_seconds() / 60)} minutes"

    good = world.parameters.external_id or ""
    answers = [ask(account.id, good) for account in world.accounts[1:6]]
    assert answers == ["60 minutes", "60 minutes", *["AccessDenied"] * 3]
    assert ask(world.accounts[1].id, "guessed") == "AccessDenied"
    assert ask("123456789012", good) == "AccessDenied"
    assert ask(world.accounts[1].id, good, DurationSeconds=900) == "15 minutes"

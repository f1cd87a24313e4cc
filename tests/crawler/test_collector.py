"""Collecting one scope: a failed call affects no other facts, and nothing that could not be read is closed."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crawler.aws.errors import AwsError
from crawler.aws.response_validation import items_of
from crawler.collector import Collected, CollectOptions, collect
from crawler.iam_policies import operations
from crawler.resource_mapper import references_of
from crawler.services.kms import LIST_GRANTS, LIST_KEYS
from crawler.services.resource_types import BUCKET, DB_INSTANCE, SECRET
from crawler.spec import GLOBAL, Operation, Scope
from models.store.scd2_merge import Batch
from models.tables.iam import IamScan
from models.tables.keys import Alias, Key, KeyGrant, KeyMetadata, KeyPolicy, KeyRotation, KeyRotationEvent, Tag
from models.tables.resources import Form, KeyClass, KeyReference, Resource, ResourceKey, ResourceReplica
from models.tables.runs import Cause, Gap, Outcome
from models.versioned import VersionedTable, versioned_tables
from tests.crawler.empty_ledger import Ledger
from tests.crawler.sample_resources import (
    BUCKETS,
    KINDS,
    SECRETS,
    answers,
    arn_of,
    key_arn,
    key_id,
    only_for,
    sample_aws,
)
from tests.crawler.scripted_aws import (
    ACCOUNT,
    REGION,
    Answer,
    Caller,
    ScriptedAws,
    aws_error,
    client_for,
    denied,
    paged,
)
from tests.crawler.wire_aws import parse
from tests.hypothesis_profiles import examples

CUSTOMER = [name for name in KINDS if name != "managed"]
READ_AT = dt.datetime(2026, 3, 4, 2, tzinfo=dt.UTC)
BOTH = ((ACCOUNT, REGION), (ACCOUNT, GLOBAL))


def collected(aws: ScriptedAws, region: str = REGION, options: CollectOptions | None = None) -> Collected:
    """Collect one scope."""

    async def run() -> Collected:
        return await collect(client_for(aws), Caller(), Scope(ACCOUNT, region), options or CollectOptions())

    return asyncio.run(run())


def account_batch(aws: ScriptedAws) -> Batch:
    """Collect the region and the global scope of the account into one batch."""
    batch = Batch()
    for _, region in BOTH:
        batch.extend(collected(aws, region).batch)
    return batch


def keys_of(result: Collected, model: type[VersionedTable]) -> set[str]:
    """Return the names of the sample keys in a table."""
    names = {key_arn(name): name for name in KINDS}
    column = "resource_arn" if model is Tag else "key_arn"
    return {names[row[column]] for row in result.batch.rows.get(model, ()) if row[column] in names}


def gaps(result: Collected) -> list[tuple[str, str, str]]:
    """Return operation, subject and cause of every gap."""
    return [(row["operation"], row["subject"], row["cause"]) for row in result.batch.rows.get(Gap, ())]


def test_a_scope_without_errors_has_no_gaps() -> None:
    """All calls succeed: the keys of all pages are recorded with their details, and every listing is complete."""
    result = collected(sample_aws())
    assert gaps(result) == []
    assert keys_of(result, Key) == keys_of(result, KeyMetadata) == set(KINDS)
    assert keys_of(result, KeyPolicy) == keys_of(result, KeyGrant) == keys_of(result, Tag) == set(CUSTOMER)
    assert (ACCOUNT, REGION) in result.batch.complete_listings[Key]
    assert (ACCOUNT, REGION) in result.batch.complete_listings[Gap]
    assert result.batch.complete_listings[KeyGrant] == {(key_arn(name),) for name in CUSTOMER}
    assert (result.gaps, result.counter.calls) == (0, result.counter.calls)
    assert result.counter.calls > len(KINDS)


def test_describe_key_denied_does_not_block_other_calls() -> None:
    """DescribeKey is denied for one key: its policy, grants, tags and rotation are still read, other keys are unaffected."""
    result = collected(sample_aws({"kms:DescribeKey": only_for("plain", denied(), "kms:DescribeKey")}))
    assert gaps(result) == [("DescribeKey", key_arn("plain"), Cause.KEY_POLICY)]
    assert keys_of(result, KeyMetadata) == set(KINDS) - {"plain"}
    assert keys_of(result, Key) == set(KINDS)
    assert keys_of(result, KeyPolicy) == keys_of(result, KeyGrant) == keys_of(result, Tag) == set(CUSTOMER)
    assert "plain" in keys_of(result, KeyRotation)


@pytest.mark.parametrize(
    ("operation", "model"),
    [
        ("GetKeyPolicy", KeyPolicy),
        ("ListGrants", KeyGrant),
        ("ListResourceTags", Tag),
        ("GetKeyRotationStatus", KeyRotation),
    ],
)
def test_a_denied_call_leaves_the_others(operation: str, model: type[VersionedTable]) -> None:
    """A denial for one key is a gap of that key and operation, not an empty list or a disabled flag."""
    name = f"kms:{operation}"
    result = collected(sample_aws({name: only_for("plain", denied(name), name)}))
    assert gaps(result) == [(operation, key_arn("plain"), Cause.KEY_POLICY)]
    assert "plain" not in keys_of(result, model)
    assert (key_arn("plain"),) not in result.batch.complete_listings.get(model, set())
    for other in {KeyPolicy, KeyGrant, Tag, KeyRotation, KeyMetadata} - {model}:
        assert "plain" in keys_of(result, other)


def test_a_listing_that_fails_on_its_second_page_is_incomplete() -> None:
    """The keys of the first page are recorded with their details; no key is closed."""
    first = [{"KeyId": key_id("plain"), "KeyArn": key_arn("plain")}]
    second = aws_error("InternalFailure", "", 500)
    broken = paged("Keys", [first, second], send="Marker", receive="NextMarker", more="Truncated")
    result = collected(sample_aws({"kms:ListKeys": broken}))
    assert gaps(result) == [("ListKeys", "", Cause.SERVICE_ERROR)]
    assert Key not in result.batch.complete_listings
    assert keys_of(result, Key) == keys_of(result, KeyPolicy) == {"plain"}
    assert (ACCOUNT, REGION) in result.batch.complete_listings[Alias]


def test_a_denied_bucket_keeps_its_last_known_key(ledger: Ledger) -> None:
    """GetBucketEncryption is denied: the bucket is still listed and its reference is unchanged."""
    outcomes = dict.fromkeys(BOTH, Outcome.COMPLETE)
    ledger.record_run(account_batch(sample_aws()), outcomes)
    before = ledger.current(KeyReference, resource_arn="arn:aws:s3:::logs")
    ledger.record_run(
        account_batch(sample_aws({"s3:GetBucketEncryption": denied("s3:GetEncryptionConfiguration")})), outcomes
    )
    assert ledger.current(KeyReference, resource_arn="arn:aws:s3:::logs") == before
    assert [row["raw_value"] for row in before] == [key_arn("plain")]
    assert {(row["subject"], row["action"]) for row in ledger.current(Gap)} == {
        ("arn:aws:s3:::logs", "s3:GetEncryptionConfiguration"),
        ("arn:aws:s3:::plain", "s3:GetEncryptionConfiguration"),
    }


def test_rotation_is_read_only_where_it_applies() -> None:
    """No call for replicas, asymmetric, HMAC and key-store keys; unsupported is not applicable (KMS: GetKeyRotationStatus)."""
    aws = sample_aws()
    result = collected(aws)
    status = {row["key_arn"]: (row["status"], bool(row["reason"])) for row in result.batch.rows[KeyRotation]}
    rotating, never = ("enabled", False), ("not_applicable", True)
    expected = {name: rotating if name in {"plain", "database"} else never for name in KINDS}
    assert status == {key_arn(name): value for name, value in expected.items()}
    assert "a multi-Region replica: its rotation is set on its primary" in {
        row["reason"] for row in result.batch.rows[KeyRotation] if row["key_arn"] == key_arn("replica")
    }
    subjects = {call["KeyId"] for call in aws.of("kms:GetKeyRotationStatus")}
    assert subjects == {key_arn("plain"), key_arn("database"), key_arn("imported")}
    assert keys_of(result, KeyRotationEvent) == {"plain", "database"}
    assert gaps(result) == []


@pytest.mark.parametrize("described", [True, False])
def test_aws_managed_keys_are_only_described_by_default(described: bool) -> None:
    """Their policy and grants are read only if configured, tags never; the alias identifies them if DescribeKey is denied."""
    changed = {} if described else {"kms:DescribeKey": only_for("managed", denied(), "kms:DescribeKey")}
    managed = key_arn("managed")

    def called(options: CollectOptions) -> set[str]:
        aws = sample_aws(changed)
        collected(aws, options=options)
        return {call.name for call in aws.calls if call.params.get("KeyId") == managed}

    assert called(CollectOptions()) == {"kms:DescribeKey"}
    assert called(CollectOptions(aws_managed_key_details=True)) == {
        "kms:DescribeKey",
        "kms:GetKeyPolicy",
        "kms:ListGrants",
    }


def test_no_call_names_an_alias() -> None:
    """DescribeKey of alias/aws/... could create a key: calls name keys by ARN only, whatever failed before."""
    for changed in ({}, {"kms:ListAliases": denied()}, {"kms:ListKeys": denied()}):
        aws = sample_aws(changed)
        collected(aws)
        subjects = {call["KeyId"] for call in aws.calls if "KeyId" in call.params}
        assert subjects <= {key_arn(name) for name in KINDS}


MALFORMED: list[tuple[str, Any, str]] = [
    ("kms:ListKeys", {"Keys": [{"KeyId": "x"}, {"KeyId": "y", "KeyArn": key_arn("plain")}]}, "ListKeys"),
    ("kms:ListAliases", {"Aliases": [{"AliasName": "alias/x"}, "what?", None]}, "ListAliases"),
    ("kms:ListGrants", {"Grants": [{"Name": "no id"}]}, "ListGrants"),
    ("kms:DescribeKey", {"Metadata": {}}, "DescribeKey"),
    ("kms:DescribeKey", {"KeyMetadata": "text"}, "DescribeKey"),
    ("secretsmanager:ListSecrets", {"SecretList": [{"Name": "no ARN"}, *SECRETS]}, "ListSecrets"),
    ("rds:DescribeDBInstances", {"DBInstances": [{"DBInstanceArn": 7}, {}]}, "DescribeDBInstances"),
    ("rds:DescribeDBInstanceAutomatedBackups", {"DBInstanceAutomatedBackups": [{}]}, "DescribeDBInstanceAutomatedBackups"),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "answer", "named"), MALFORMED)
def test_a_malformed_item_is_a_gap(operation: str, answer: Any, named: str) -> None:
    """A malformed item does not end the crawl, and its listing is incomplete."""
    result = collected(sample_aws({operation: answer}))
    assert {(name, cause) for name, _, cause in gaps(result)} == {(named, Cause.INVALID_RESPONSE)}
    model = {"ListKeys": Key, "ListAliases": Alias, "ListGrants": KeyGrant}.get(named)
    if model is not None:
        assert model not in result.batch.complete_listings


def test_a_malformed_item_does_not_discard_the_others() -> None:
    """The items before and after it, and on later pages, are recorded with their details."""
    good = [{"KeyId": key_id(name), "KeyArn": key_arn(name)} for name in ("plain", "database", "signing")]
    pages = [[good[0], {"KeyId": "no ARN"}, good[1]], [good[2]]]
    broken = paged("Keys", pages, send="Marker", receive="NextMarker", more="Truncated")
    result = collected(sample_aws({"kms:ListKeys": broken}))
    assert keys_of(result, Key) == keys_of(result, KeyPolicy) == {"plain", "database", "signing"}
    buckets = [{"Name": "nowhere"}, *BUCKETS]
    account = collected(sample_aws({"s3:ListBuckets": {"Buckets": buckets}}), GLOBAL)
    assert {row["name"] for row in account.batch.rows[Resource]} == {"logs", "plain"}
    assert {row["resource_arn"] for row in account.batch.rows[KeyReference]} == {
        "arn:aws:s3:::logs",
        "arn:aws:s3:::plain",
    }


def test_an_invalid_resource_is_a_gap_of_its_own(ledger: Ledger) -> None:
    """A bucket without BucketRegion (S3: ListBuckets) stays as it was, a new one is a gap; a bucket that is gone is closed."""
    outcomes = dict.fromkeys(BOTH, Outcome.COMPLETE)
    ledger.record_run(account_batch(sample_aws()), outcomes)
    arn = "arn:aws:s3:::logs"

    def open_facts() -> list[list[dict[str, Any]]]:
        return [ledger.current(model, resource_arn=arn) for model in (Resource, KeyReference, ResourceKey, Tag)]

    before = open_facts()
    ledger.record_run(
        account_batch(sample_aws({"s3:ListBuckets": {"Buckets": [{"Name": "logs"}, {"Name": "new"}]}})), outcomes
    )
    assert open_facts() == before
    assert [len(rows) for rows in before] == [1, 1, 1, 1]
    assert ledger.current(Resource, region="us-east-1") == []
    found = {(row["operation"], row["subject"], row["cause"], row["message"]) for row in ledger.current(Gap)}
    assert found == {
        ("ListBuckets", name, "invalid_response", "the response of s3:ListBuckets is invalid: it has no BucketRegion")
        for name in (arn, "arn:aws:s3:::new")
    }


@pytest.mark.parametrize("answer", [{}, {"Keys": None}])
def test_a_response_without_its_items_is_not_an_empty_listing(answer: dict[str, Any]) -> None:
    """A response without the list does not close the keys of the region."""
    result = collected(sample_aws({"kms:ListKeys": answer}))
    assert gaps(result) == [("ListKeys", "", Cause.INVALID_RESPONSE)]
    assert Key not in result.batch.complete_listings
    assert items_of(LIST_KEYS, {"Keys": []}) == []
    with pytest.raises(AwsError, match="no Grants"):
        items_of(LIST_GRANTS, {"Truncated": True, "NextMarker": "more"})


@pytest.mark.parametrize(
    ("listed", "items"),
    [({"Quantity": 0}, 0), ({"Quantity": 1, "Items": [{"Id": "E1"}]}, 1), ({"Quantity": 1}, None), ({}, None)],
)
def test_a_list_is_omitted_only_if_its_count_is_zero(listed: dict[str, Any], items: int | None) -> None:
    """CloudFront omits an empty list; the required Quantity counts its items (API reference: DistributionList)."""
    operation = Operation("cloudfront", "ListDistributions", items="DistributionList.Items[]")
    page = parse(operation, {"DistributionList": {"Marker": "", "MaxItems": 100, "IsTruncated": False, **listed}})
    if items is None:
        with pytest.raises(AwsError, match=r"it has no (Quantity|DistributionList\.Items)"):
            items_of(operation, page)
    else:
        assert len(items_of(operation, page)) == items


def test_buckets_in_an_excluded_region_are_only_listed() -> None:
    """A bucket in an excluded region is listed, S3 is not called there, and its key reference stays open."""
    aws = sample_aws()
    result = collected(aws, GLOBAL, CollectOptions(excludes_region=lambda region: region == REGION))
    assert {call["Bucket"] for call in aws.calls if "Bucket" in call.params} == {"plain"}
    assert {row["resource_arn"] for row in result.batch.rows[KeyReference]} == {"arn:aws:s3:::plain"}
    assert result.batch.complete_listings[KeyReference] == {("arn:aws:s3:::plain",)}
    assert {("GetBucketEncryption", "arn:aws:s3:::logs", Cause.REGION_EXCLUDED)} <= set(gaps(result))
    assert result.gaps == 0


def test_buckets_are_read_in_their_own_regions() -> None:
    """The listing is called in the home region, each bucket in its own region, always with the expected owner."""
    aws = sample_aws()
    collected(aws, GLOBAL, CollectOptions(home_region="eu-central-1"))
    assert [call.region for call in aws.of("s3:ListBuckets")] == ["eu-central-1"]
    subjects = {(call["Bucket"], call.region, call["ExpectedBucketOwner"]) for call in aws.of("s3:GetBucketEncryption")}
    assert subjects == {("logs", REGION, ACCOUNT), ("plain", "us-east-1", ACCOUNT)}


def test_only_configured_resource_types_are_collected() -> None:
    """crawl.resource_types limits the calls; keys are always collected."""
    aws = sample_aws()
    collected(aws, options=CollectOptions((SECRET, BUCKET)))
    assert {call.name.partition(":")[0] for call in aws.calls} == {"kms", "secretsmanager"}
    collected(aws, GLOBAL, CollectOptions((DB_INSTANCE,)))
    assert not aws.of("s3:ListBuckets")


def test_references_are_parsed_as_declared() -> None:
    """References by key, by omission and by alias are parsed."""
    result = collected(sample_aws())
    read = {
        (row["resource_arn"].rpartition(":")[2], row["role"]): (
            row["format"],
            row["target_arn"] or row["declared_class"],
        )
        for row in result.batch.rows[KeyReference]
    }
    assert read == {
        ("orders", "secret"): (Form.KEY_ARN, key_arn("plain")),
        ("default", "secret"): (Form.OMITTED, arn_of("kms", "alias/aws/secretsmanager")),
        ("alias", "secret"): (Form.ALIAS_NAME, arn_of("kms", "alias/database")),
        ("orders", "storage"): (Form.KEY_ARN, key_arn("database")),
        ("cache", "storage"): (Form.OMITTED, KeyClass.AWS_OWNED),
        ("trail/audit", "logs"): (Form.KEY_ARN, key_arn("plain")),
    }


@pytest.mark.parametrize(
    "response",
    [
        aws_error("ServerSideEncryptionConfigurationNotFoundError", status=404),
        {"ServerSideEncryptionConfiguration": {"Rules": [{"BucketKeyEnabled": True}]}},
    ],
)
def test_a_bucket_without_a_default_encryption_uses_s3_managed_keys(response: Answer) -> None:
    """S3 encrypts every bucket at least with its own keys since January 2023 (S3 user guide, UsingServerSideEncryption)."""
    result = collected(sample_aws({"s3:GetBucketEncryption": response}), GLOBAL)
    assert {row["declared_class"] for row in result.batch.rows[KeyReference]} == {KeyClass.AWS_OWNED}
    assert result.gaps == 0


def test_replicas_are_read_of_primaries_only(ledger: Ledger) -> None:
    """DescribeSecret is called for secrets with replicas; a denial keeps them, and a secret without replicas has none."""
    secrets: list[Any] = list(SECRETS)
    orders, default, alias = secrets
    listed = [orders | {"PrimaryRegion": REGION}, default | {"PrimaryRegion": "us-east-1"}, alias]
    status = {"Region": "us-east-1", "Status": "Failed", "StatusMessage": "already exists", "KmsKeyId": "alias/x"}
    aws = sample_aws(
        {
            "secretsmanager:ListSecrets": {"SecretList": listed},
            "secretsmanager:DescribeSecret": {"ARN": orders["ARN"], "ReplicationStatus": [status]},
        }
    )
    ledger.record_run(account_batch(aws), dict.fromkeys(BOTH, Outcome.PARTIAL))
    assert [call["SecretId"] for call in aws.of("secretsmanager:DescribeSecret")] == [orders["ARN"]]
    aws.answers["secretsmanager:DescribeSecret"] = denied("secretsmanager:DescribeSecret")
    ledger.record_run(account_batch(aws), dict.fromkeys(BOTH, Outcome.PARTIAL))
    (replica,) = ledger.current(ResourceReplica)
    assert (replica["resource_arn"], replica["replica_region"], replica["status"]) == (
        orders["ARN"],
        "us-east-1",
        "Failed",
    )
    assert (replica["status_message"], replica["raw_key"], replica["valid_from"]) == ("already exists", "alias/x", 1)
    ledger.record_run(account_batch(sample_aws()), dict.fromkeys(BOTH, Outcome.COMPLETE))
    assert ledger.current(ResourceReplica) == []


NAMES = sorted({str(operation) for operation in operations()} & answers().keys())
TABLES = [model for model in versioned_tables().values() if model not in {Gap, ResourceKey}]
failures = st.sampled_from(
    [denied(), aws_error("InternalFailure", "", 500), aws_error("ValidationException"), aws_error("Whatever")]
)


@pytest.fixture(scope="module")
def complete_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ledger after a run without errors."""
    path = tmp_path_factory.mktemp("good") / "ledger.db"
    ledger = Ledger(path)
    ledger.record_run(account_batch(sample_aws()), dict.fromkeys(BOTH, Outcome.COMPLETE))
    ledger.close()
    return path


def known_facts(ledger: Ledger, model: type[VersionedTable]) -> set[tuple[Any, ...]]:
    """Return natural keys and content hashes; for rotation only the keys, as the reason depends on DescribeKey."""
    names = model.natural_key if model is KeyRotation else (*model.natural_key, "content_hash")
    return {tuple(row[name] for name in names) for row in ledger.current(model)}


@settings(max_examples=examples(fast=10, deep=50), suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(NAMES), failures, min_size=1))
def test_failed_calls_close_no_facts(complete_run: Path, failures: Mapping[str, Answer]) -> None:
    """After a run with any failed calls and no changes in AWS, every open fact is still open and unchanged."""
    path = complete_run.with_name("run.db")
    shutil.copyfile(complete_run, path)
    ledger = Ledger(path)
    try:
        before = {model: known_facts(ledger, model) for model in TABLES}
        used = known_facts(ledger, ResourceKey)
        ledger.record_run(account_batch(sample_aws(failures)), dict.fromkeys(BOTH, Outcome.PARTIAL))
        for model in TABLES:
            assert before[model] - known_facts(ledger, model) == set(), model.__name__
        assert known_facts(ledger, ResourceKey) == used
    finally:
        ledger.close()
        for leftover in path.parent.glob("run.db*"):
            leftover.unlink()


def test_every_denial_is_a_gap(ledger: Ledger) -> None:
    """Everything is denied: one gap per listing, no facts, and only the gaps and the disabled IAM scan are complete."""
    batch = account_batch(sample_aws(dict.fromkeys(NAMES, denied())))
    ledger.record_run(batch, dict.fromkeys(BOTH, Outcome.PARTIAL))
    listings = {(kind.service, kind.name) for kind in _listings()}
    assert {(row["service"], row["operation"]) for row in ledger.current(Gap)} == listings
    assert set(batch.complete_listings) == {Gap, IamScan}
    assert not batch.rows.get(IamScan)


def _listings() -> list[Operation]:
    return [operation for operation in operations() if str(operation) in answers() and not _takes_subject(operation)]


def _takes_subject(operation: Operation) -> bool:
    return any(isinstance(value, str) and value.startswith("@") for value in operation.params.values())


@pytest.mark.parametrize(
    ("attributes", "details"),
    [
        ({}, {"last_accessed": "never", "last_rotated": "never"}),
        # Wednesday and Sunday of the same week.
        ({"LastAccessedDate": READ_AT}, {"last_accessed": "2026-03-02", "last_rotated": "never"}),
        (
            {"LastAccessedDate": READ_AT + dt.timedelta(days=4)},
            {"last_accessed": "2026-03-02", "last_rotated": "never"},
        ),
        (
            {
                "RotationEnabled": True,
                "RotationRules": {"AutomaticallyAfterDays": 30},
                "LastRotatedDate": READ_AT,
                "NextRotationDate": READ_AT + dt.timedelta(days=30),
            },
            {
                "last_accessed": "never",
                "last_rotated": "2026-03-04T02:00:00+00:00",
                "next_rotation": "2026-04-03T02:00:00+00:00",
                "rotation_days": 30,
                "rotation_enabled": True,
            },
        ),
    ],
)
def test_secret_access_and_rotation_times(attributes: dict[str, Any], details: dict[str, Any]) -> None:
    """Missing times are stored as "never", and the last access by week: daily access adds no version per run."""
    secret = {"ARN": arn_of("secretsmanager", "secret:alias"), "Name": "alias", **attributes}
    result = collected(sample_aws({"secretsmanager:ListSecrets": {"SecretList": [secret]}})).batch
    (row,) = [row for row in result.rows[Resource] if row["resource_type"] == "AWS::SecretsManager::Secret"]
    assert json.loads(row["details"]) == details


def test_a_reason_does_not_name_a_missing_value() -> None:
    """Without encryption and key in the response, the reason says that the service returned no key; a value is quoted."""
    (nothing,) = references_of(DB_INSTANCE.keys[0], {}, Scope(ACCOUNT, REGION))
    (new,) = references_of(DB_INSTANCE.keys[0], {"StorageEncryptionType": "sse-new"}, Scope(ACCOUNT, REGION))
    assert (nothing.declared_class, nothing.reason) == (KeyClass.UNKNOWN, "the service returned no key")
    assert (new.declared_class, new.reason) == (KeyClass.UNKNOWN, "the service returned 'sse-new' and no key")

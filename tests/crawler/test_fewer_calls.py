"""Regions of which nothing is asked in vain: those that a service control policy closes, and those that are empty."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from crawler.aws.errors import AwsError
from crawler.collector import Collected, CollectOptions, collect
from crawler.services.resource_types import BUCKET, DB_INSTANCE, SECRET
from crawler.spec import GLOBAL, Scope
from models.tables.keys import Alias, CustomKeyStore, Key
from models.tables.resources import Resource
from models.tables.runs import Cause, Gap
from tests.crawler.sample_resources import answers, key_arn, key_id, sample_aws
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

EMPTY_REASON = "no keys; the last full crawl of the region, run 12 (2026-11-20), found nothing"
NOTHING: dict[str, Answer] = {
    "kms:ListAliases": {"Aliases": [], "Truncated": False},
    "kms:ListKeys": {"Keys": [], "Truncated": False},
    "kms:DescribeCustomKeyStores": {"CustomKeyStores": [], "Truncated": False},
    "secretsmanager:ListSecrets": {"SecretList": []},
    "rds:DescribeDBInstances": {"DBInstances": []},
    "elasticache:DescribeReplicationGroups": {"ReplicationGroups": []},
}


def closed(action: str) -> AwsError:
    """A denial by a service control policy, in AWS's words."""
    return aws_error(
        "AccessDeniedException",
        f"User: arn:aws:sts::{ACCOUNT}:assumed-role/KmsInventoryReadOnly/kmsledger is not authorized to perform: {action} "
        "with an explicit deny in a service control policy",
    )


def all_closed() -> ScriptedAws:
    """The estate, if the region may not be used."""
    return sample_aws({name: closed(name) for name in answers()})


def collected(aws: ScriptedAws, region: str = REGION, wanted: CollectOptions | None = None) -> Collected:
    """One scope, collected."""

    async def run() -> Collected:
        return await collect(client_for(aws), Caller(), Scope(ACCOUNT, region), wanted or CollectOptions())

    return asyncio.run(run())


def gaps(found: Collected) -> set[tuple[str, str]]:
    """Operation and cause of every gap."""
    return {(row["operation"], row["cause"]) for row in found.batch.rows.get(Gap, ())}


def test_a_region_that_a_policy_closes_is_asked_twice() -> None:
    """KMS and another service are refused: no third call is made, and what was refused is told, with AWS's words."""
    aws = all_closed()
    with pytest.raises(AwsError) as raised:
        collected(aws)
    assert [call.name for call in aws.calls] == ["kms:ListAliases", "secretsmanager:ListSecrets"]
    error = raised.value
    assert (error.cause, error.code) == (Cause.SERVICE_CONTROL_POLICY, "AccessDeniedException")
    assert error.message.startswith("kms:ListAliases and secretsmanager:ListSecrets were denied")
    assert error.message.endswith("with an explicit deny in a service control policy")


def test_the_other_service_is_the_first_that_is_wanted() -> None:
    """Whichever resource types are configured, one listing of theirs decides."""
    aws = all_closed()
    with pytest.raises(AwsError, match="rds:DescribeDBInstances"):
        collected(aws, wanted=CollectOptions((BUCKET, DB_INSTANCE, SECRET)))
    assert [call.name for call in aws.calls] == ["kms:ListAliases", "rds:DescribeDBInstances"]


def test_a_policy_that_closes_kms_alone_leaves_everything_else() -> None:
    """Nothing is asked twice, nothing that answers is left out, and each refusal is a gap of its own."""
    changed: dict[str, Answer] = {name: closed(name) for name in answers() if name.startswith("kms:")}
    aws = sample_aws(changed)
    found = collected(aws)
    scp = Cause.SERVICE_CONTROL_POLICY
    assert gaps(found) == {("ListAliases", scp), ("ListKeys", scp), ("DescribeCustomKeyStores", scp)}
    usual = sample_aws()
    whole = collected(usual)
    assert found.batch.rows[Resource] == whole.batch.rows[Resource]
    assert found.batch.complete_listings[Resource] == whole.batch.complete_listings[Resource]
    names = [call.name for call in aws.calls]
    once = [name for name in names if name != "secretsmanager:GetResourcePolicy"]
    assert sorted(once) == sorted({*once, "elasticache:ListTagsForResource"})
    assert set(names) >= {call.name for call in usual.calls if not call.name.startswith("kms:")}


@pytest.mark.parametrize("refusal", [denied(), aws_error("InternalFailure", status=500), aws_error("OptInRequired")])
def test_only_service_control_policies_close_a_region(refusal: AwsError) -> None:
    """Two refusals for any other reason say nothing about the third question."""
    aws = sample_aws({"kms:ListAliases": refusal, "secretsmanager:ListSecrets": refusal})
    found = collected(aws)
    assert {name for name, _ in gaps(found)} == {"ListAliases", "ListSecrets"}
    assert aws.of("kms:ListKeys")
    assert len(aws.of("kms:ListAliases")) == len(aws.of("secretsmanager:ListSecrets")) == 1


def test_a_second_service_that_fails_otherwise_does_not_close_a_region() -> None:
    """KMS refused by a policy, the other service broken: both are told, the rest is asked."""
    aws = sample_aws({"kms:ListAliases": closed("kms:ListAliases"), "secretsmanager:ListSecrets": denied()})
    found = collected(aws)
    assert gaps(found) == {("ListAliases", Cause.SERVICE_CONTROL_POLICY), ("ListSecrets", Cause.KEY_POLICY)}
    assert aws.of("kms:ListKeys")
    assert (ACCOUNT, REGION) in found.batch.complete_listings[Key]


def test_keys_alone_can_be_refused_without_a_second_service_to_ask() -> None:
    """Where only keys and buckets are wanted, the refusals of KMS are told one by one."""
    found = collected(all_closed(), wanted=CollectOptions((BUCKET,)))
    assert {name for name, _ in gaps(found)} == {"ListAliases", "ListKeys", "DescribeCustomKeyStores"}


def test_a_quiet_region_is_asked_for_its_keys_alone() -> None:
    """None there: the listing of keys and the absence of gaps are proved, nothing else is stated or asked."""
    aws = sample_aws(NOTHING)
    found = collected(aws, wanted=CollectOptions(empty_reason=EMPTY_REASON))
    assert [call.name for call in aws.calls] == ["kms:ListKeys"]
    assert found.empty
    assert not found.batch.rows
    assert found.batch.complete_listings == {Key: {(ACCOUNT, REGION)}, Gap: {(ACCOUNT, REGION)}}
    assert (found.gaps, found.counter.calls) == (0, 1)


def test_a_key_ends_the_quiet() -> None:
    """As soon as there is one, even on a later page, everything is asked as if nothing had been known."""
    keys = [{"KeyId": key_id("plain"), "KeyArn": key_arn("plain")}]
    late = paged("Keys", [[], keys], send="Marker", receive="NextMarker", more="Truncated")
    usual = collected(sample_aws({"kms:ListKeys": late}))
    found = collected(sample_aws({"kms:ListKeys": late}), wanted=CollectOptions(empty_reason=EMPTY_REASON))
    assert not found.empty
    assert found.batch.complete_listings == usual.batch.complete_listings
    assert {model: len(rows) for model, rows in found.batch.rows.items()} == {
        model: len(rows) for model, rows in usual.batch.rows.items()
    }


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (denied(), Cause.KEY_POLICY),
        ({}, Cause.INVALID_RESPONSE),
        (
            paged("Keys", [[], aws_error("InternalFailure", status=500)], send="Marker", receive="NextMarker"),
            Cause.SERVICE_ERROR,
        ),
    ],
    ids=["denied", "malformed", "broken off"],
)
def test_a_listing_that_is_not_whole_ends_the_quiet(answer: Any, cause: Cause) -> None:
    """No keys are proved by no answer: the refusal is told as always, and everything else is asked."""
    if callable(answer):
        listing = answer

        def answer(call: Any) -> Any:  # the first page says that there is more
            return listing(call) | {"Truncated": True} if "Marker" not in call.params else listing(call)

    found = collected(sample_aws(NOTHING | {"kms:ListKeys": answer}), wanted=CollectOptions(empty_reason=EMPTY_REASON))
    assert not found.empty
    assert gaps(found) == {("ListKeys", cause)}
    assert Key not in found.batch.complete_listings
    assert (ACCOUNT, REGION) in found.batch.complete_listings[Alias]
    assert found.batch.complete_listings[Resource]


def test_a_closed_region_that_was_quiet_is_told_as_closed() -> None:
    """The refused listing of keys leads to the same two questions as always."""
    with pytest.raises(AwsError, match="service control policy"):
        collected(all_closed(), wanted=CollectOptions(empty_reason=EMPTY_REASON))


def test_the_account_s_region_less_part_is_never_quiet() -> None:
    """Buckets are always listed."""
    aws = sample_aws()
    found = collected(aws, GLOBAL, CollectOptions(empty_reason=EMPTY_REASON))
    assert aws.of("s3:ListBuckets")
    assert not found.empty


def test_an_empty_region_is_asked_for_listings_alone() -> None:
    """Without a key, KMS is asked for aliases, keys and key stores, once each, and nothing about any of them."""
    aws = sample_aws(NOTHING)
    found = collected(aws)
    names = [call.name for call in aws.calls if call.name.startswith("kms:")]
    assert sorted(names) == ["kms:DescribeCustomKeyStores", "kms:ListAliases", "kms:ListKeys"]
    assert {Key, Alias, CustomKeyStore} <= found.batch.complete_listings.keys()

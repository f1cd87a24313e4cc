"""Regions with fewer calls: denied by a service control policy, disabled, or empty."""

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

EMPTY_REASON = "no keys; the last full crawl of the region, run 12 (2026-11-20), result nothing"
NOTHING: dict[str, Answer] = {
    "kms:ListAliases": {"Aliases": [], "Truncated": False},
    "kms:ListKeys": {"Keys": [], "Truncated": False},
    "kms:DescribeCustomKeyStores": {"CustomKeyStores": [], "Truncated": False},
    "secretsmanager:ListSecrets": {"SecretList": []},
    "rds:DescribeDBInstances": {"DBInstances": []},
    "elasticache:DescribeReplicationGroups": {"ReplicationGroups": []},
}


def denied_by_scp(action: str) -> AwsError:
    """Return a denial by a service control policy, with AWS's message."""
    return aws_error(
        "AccessDeniedException",
        f"User: arn:aws:sts::{ACCOUNT}:assumed-role/KmsInventoryReadOnly/kmsledger is not authorized to perform: {action} "
        "with an explicit deny in a service control policy",
    )


def all_denied() -> ScriptedAws:
    """Return a scripted AWS in which a service control policy denies every call."""
    return sample_aws({name: denied_by_scp(name) for name in answers()})


def collected(aws: ScriptedAws, region: str = REGION, options: CollectOptions | None = None) -> Collected:
    """Collect one scope."""

    async def run() -> Collected:
        return await collect(client_for(aws), Caller(), Scope(ACCOUNT, region), options or CollectOptions())

    return asyncio.run(run())


def gaps(result: Collected) -> set[tuple[str, str]]:
    """Return operation and cause of every gap."""
    return {(row["operation"], row["cause"]) for row in result.batch.rows.get(Gap, ())}


def test_a_region_denied_by_scp_costs_two_calls() -> None:
    """KMS and another service are denied: no third call is made, and the error names both with AWS's message."""
    aws = all_denied()
    with pytest.raises(AwsError) as raised:
        collected(aws)
    assert [call.name for call in aws.calls] == ["kms:ListAliases", "secretsmanager:ListSecrets"]
    error = raised.value
    assert (error.cause, error.code) == (Cause.SERVICE_CONTROL_POLICY, "AccessDeniedException")
    assert error.message.startswith("kms:ListAliases and secretsmanager:ListSecrets were denied")
    assert error.message.endswith("with an explicit deny in a service control policy")


def test_the_second_call_is_the_first_configured_listing() -> None:
    """The first configured regional resource type makes the second call."""
    aws = all_denied()
    with pytest.raises(AwsError, match="rds:DescribeDBInstances"):
        collected(aws, options=CollectOptions((BUCKET, DB_INSTANCE, SECRET)))
    assert [call.name for call in aws.calls] == ["kms:ListAliases", "rds:DescribeDBInstances"]


def test_a_policy_that_denies_kms_only_leaves_the_rest() -> None:
    """No call is repeated, all other services are collected, and each denial is a separate gap."""
    changed: dict[str, Answer] = {name: denied_by_scp(name) for name in answers() if name.startswith("kms:")}
    aws = sample_aws(changed)
    result = collected(aws)
    scp = Cause.SERVICE_CONTROL_POLICY
    assert gaps(result) == {("ListAliases", scp), ("ListKeys", scp), ("DescribeCustomKeyStores", scp)}
    usual = sample_aws()
    complete = collected(usual)
    assert result.batch.rows[Resource] == complete.batch.rows[Resource]
    assert result.batch.complete_listings[Resource] == complete.batch.complete_listings[Resource]
    names = [call.name for call in aws.calls]
    once = [name for name in names if name != "secretsmanager:GetResourcePolicy"]
    assert sorted(once) == sorted({*once, "elasticache:ListTagsForResource"})
    assert set(names) >= {call.name for call in usual.calls if not call.name.startswith("kms:")}


@pytest.mark.parametrize("error", [denied(), aws_error("InternalFailure", status=500), aws_error("Whatever")])
def test_other_denials_do_not_skip_a_region(error: AwsError) -> None:
    """Two failures for any other reason do not skip the remaining calls."""
    aws = sample_aws({"kms:ListAliases": error, "secretsmanager:ListSecrets": error})
    result = collected(aws)
    assert {name for name, _ in gaps(result)} == {"ListAliases", "ListSecrets"}
    assert aws.of("kms:ListKeys")
    assert len(aws.of("kms:ListAliases")) == len(aws.of("secretsmanager:ListSecrets")) == 1


def test_a_second_service_with_another_error_does_not_skip_a_region() -> None:
    """A policy denies KMS and the other service fails differently: both are gaps, the rest is collected."""
    aws = sample_aws({"kms:ListAliases": denied_by_scp("kms:ListAliases"), "secretsmanager:ListSecrets": denied()})
    result = collected(aws)
    assert gaps(result) == {("ListAliases", Cause.SERVICE_CONTROL_POLICY), ("ListSecrets", Cause.KEY_POLICY)}
    assert aws.of("kms:ListKeys")
    assert (ACCOUNT, REGION) in result.batch.complete_listings[Key]


def test_without_a_second_service_each_kms_denial_is_a_gap() -> None:
    """If only keys and buckets are configured, each KMS denial is a separate gap."""
    result = collected(all_denied(), options=CollectOptions((BUCKET,)))
    assert {name for name, _ in gaps(result)} == {"ListAliases", "ListKeys", "DescribeCustomKeyStores"}


REGION_ERRORS = ["UnrecognizedClientException", "InvalidClientTokenId", "AuthFailure", "OptInRequired"]


def only_in(region: str, error: AwsError) -> ScriptedAws:
    """Return a scripted AWS that answers every call in a region with an error, and other calls as usual."""

    def respond(usual: Answer) -> Answer:
        return lambda call: error if call.region == region else (usual(call) if callable(usual) else usual)

    return ScriptedAws({name: respond(usual) for name, usual in answers().items()})


@pytest.mark.parametrize("code", REGION_ERRORS)
def test_a_disabled_region_costs_two_calls(code: str) -> None:
    """A region that is not enabled rejects credentials that other regions accept (STS and EC2: common errors, OptInRequired)."""
    aws = only_in(REGION, aws_error(code, "The security token included in the request is invalid."))
    with pytest.raises(AwsError) as raised:
        collected(aws)
    assert raised.value.cause is Cause.REGION_DISABLED
    assert [call.name for call in aws.calls if call.region == REGION] == [
        "kms:ListAliases",
        "secretsmanager:ListSecrets",
    ]
    assert len(aws.calls) <= 3


def test_credentials_that_no_region_accepts_disable_no_region() -> None:
    """If the home region rejects the same credentials, the credentials are the cause."""
    error = aws_error("UnrecognizedClientException", "The security token included in the request is invalid.")
    for region in (REGION, "us-east-1"):
        with pytest.raises(AwsError) as raised:
            collected(sample_aws(dict.fromkeys(answers(), error)), region)
        assert raised.value.cause is Cause.CREDENTIALS


def test_an_empty_region_lists_only_its_keys() -> None:
    """Without keys, the key listing and the gaps are complete; nothing else is called or marked."""
    aws = sample_aws(NOTHING)
    result = collected(aws, options=CollectOptions(empty_reason=EMPTY_REASON))
    assert [call.name for call in aws.calls] == ["kms:ListKeys"]
    assert result.empty
    assert not result.batch.rows
    assert result.batch.complete_listings == {Key: {(ACCOUNT, REGION)}, Gap: {(ACCOUNT, REGION)}}
    assert (result.gaps, result.counter.calls) == (0, 1)


def test_a_key_triggers_a_full_crawl() -> None:
    """A key, even on a later page, leads to a full crawl of the region."""
    keys = [{"KeyId": key_id("plain"), "KeyArn": key_arn("plain")}]
    late = paged("Keys", [[], keys], send="Marker", receive="NextMarker", more="Truncated")
    usual = collected(sample_aws({"kms:ListKeys": late}))
    result = collected(sample_aws({"kms:ListKeys": late}), options=CollectOptions(empty_reason=EMPTY_REASON))
    assert not result.empty
    assert result.batch.complete_listings == usual.batch.complete_listings
    assert {model: len(rows) for model, rows in result.batch.rows.items()} == {
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
    ids=["denied", "malformed", "second page"],
)
def test_an_incomplete_listing_triggers_a_full_crawl(answer: Any, cause: Cause) -> None:
    """A failed key listing does not prove absence: it is a gap as usual, and the region is crawled in full."""
    if callable(answer):
        listing = answer

        def answer(call: Any) -> Any:  # the first page has a next page
            return listing(call) | {"Truncated": True} if "Marker" not in call.params else listing(call)

    result = collected(
        sample_aws(NOTHING | {"kms:ListKeys": answer}), options=CollectOptions(empty_reason=EMPTY_REASON)
    )
    assert not result.empty
    assert gaps(result) == {("ListKeys", cause)}
    assert Key not in result.batch.complete_listings
    assert (ACCOUNT, REGION) in result.batch.complete_listings[Alias]
    assert result.batch.complete_listings[Resource]


def test_an_empty_region_denied_by_scp_is_reported() -> None:
    """The denied key listing leads to the same two calls as in any region."""
    with pytest.raises(AwsError, match="service control policy"):
        collected(all_denied(), options=CollectOptions(empty_reason=EMPTY_REASON))


def test_the_global_scope_is_never_reduced() -> None:
    """Buckets are always listed."""
    aws = sample_aws()
    result = collected(aws, GLOBAL, CollectOptions(empty_reason=EMPTY_REASON))
    assert aws.of("s3:ListBuckets")
    assert not result.empty


def test_a_full_crawl_of_an_empty_region_calls_listings_only() -> None:
    """Without a key, KMS is called once each for aliases, keys and key stores, and not for details."""
    aws = sample_aws(NOTHING)
    result = collected(aws)
    names = [call.name for call in aws.calls if call.name.startswith("kms:")]
    assert sorted(names) == ["kms:DescribeCustomKeyStores", "kms:ListAliases", "kms:ListKeys"]
    assert {Key, Alias, CustomKeyStore} <= result.batch.complete_listings.keys()

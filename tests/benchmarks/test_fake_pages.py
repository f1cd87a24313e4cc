"""Paging: sizes, tokens, empty pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.fake_aws.aws_protocols import RefusedError
from benchmarks.fake_aws.client import FakeAws
from benchmarks.fake_aws.pagination import RULES, Pager
from benchmarks.fake_aws.presets import preset
from crawler.iam_policies import operations

PAGED = {str(each): each.paging for each in operations() if each.paging is not None}


@pytest.fixture(scope="module")
def hollow() -> Iterator[FakeAws]:
    """A world in which every page is preceded by an empty one."""
    with FakeAws(preset("tiny", seed=7, empty_pages=1.0)) as fake:
        yield fake


def code_of(call: Any, **asked: Any) -> str:
    with pytest.raises(Exception, match="An error occurred") as caught:
        call(**asked)
    return str(caught.value.response["Error"]["Code"])  # type: ignore[attr-defined]  # botocore makes its error classes at run time


def test_every_paged_operation_has_its_documented_sizes() -> None:
    """What the crawler asks for is a page size that the real service would take."""
    assert PAGED.keys() <= RULES.keys()
    for name, paging in PAGED.items():
        if paging.size is not None:
            assert RULES[name].least <= paging.size <= RULES[name].most, name


@pytest.mark.parametrize("total", [0, 1, 100, 101, 250])
@pytest.mark.parametrize("empty", [0.0, 0.5, 1.0])
def test_pages_add_up_to_the_listing(total: int, empty: float) -> None:
    """Following the tokens gives every entry once, in order, whatever the share of empty pages."""
    pager = Pager(3, empty)
    asked: dict[str, object] = {"Limit": 100}
    seen: list[int] = []
    tokens: list[str | None] = []
    while not tokens or tokens[-1]:
        page = pager.page("kms:ListKeys", "somewhere", total, asked)
        seen += range(total)[page.start : page.start + page.size]
        tokens.append(page.token)
        asked["Marker"] = page.token
    assert seen == list(range(total))
    assert len(set(tokens)) == len(tokens)


@pytest.mark.parametrize("size", ["0", "101", "-5", "many"])
def test_a_page_size_out_of_range_is_refused(size: str) -> None:
    """The limits are the documented ones; beyond them there is an error, not fewer entries."""
    with pytest.raises(RefusedError, match="between 1 and 100"):
        Pager(1, 0.0).page("kms:ListGrants", "", 5, {"Limit": size})


def test_an_empty_page_may_have_a_token(hollow: FakeAws) -> None:
    """A reader that stops at an empty page finds nothing at all here; one that follows tokens finds everything."""
    client = hollow.session(hollow.world.accounts[1].id).client("kms")
    first = client.list_keys()
    assert (first["Keys"], first["Truncated"], bool(first["NextMarker"])) == ([], True, True)
    pages = client.get_paginator("list_keys").paginate()
    place = hollow.world.place(hollow.world.accounts[1].id, "us-east-1")
    assert [key["KeyId"] for page in pages for key in page["Keys"]] == place.key_ids
    buckets = hollow.session(place.account_id).client("s3").list_buckets(MaxBuckets=2)
    assert not buckets.get("Buckets")
    assert buckets["ContinuationToken"]


def test_a_grant_listing_of_many_pages(fake: FakeAws) -> None:
    """The crowded key needs a second page; the last has no marker."""
    place = fake.world.place(fake.world.accounts[1].id, "us-east-1")
    client = fake.session(place.account_id).client("kms")
    crowded = place.odd_key("crowded")
    pages = list(client.get_paginator("list_grants").paginate(KeyId=crowded, PaginationConfig={"PageSize": 100}))
    assert [len(page["Grants"]) for page in pages if page["Grants"]] == [100, 30]
    assert "NextMarker" not in pages[-1]
    assert len({grant["GrantId"] for page in pages for grant in page["Grants"]}) == 130


def test_a_token_of_another_listing_is_refused(fake: FakeAws) -> None:
    """Tokens belong to one listing of one account, region and subject; each service refuses others in its own words."""
    first, second = (fake.world.accounts[index].id for index in (1, 2))
    place = fake.world.place(first, "us-east-1")
    kms, other = (fake.session(account).client("kms") for account in (first, second))
    token = kms.list_keys(Limit=1)["NextMarker"]
    assert kms.list_keys(Limit=1, Marker=token)["Keys"]
    assert code_of(other.list_keys, Limit=1, Marker=token) == "InvalidMarkerException"
    assert code_of(kms.list_aliases, Limit=1, Marker=token) == "InvalidMarkerException"
    assert code_of(kms.list_grants, KeyId=place.odd_key("crowded"), Marker=token) == "InvalidMarkerException"
    assert code_of(kms.list_keys, Marker="nonsense") == "InvalidMarkerException"
    session = fake.session(first)
    assert code_of(session.client("secretsmanager").list_secrets, NextToken=token) == "InvalidNextTokenException"
    assert code_of(session.client("rds").describe_db_instances, Marker=token) == "InvalidParameterValue"
    assert code_of(fake.session().client("organizations").list_accounts, NextToken=token) == "InvalidInputException"
    assert code_of(session.client("s3").list_buckets, ContinuationToken=token) == "InvalidArgument"


def test_buckets_have_no_region_unless_something_is_asked(fake: FakeAws) -> None:
    """As with S3: without a parameter ListBuckets leaves BucketRegion out."""
    client = fake.session(fake.world.accounts[1].id).client("s3")
    assert all("BucketRegion" not in bucket for bucket in client.list_buckets().get("Buckets", ()))
    asked = client.list_buckets(Prefix="fake-", MaxBuckets=1000)["Buckets"]
    assert {bucket["BucketRegion"] for bucket in asked} <= set(fake.world.parameters.regions)
    assert asked


def test_secrets_to_be_deleted_are_listed_only_when_asked(fake: FakeAws) -> None:
    """As with Secrets Manager: a scheduled secret vanishes from the plain listing."""
    client = fake.session(fake.world.accounts[1].id).client("secretsmanager")
    names = [
        {
            secret["Name"]
            for page in client.get_paginator("list_secrets").paginate(**asked)
            for secret in page["SecretList"]
        }
        for asked in ({}, {"IncludePlannedDeletion": True})
    ]
    assert "odd/scheduled" in names[1] - names[0]

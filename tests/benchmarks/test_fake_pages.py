"""Pagination: sizes, tokens, empty pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.fake_aws.aws_protocols import ApiError
from benchmarks.fake_aws.client import FakeAws
from benchmarks.fake_aws.pagination import PAGE_SIZES, PAGING, Pager
from benchmarks.fake_aws.presets import preset

pytestmark = pytest.mark.deep  # the endpoint of tests and benchmarks, not the product


@pytest.fixture(scope="module")
def empty_pages_fake() -> Iterator[FakeAws]:
    """An endpoint on which an empty page precedes every page."""
    with FakeAws(preset("tiny", seed=7, empty_pages=1.0)) as fake:
        yield fake


def error_code(call: Any, **params: Any) -> str:
    with pytest.raises(Exception, match="An error occurred") as caught:
        call(**params)
    return str(caught.value.response["Error"]["Code"])  # type: ignore[attr-defined]  # botocore creates its error classes at run time


def test_requested_page_sizes_are_in_the_documented_range() -> None:
    """The real services accept the page sizes of the crawler."""
    for name, sizes in PAGE_SIZES.items():
        if (size := PAGING[name].size) is not None:
            assert sizes.minimum <= size <= sizes.maximum, name


@pytest.mark.parametrize("total", [0, 1, 100, 101, 250])
@pytest.mark.parametrize("empty", [0.0, 0.5, 1.0])
def test_pages_add_up_to_the_listing(total: int, empty: float) -> None:
    """Following the tokens gives every entry once and in order, for any share of empty pages."""
    pager = Pager(3, empty)
    params: dict[str, object] = {"Limit": 100}
    seen: list[int] = []
    tokens: list[str | None] = []
    while not tokens or tokens[-1]:
        page = pager.page("kms:ListKeys", "somewhere", total, params)
        seen += range(total)[page.start : page.start + page.size]
        tokens.append(page.token)
        params["Marker"] = page.token
    assert seen == list(range(total))
    assert len(set(tokens)) == len(tokens)


@pytest.mark.parametrize("size", ["0", "101", "-5", "many"])
def test_a_page_size_out_of_range_is_rejected(size: str) -> None:
    """A page size beyond the documented limits is an error, not a smaller page."""
    with pytest.raises(ApiError, match="between 1 and 100"):
        Pager(1, 0.0).page("kms:ListGrants", "", 5, {"Limit": size})


def test_an_empty_page_can_have_a_token(empty_pages_fake: FakeAws) -> None:
    """A client that follows the tokens gets all entries; a client that stops at an empty page would get none."""
    client = empty_pages_fake.session(empty_pages_fake.world.accounts[1].id).client("kms")
    first = client.list_keys()
    assert (first["Keys"], first["Truncated"], bool(first["NextMarker"])) == ([], True, True)
    pages = client.get_paginator("list_keys").paginate()
    account_region = empty_pages_fake.world.account_region(empty_pages_fake.world.accounts[1].id, "us-east-1")
    assert [key["KeyId"] for page in pages for key in page["Keys"]] == account_region.key_ids
    buckets = empty_pages_fake.session(account_region.account_id).client("s3").list_buckets(MaxBuckets=2)
    assert not buckets.get("Buckets")
    assert buckets["ContinuationToken"]


def test_a_grant_listing_of_many_pages(fake: FakeAws) -> None:
    """The crowded key needs a second page, and the last page has no marker."""
    account_region = fake.world.account_region(fake.world.accounts[1].id, "us-east-1")
    client = fake.session(account_region.account_id).client("kms")
    crowded = account_region.edge_case_key("crowded")
    pages = list(client.get_paginator("list_grants").paginate(KeyId=crowded, PaginationConfig={"PageSize": 100}))
    assert [len(page["Grants"]) for page in pages if page["Grants"]] == [100, 30]
    assert "NextMarker" not in pages[-1]
    assert len({grant["GrantId"] for page in pages for grant in page["Grants"]}) == 130


def test_a_token_of_another_listing_is_rejected(fake: FakeAws) -> None:
    """A token is valid for one listing of one account, region and subject; each service has its own error code."""
    first, second = (fake.world.accounts[index].id for index in (1, 2))
    account_region = fake.world.account_region(first, "us-east-1")
    kms, other = (fake.session(account).client("kms") for account in (first, second))
    token = kms.list_keys(Limit=1)["NextMarker"]
    assert kms.list_keys(Limit=1, Marker=token)["Keys"]
    assert error_code(other.list_keys, Limit=1, Marker=token) == "InvalidMarkerException"
    assert error_code(kms.list_aliases, Limit=1, Marker=token) == "InvalidMarkerException"
    assert (
        error_code(kms.list_grants, KeyId=account_region.edge_case_key("crowded"), Marker=token)
        == "InvalidMarkerException"
    )
    assert error_code(kms.list_keys, Marker="nonsense") == "InvalidMarkerException"
    session = fake.session(first)
    assert error_code(session.client("secretsmanager").list_secrets, NextToken=token) == "InvalidNextTokenException"
    assert error_code(session.client("rds").describe_db_instances, Marker=token) == "InvalidParameterValue"
    assert error_code(fake.session().client("organizations").list_accounts, NextToken=token) == "InvalidInputException"
    assert error_code(session.client("s3").list_buckets, ContinuationToken=token) == "InvalidArgument"


def test_buckets_have_a_region_only_if_the_request_has_a_parameter(fake: FakeAws) -> None:
    """Like S3: without a parameter, ListBuckets returns no BucketRegion."""
    client = fake.session(fake.world.accounts[1].id).client("s3")
    assert all("BucketRegion" not in bucket for bucket in client.list_buckets().get("Buckets", ()))
    params = client.list_buckets(Prefix="fake-", MaxBuckets=1000)["Buckets"]
    assert {bucket["BucketRegion"] for bucket in params} <= set(fake.world.parameters.regions)
    assert params


def test_secrets_pending_deletion_are_listed_on_request(fake: FakeAws) -> None:
    """Like Secrets Manager: the default listing omits secrets that are scheduled for deletion."""
    client = fake.session(fake.world.accounts[1].id).client("secretsmanager")
    names = [
        {
            secret["Name"]
            for page in client.get_paginator("list_secrets").paginate(**params)
            for secret in page["SecretList"]
        }
        for params in ({}, {"IncludePlannedDeletion": True})
    ]
    assert "odd/scheduled" in names[1] - names[0]

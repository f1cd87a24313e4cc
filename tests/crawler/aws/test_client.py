"""The client: what is tried again and how often, how listings end, and that everything is counted."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from crawler.aws import client as client_module
from crawler.aws.client import MAX_RENEWALS, AwsClient, Counter, parameters
from crawler.aws.errors import AwsError
from crawler.aws.transport_boto3 import Credentials
from crawler.services.kms import LIST_KEYS
from crawler.spec import Operation, Paging, Scope, Subject
from models.settings import AwsSettings
from models.settings.crawl import CrawlSettings
from models.tables.runs import Cause
from tests.crawler.scripted_aws import (
    ACCOUNT,
    REGION,
    Answer,
    Caller,
    ScriptedAws,
    aws_error,
    client_for,
    denied,
    in_turn,
    paged,
    unreachable,
)

ONE = Operation("kms", "DescribeKey")
LISTING = Operation("rds", "DescribeDBInstances", paging=Paging("Marker", "Marker", "MaxRecords", 100))
THROTTLED = aws_error("ThrottlingException", "Rate exceeded")
EXPIRED = aws_error("ExpiredToken", "The security token included in the request is expired")


class Dice(random.Random):
    """Remembers between which bounds it was asked, and always throws the lower one: nobody waits."""

    def __init__(self) -> None:
        super().__init__()
        self.bounds: list[tuple[float, float]] = []

    def uniform(self, a: float, b: float) -> float:
        """The lower bound."""
        self.bounds.append((a, b))
        return a


def called(answer: Answer, *, attempts: int = 4) -> tuple[dict[str, Any] | AwsError, AwsClient, ScriptedAws, Dice]:
    """One call against a script, whatever comes of it."""
    aws, dice = ScriptedAws({str(ONE): answer}), Dice()

    async def call() -> tuple[dict[str, Any] | AwsError, AwsClient]:
        client = client_for(aws, attempts=attempts)
        client._random = dice
        try:
            return await client.call(Caller(), ONE, REGION, {"KeyId": "x"}), client
        except AwsError as error:
            return error, client

    result, client = asyncio.run(call())
    return result, client, aws, dice


@pytest.mark.parametrize(
    "trouble",
    [THROTTLED, aws_error("InternalFailure", status=500), unreachable()],
    ids=["throttle", "failure", "network"],
)
def test_what_may_pass_is_tried_again(trouble: AwsError) -> None:
    """A call that is throttled, fails inside AWS or finds no connection succeeds when a later try does."""
    answer, client, aws, _ = called(in_turn(trouble, trouble, {"KeyMetadata": {}}))
    assert answer == {"KeyMetadata": {}}
    assert (client.total.calls, client.total.retries, len(aws.calls)) == (3, 2, 3)


def test_the_wait_before_a_retry_is_random_and_doubles_up_to_a_limit() -> None:
    """Full jitter: from zero to a bound that doubles, so that thousands of calls do not come back together."""
    error, _, aws, dice = called(THROTTLED, attempts=12)
    assert isinstance(error, AwsError)
    assert (error.cause, error.retries, len(aws.calls)) == (Cause.THROTTLED, 11, 12)
    assert [low for low, _ in dice.bounds] == [0.0] * 11
    highs = [high for _, high in dice.bounds]
    assert highs[0] == 2 * client_module.BASE_DELAY
    assert all(after in {2 * before, client_module.MAXIMUM_DELAY} for before, after in itertools.pairwise(highs))
    assert highs[-1] == client_module.MAXIMUM_DELAY


@pytest.mark.parametrize("refusal", [denied(), aws_error("ValidationException"), aws_error("NotFoundException")])
def test_what_will_not_pass_is_asked_once(refusal: AwsError) -> None:
    """A denial is not hammered at: it costs one call."""
    error, client, aws, dice = called(refusal)
    assert isinstance(error, AwsError)
    assert (error.cause, error.retries) == (refusal.cause, 0)
    assert (len(aws.calls), client.total.retries, dice.bounds) == (1, 0, [])


def test_expired_credentials_are_renewed_once() -> None:
    """An expired session is renewed and the call repeated; if every new one is refused too, that is the answer."""
    answer, _, aws, _ = called(in_turn(EXPIRED, {"KeyMetadata": {}}), attempts=1)
    assert answer == {"KeyMetadata": {}}
    assert [call.credentials.access_key for call in aws.calls] == ["AKIA0", "AKIA1"]
    error, _, aws, _ = called(EXPIRED)
    assert isinstance(error, AwsError)
    assert (error.cause, len(aws.calls)) == (Cause.EXPIRED, 1 + MAX_RENEWALS)


def pages(
    operation: Operation, answer: Answer, **options: int
) -> tuple[list[dict[str, Any]], AwsError | None, ScriptedAws]:
    """The pages of a listing and how it ended."""
    aws = ScriptedAws({str(operation): answer})
    found: list[dict[str, Any]] = []

    async def walk() -> None:
        async for page in client_for(aws, **options).pages(Caller(), operation, REGION, {"Filter": "x"}):
            found.append(page)  # noqa: PERF401 - what came before an error counts

    try:
        asyncio.run(walk())
    except AwsError as error:
        return found, error, aws
    return found, None, aws


def test_a_listing_goes_on_until_no_token_comes() -> None:
    """An empty page in the middle does not end a listing; every page is asked with size, token and filters."""
    script = paged("DBInstances", [["a"], [], ["b"]], send="Marker", receive="Marker")
    found, error, aws = pages(LISTING, script)
    assert error is None
    assert [page["DBInstances"] for page in found] == [["a"], [], ["b"]]
    assert [call.params for call in aws.calls] == [
        {"Filter": "x", "MaxRecords": 100},
        {"Filter": "x", "MaxRecords": 100, "Marker": "page-1"},
        {"Filter": "x", "MaxRecords": 100, "Marker": "page-2"},
    ]


def test_a_token_counts_only_while_the_service_says_there_is_more() -> None:
    """KMS may return a marker with the last page: Truncated decides."""
    found, error, _ = pages(LIST_KEYS, {"Keys": [], "Truncated": False, "NextMarker": "stale"})
    assert (len(found), error) == (1, None)
    script = paged("Keys", [["a"], ["b"]], send="Marker", receive="NextMarker", more="Truncated")
    assert len(pages(LIST_KEYS, script)[0]) == 2


def test_a_listing_that_goes_round_in_circles_has_no_end() -> None:
    """A token that comes again ends the walk as an error, not as a complete listing."""
    found, error, aws = pages(LISTING, {"DBInstances": ["a"], "Marker": "again"})
    assert error is not None
    assert error.cause is Cause.INVALID_RESPONSE
    assert len(found) == len(aws.calls) == 2


def test_an_error_in_the_middle_ends_a_listing_as_an_error() -> None:
    """Pages that arrived are given out, then the error is raised: the listing is not whole."""
    found, error, _ = pages(LISTING, paged("DBInstances", [["a"], denied()], send="Marker", receive="Marker"))
    assert len(found) == 1
    assert error is not None
    assert error.cause is Cause.KEY_POLICY


def test_a_page_is_tried_again_where_it_failed() -> None:
    """A throttled page is asked again with its own token; nothing is lost or doubled."""
    troubles = [THROTTLED]
    listing = paged("DBInstances", [["a"], ["b"]], send="Marker", receive="Marker")
    found, error, aws = pages(
        LISTING, lambda call: troubles.pop() if "Marker" in call.params and troubles else listing(call), attempts=2
    )
    assert error is None
    assert [page["DBInstances"] for page in found] == [["a"], ["b"]]
    assert [call.params.get("Marker") for call in aws.calls] == [None, "page-1", "page-1"]


def test_an_operation_without_paging_is_one_call() -> None:
    """What does not page is one page, even if its answer has a member that looks like a token."""
    found, error, _ = pages(ONE, {"NextMarker": "x"})
    assert (found, error) == ([{"NextMarker": "x"}], None)


@dataclass
class Slow:
    """A transport that remembers how many calls were in flight at most."""

    flying: int = 0
    most: int = 0
    order: list[str] = field(default_factory=list)
    max_seconds: float = math.inf

    async def send(
        self, credentials: Credentials, operation: Operation, region: str, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        """An empty answer, a millisecond later."""
        del credentials, operation, params
        self.flying += 1
        self.most = max(self.most, self.flying)
        await asyncio.sleep(0.001)
        self.flying -= 1
        self.order.append(region)
        return {}

    def close(self) -> None:
        """Nothing is held."""


def test_calls_in_flight_are_bounded_and_counted() -> None:
    """crawl.concurrency bounds the whole process; calls are counted for it and for whoever asked."""
    slow, own = Slow(), Counter()

    async def many() -> AwsClient:
        client = AwsClient(AwsSettings(), CrawlSettings(concurrency=5), slow)
        await asyncio.gather(*(client.call(Caller(), ONE, REGION, {}, own if n % 2 else None) for n in range(40)))
        return client

    client = asyncio.run(many())
    assert slow.most == 5
    assert (client.total.calls, own.calls, own.retries) == (40, 20, 0)


def test_parameters_are_taken_from_the_subject() -> None:
    """A value with an @ is what an earlier step learned; a question without it is a mistake, not an empty one."""
    operation = Operation("s3", "GetBucketEncryption", {"Bucket": "@title", "Flag": True, "Kind": "self"})
    subject = Subject(Scope(ACCOUNT, REGION), REGION, values={"title": "logs"})
    assert parameters(operation, subject) == {"Bucket": "logs", "Flag": True, "Kind": "self"}
    with pytest.raises(KeyError):
        parameters(operation, Subject(Scope(ACCOUNT, REGION), REGION))

"""The AWS client: retries, paging, concurrency and counters."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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


class LowestRandom(random.Random):
    """Records the requested bounds and always returns the lower one, so that no call waits."""

    def __init__(self) -> None:
        super().__init__()
        self.bounds: list[tuple[float, float]] = []

    def uniform(self, a: float, b: float) -> float:
        """Return the lower bound."""
        self.bounds.append((a, b))
        return a


def called(
    answer: Answer, *, attempts: int = 4
) -> tuple[dict[str, Any] | AwsError, AwsClient, ScriptedAws, LowestRandom]:
    """Make one call against scripted responses and return its result."""
    aws, random_source = ScriptedAws({str(ONE): answer}), LowestRandom()

    async def call() -> tuple[dict[str, Any] | AwsError, AwsClient]:
        client = client_for(aws, attempts=attempts)
        client._random = random_source
        try:
            return await client.call(Caller(), ONE, REGION, {"KeyId": "x"}), client
        except AwsError as error:
            return error, client

    result, client = asyncio.run(call())
    return result, client, aws, random_source


@pytest.mark.parametrize(
    "error",
    [THROTTLED, aws_error("InternalFailure", status=500), unreachable()],
    ids=["throttle", "failure", "network"],
)
def test_transient_errors_are_retried(error: AwsError) -> None:
    """A call that is throttled, fails in AWS or finds no connection succeeds if a later attempt does."""
    answer, client, aws, _ = called(in_turn(error, error, {"KeyMetadata": {"KeyId": "x"}}))
    assert answer == {"KeyMetadata": {"KeyId": "x"}}
    assert (client.total.calls, client.total.retries, len(aws.calls)) == (3, 2, 3)


def test_the_retry_delay_is_random_and_doubles_up_to_a_limit() -> None:
    """Full jitter: the delay is random up to a doubling bound, so that thousands of calls do not retry together."""
    error, _, aws, random_source = called(THROTTLED, attempts=12)
    assert isinstance(error, AwsError)
    assert (error.cause, error.retries, len(aws.calls)) == (Cause.THROTTLED, 11, 12)
    assert [low for low, _ in random_source.bounds] == [0.0] * 11
    highs = [high for _, high in random_source.bounds]
    assert highs[0] == 2 * client_module.BASE_DELAY
    assert all(after in {2 * before, client_module.MAXIMUM_DELAY} for before, after in itertools.pairwise(highs))
    assert highs[-1] == client_module.MAXIMUM_DELAY


@pytest.mark.parametrize("failure", [denied(), aws_error("ValidationException"), aws_error("NotFoundException")])
def test_permanent_errors_are_not_retried(failure: AwsError) -> None:
    """A denial costs one call."""
    error, client, aws, random_source = called(failure)
    assert isinstance(error, AwsError)
    assert (error.cause, error.retries) == (failure.cause, 0)
    assert (len(aws.calls), client.total.retries, random_source.bounds) == (1, 0, [])


def test_expired_credentials_are_renewed_once() -> None:
    """An expired session is renewed and the call repeated; if every new session is rejected too, the call fails."""
    answer, _, aws, _ = called(in_turn(EXPIRED, {"KeyMetadata": {"KeyId": "x"}}), attempts=1)
    assert answer == {"KeyMetadata": {"KeyId": "x"}}
    assert [call.credentials.access_key for call in aws.calls] == ["AKIA0", "AKIA1"]
    error, _, aws, _ = called(EXPIRED)
    assert isinstance(error, AwsError)
    assert (error.cause, len(aws.calls)) == (Cause.EXPIRED, 1 + MAX_RENEWALS)


A, B = {"DBInstanceIdentifier": "a"}, {"DBInstanceIdentifier": "b"}


def pages(
    operation: Operation, answer: Answer, **options: int
) -> tuple[list[dict[str, Any]], AwsError | None, ScriptedAws]:
    """Return the pages of a listing, its error and the scripted AWS."""
    aws = ScriptedAws({str(operation): answer})
    received: list[dict[str, Any]] = []

    async def walk() -> None:
        async for page in client_for(aws, **options).pages(Caller(), operation, REGION, {"Filter": "x"}):
            received.append(page)  # noqa: PERF401 - pages before an error count

    try:
        asyncio.run(walk())
    except AwsError as error:
        return received, error, aws
    return received, None, aws


def test_a_listing_ends_without_a_token() -> None:
    """An empty page does not end a listing; every page is requested with size, token and filters."""
    script = paged("DBInstances", [[A], [], [B]], send="Marker", receive="Marker")
    received, error, aws = pages(LISTING, script)
    assert error is None
    assert [page["DBInstances"] for page in received] == [[A], [], [B]]
    assert [call.params for call in aws.calls] == [
        {"Filter": "x", "MaxRecords": 100},
        {"Filter": "x", "MaxRecords": 100, "Marker": "page-1"},
        {"Filter": "x", "MaxRecords": 100, "Marker": "page-2"},
    ]


def test_a_token_counts_only_if_the_page_is_truncated() -> None:
    """KMS may return a marker with the last page; Truncated decides."""
    received, error, _ = pages(LIST_KEYS, {"Keys": [], "Truncated": False, "NextMarker": "stale"})
    assert (len(received), error) == (1, None)
    script = paged("Keys", [["a"], ["b"]], send="Marker", receive="NextMarker", more="Truncated")
    assert len(pages(LIST_KEYS, script)[0]) == 2


def test_a_token_without_its_flag_is_followed() -> None:
    """A page with a token, but without the flag that shows whether there is a next page, is not the last."""
    script = paged("Keys", [[], []], send="Marker", receive="NextMarker")
    assert len(pages(LIST_KEYS, script)[0]) == 2


def test_a_repeated_token_is_an_error() -> None:
    """A repeated token ends the listing with an error, not as complete."""
    received, error, aws = pages(LISTING, {"DBInstances": ["a"], "Marker": "again"})
    assert error is not None
    assert error.cause is Cause.INVALID_RESPONSE
    assert len(received) == len(aws.calls) == 2


def test_an_error_on_a_later_page_is_raised() -> None:
    """Received pages are yielded, then the error is raised: the listing is incomplete."""
    received, error, _ = pages(LISTING, paged("DBInstances", [["a"], denied()], send="Marker", receive="Marker"))
    assert len(received) == 1
    assert error is not None
    assert error.cause is Cause.KEY_POLICY


def test_a_failed_page_is_retried() -> None:
    """A throttled page is requested again with its own token; no page is lost or repeated."""
    errors = [THROTTLED]
    listing = paged("DBInstances", [[A], [B]], send="Marker", receive="Marker")
    received, error, aws = pages(
        LISTING, lambda call: errors.pop() if "Marker" in call.params and errors else listing(call), attempts=2
    )
    assert error is None
    assert [page["DBInstances"] for page in received] == [[A], [B]]
    assert [call.params.get("Marker") for call in aws.calls] == [None, "page-1", "page-1"]


def test_an_operation_without_paging_is_one_call() -> None:
    """An operation without paging returns one page, even if the response has a member like a token."""
    page = {"Keys": [], "Truncated": True, "NextMarker": "x"}
    received, error, _ = pages(replace(LIST_KEYS, paging=None), page)
    assert (received, error) == ([page], None)


@dataclass
class Slow:
    """A slow transport that records the maximum number of calls in flight."""

    in_flight: int = 0
    max_in_flight: int = 0
    order: list[str] = field(default_factory=list)
    max_seconds: float = math.inf

    async def send(
        self, credentials: Credentials, operation: Operation, region: str, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return an empty response after a millisecond."""
        del credentials, operation, params
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        await asyncio.sleep(0.001)
        self.in_flight -= 1
        self.order.append(region)
        return {}

    def close(self) -> None:
        """Do nothing."""


def test_calls_in_flight_are_limited_and_counted() -> None:
    """crawl.concurrency limits the process; calls count in the total and in the caller's counter."""
    slow, own = Slow(), Counter()

    async def many() -> AwsClient:
        client = AwsClient(AwsSettings(), CrawlSettings(concurrency=5), slow)
        await asyncio.gather(*(client.call(Caller(), ONE, REGION, {}, own if n % 2 else None) for n in range(40)))
        return client

    client = asyncio.run(many())
    assert slow.max_in_flight == 5
    assert (client.total.calls, own.calls, own.retries) == (40, 20, 0)


def test_parameters_are_taken_from_the_subject() -> None:
    """A value with @ comes from the subject; a missing value is an error, not an empty parameter."""
    operation = Operation("s3", "GetBucketEncryption", {"Bucket": "@title", "Flag": True, "Kind": "self"})
    subject = Subject(Scope(ACCOUNT, REGION), REGION, values={"title": "logs"})
    assert parameters(operation, subject) == {"Bucket": "logs", "Flag": True, "Kind": "self"}
    with pytest.raises(KeyError):
        parameters(operation, Subject(Scope(ACCOUNT, REGION), REGION))

"""Politeness: what is let through, how it narrows, and what it costs nobody else."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crawler.aws.client import AwsClient
from crawler.aws.credentials import ASSUME_ROLE, CALLER_IDENTITY
from crawler.aws.errors import AwsError
from crawler.aws.rate_limit import MIN_FACTOR, RATES, WINDOW, Bucket, RateLimiter
from crawler.services.kms import DESCRIBE_CUSTOM_KEY_STORES, DESCRIBE_KEY, LIST_GRANTS, LIST_KEYS
from crawler.services.resource_types import DB_CLUSTER, DB_INSTANCE
from crawler.spec import Operation
from models.settings import AwsSettings
from models.settings.crawl import CrawlSettings
from tests.crawler.fake_clock import StaticProvider, Timed, now, run
from tests.crawler.scripted_aws import aws_error
from tests.hypothesis_profiles import examples

SHARE = 0.25
ACCOUNT, OTHER, REGION = "111122223333", "444455556666", "eu-west-1"
THROTTLED = aws_error("ThrottlingException", "Rate exceeded")


def client_for(timed: Timed, *, percent: int = 25, concurrency: int = 64, attempts: int = 1) -> AwsClient:
    """A client that paces as in production."""
    crawl = CrawlSettings(
        quota_share_percent=percent, concurrency=concurrency, max_attempts=attempts, retry_budget_percent=1000
    )
    return AwsClient(AwsSettings(), crawl, timed)


async def ask(client: AwsClient, operation: Operation, account_id: str = ACCOUNT) -> bool:
    """One call; whether it had an answer."""
    try:
        await client.call(StaticProvider(account_id), operation, REGION, {})
    except AwsError:
        return False
    return True


def most_in_a_window(times: list[float]) -> int:
    """The most calls in any stretch of :data:`WINDOW` seconds, wherever it begins."""
    times = sorted(times)
    return max(sum(start <= moment < start + WINDOW - 1e-6 for moment in times[at:]) for at, start in enumerate(times))


def most_in_a_fixed_window(times: list[float]) -> int:
    """The most calls in the stretches 0 to 10, 10 to 20 ..."""
    return max(len(list(group)) for _, group in itertools.groupby(sorted(times), lambda moment: moment // WINDOW))


@settings(max_examples=examples(fast=15, deep=300))
@given(
    operation=st.sampled_from([LIST_GRANTS, DESCRIBE_CUSTOM_KEY_STORES, DB_INSTANCE.listing]),
    percent=st.sampled_from([1, 2, 3, 5, 7, 10, 25, 26, 100]),
    gaps=st.lists(st.floats(0, 12), min_size=1, max_size=12),
    throttling=st.floats(0, 0.6),
    concurrency=st.sampled_from([1, 3, 64]),
    slow=st.floats(0, 15),
    seed=st.integers(0, 1000),
)
@example(LIST_GRANTS, 25, [0.0], 0.0, 64, 0.0, 0)
@example(LIST_GRANTS, 25, [0.0] * 11 + [12.0], 0.3, 1, 15.0, 1)
@example(DESCRIBE_CUSTOM_KEY_STORES, 1, [0.0], 0.0, 64, 0.0, 0)
@example(DESCRIBE_CUSTOM_KEY_STORES, 5, [1.9], 0.0, 64, 0.0, 0)
def test_no_ten_seconds_hold_more_than_our_share(  # noqa: PLR0917 - one night, spelled out
    operation: Operation,
    percent: int,
    gaps: list[float],
    throttling: float,
    concurrency: int,
    slow: float,
    seed: int,
) -> None:
    """However calls come, wait for places, are throttled and tried again: the share is never exceeded, from the start on."""
    dice = random.Random(seed)  # noqa: S311 - a night that can be repeated
    timed = Timed(
        lambda: slow if dice.random() < 0.1 else 0.05, lambda _: THROTTLED if dice.random() < throttling else None
    )

    async def scenario() -> None:
        client = client_for(timed, percent=percent, concurrency=concurrency, attempts=3)
        async with asyncio.TaskGroup() as group:
            for number, gap in zip(range(400), itertools.cycle(gaps), strict=False):
                if number % 12 == 0:
                    await asyncio.sleep(gap)
                if number % 100 == 99:
                    client.drop_account(ACCOUNT)
                group.create_task(ask(client, operation))

    run(scenario())
    times = [moment for moment, _ in timed.sent]
    ours = RATES.get(str(operation), 10.0) * percent / 100 * WINDOW
    assert max(most_in_a_window(times), most_in_a_fixed_window(times)) <= max(1, ours)


@pytest.mark.parametrize(
    ("operation", "percent", "seconds"),
    [
        (LIST_GRANTS, 25, (1000 - 25) / 22.5),
        (DESCRIBE_CUSTOM_KEY_STORES, 5, 999 / 0.2),
        (DESCRIBE_CUSTOM_KEY_STORES, 1, 999 / 0.05),
    ],
)
def test_a_crowd_is_let_through_at_the_steady_rate(operation: Operation, percent: int, seconds: float) -> None:
    """Calls that all come at once are spread over no more time than their share asks for, in the order they came."""
    timed, order = Timed(), list[int]()

    async def one(client: AwsClient, number: int) -> None:
        await ask(client, operation)
        order.append(number)

    async def crowd() -> None:
        client = client_for(timed, percent=percent)
        await asyncio.gather(*(one(client, number) for number in range(1000)))

    run(crowd())
    assert order == list(range(1000))
    assert timed.sent[-1][0] == pytest.approx(seconds)


def test_throttling_narrows_and_success_widens_again() -> None:
    """Each throttle halves the rate down to a floor; calls that go through bring it back."""
    bucket = Bucket(10.0, 10.0, 0.0, 0.0)
    for _ in range(10):
        bucket.throttled()
    assert bucket.factor == MIN_FACTOR
    assert bucket.delay(0.0) == pytest.approx(1 / (10 * MIN_FACTOR))
    for _ in range(100):
        bucket.accepted()
    assert bucket.factor == 1.0
    assert bucket.delay(0.0) == pytest.approx(1 / 10)


def test_who_waits_already_waits_longer_when_aws_throttles() -> None:
    """A throttle slows the calls that are in line, not only those that come later."""
    timed = Timed()

    async def line() -> float:
        client = client_for(timed)
        bucket = client._rate_limiter.bucket(ACCOUNT, REGION, LIST_GRANTS, now())
        bucket.level = 0.0
        async with asyncio.TaskGroup() as group:
            for _ in range(45):
                group.create_task(ask(client, LIST_GRANTS))
            await asyncio.sleep(1.0)
            bucket.throttled()
            bucket.throttled()
        return now()

    usual = 45 / 22.5
    assert run(line()) > 1.5 * usual


def test_calls_that_wait_keep_no_place_in_flight() -> None:
    """Two places and a hundred calls at a bucket of one a second: another operation's calls go through meanwhile."""
    timed, ended = Timed(0.01), list[float]()

    async def keys(client: AwsClient) -> None:
        await asyncio.sleep(0.5)
        await asyncio.gather(*(ask(client, DESCRIBE_KEY) for _ in range(10)))
        ended.append(now())

    async def both() -> float:
        client = client_for(timed, concurrency=2)
        await asyncio.gather(keys(client), *(ask(client, DESCRIBE_CUSTOM_KEY_STORES) for _ in range(100)))
        return now()

    assert run(both()) > 80
    assert ended[0] < 0.6
    assert timed.max_in_flight == 2


def test_a_long_line_at_one_bucket_keeps_places_from_no_other() -> None:
    """A call of another account does not wait for the five hundred that came before it: buckets take turns."""
    timed, ended = Timed(1.0), list[float]()

    async def late(client: AwsClient) -> None:
        await asyncio.sleep(0.1)
        await ask(client, DESCRIBE_KEY, OTHER)
        ended.append(now())

    async def both() -> None:
        client = client_for(timed, concurrency=1)
        await asyncio.gather(late(client), *(ask(client, DESCRIBE_KEY) for _ in range(500)))

    run(both())
    assert ended[0] <= 3.0


def test_calls_that_waited_for_a_place_do_not_leave_in_a_crowd() -> None:
    """When the places are blocked for a minute, what was let through meanwhile is not sent all at once afterwards."""
    blocked = iter([60.0])
    timed = Timed(lambda: next(blocked, 0.0))

    async def scenario() -> None:
        client = client_for(timed, concurrency=1)
        await asyncio.gather(ask(client, DESCRIBE_KEY, OTHER), *(ask(client, LIST_GRANTS) for _ in range(600)))

    run(scenario())
    times = [moment for moment, account_id in timed.sent if account_id == ACCOUNT]
    assert min(times) == 60.0
    assert most_in_a_window(times) <= SHARE * RATES["kms:ListGrants"] * WINDOW


def test_a_throttled_account_does_not_delay_a_healthy_one() -> None:
    """With three of ten calls of one account throttled, another's are done within a twentieth of the usual time."""

    def finished(throttling: float) -> float:
        dice = random.Random(7)  # noqa: S311 - the same throttles each time
        timed = Timed(
            0.05, lambda account_id: THROTTLED if account_id == OTHER and dice.random() < throttling else None
        )
        ended: list[float] = []

        async def account(client: AwsClient, account_id: str) -> None:
            waiting = iter(range(1500))

            async def worker() -> None:
                for number in waiting:
                    await ask(client, LIST_GRANTS if number % 5 == 0 else DESCRIBE_KEY, account_id)

            await asyncio.gather(*(worker() for _ in range(64)))
            if account_id == ACCOUNT:
                ended.append(now())

        async def scenario() -> None:
            client = client_for(timed, attempts=8, concurrency=64)
            await asyncio.gather(account(client, OTHER), account(client, ACCOUNT))

        run(scenario())
        return ended[0]

    assert finished(0.3) == pytest.approx(finished(0.0), rel=0.05)


def test_who_gives_up_waiting_leaves_the_line() -> None:
    """A scope whose time is over takes its calls out of the line, and nothing of the share with them."""
    timed = Timed()

    async def scenario() -> float:
        client = client_for(timed)
        waiting = [asyncio.create_task(ask(client, DESCRIBE_CUSTOM_KEY_STORES)) for _ in range(50)]
        await asyncio.sleep(1.0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        began = now()
        await ask(client, DESCRIBE_CUSTOM_KEY_STORES)
        return now() - began

    assert run(scenario()) < 1.0


def test_buckets_are_apart_by_account_region_and_operation_and_shared_by_a_service() -> None:
    """One account's throttling slows no other; operations of a service without published rates share one bucket."""
    pace = RateLimiter(SHARE)
    one = pace.bucket(ACCOUNT, REGION, LIST_GRANTS, 0.0)
    assert pace.bucket(ACCOUNT, REGION, LIST_GRANTS, 5.0) is one
    assert pace.bucket(ACCOUNT, REGION, Operation("kms", "ListGrants"), 5.0) is one
    others = [
        pace.bucket(OTHER, REGION, LIST_GRANTS, 0.0),
        pace.bucket(ACCOUNT, "us-east-1", LIST_GRANTS, 0.0),
        pace.bucket(ACCOUNT, REGION, LIST_KEYS, 0.0),
    ]
    assert all(other is not one for other in others)
    instances = pace.bucket(ACCOUNT, REGION, DB_INSTANCE.listing, 0.0)
    assert instances is pace.bucket(ACCOUNT, REGION, DB_CLUSTER.listing, 0.0)
    sessions = pace.bucket(ACCOUNT, REGION, ASSUME_ROLE, 0.0)
    assert sessions is pace.bucket(ACCOUNT, REGION, CALLER_IDENTITY, 0.0)
    assert sessions.size == SHARE * 600


def test_an_account_that_is_done_is_forgotten_once_its_buckets_are_full() -> None:
    """Memory does not grow with the organization, and nobody gets a full bucket for one that was used up."""
    pace = RateLimiter(SHARE)
    used = pace.bucket(ACCOUNT, REGION, LIST_GRANTS, 0.0)
    assert used.take(0.0)
    pace.drop_account(ACCOUNT, 0.0)
    assert pace.bucket(ACCOUNT, REGION, LIST_GRANTS, 0.0) is used
    pace.drop_account(OTHER, 10.0)
    assert pace.bucket(ACCOUNT, REGION, LIST_GRANTS, 10.0) is not used
    pace.drop_account(ACCOUNT, 20.0)
    assert not pace._buckets
    assert not pace._finished

"""The rate limiter: shares of quotas, throttling, and fairness between accounts."""

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
from crawler.aws.rate_limit import MIN_FACTOR, RATES, TICK, WINDOW, Bucket, RateLimiter
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
    """Return a client with the rate limits of production."""
    crawl = CrawlSettings(
        quota_share_percent=percent, concurrency=concurrency, max_attempts=attempts, retry_budget_percent=1000
    )
    return AwsClient(AwsSettings(), crawl, timed)


async def succeeds(client: AwsClient, operation: Operation, account_id: str = ACCOUNT) -> bool:
    """Make one call and return whether it succeeded."""
    try:
        await client.call(StaticProvider(account_id), operation, REGION, {})
    except AwsError:
        return False
    return True


def most_in_a_window(times: list[float]) -> int:
    """Return the maximum number of calls in any period of :data:`WINDOW` seconds."""
    times = sorted(times)
    return max(sum(start <= moment < start + WINDOW - 1e-6 for moment in times[at:]) for at, start in enumerate(times))


def most_in_a_fixed_window(times: list[float]) -> int:
    """Return the maximum number of calls in the periods 0 to 10, 10 to 20 ..."""
    return max(len(list(group)) for _, group in itertools.groupby(sorted(times), lambda moment: moment // WINDOW))


@settings(max_examples=examples(fast=15, deep=100))
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
def test_the_share_is_never_exceeded(  # noqa: PLR0917 - the parameters of a simulation
    operation: Operation,
    percent: int,
    gaps: list[float],
    throttling: float,
    concurrency: int,
    slow: float,
    seed: int,
) -> None:
    """In no period of ten seconds are there more calls than the share, whatever the arrivals, throttling and retries."""
    randomness = random.Random(seed)  # noqa: S311 - a repeatable simulation
    timed = Timed(
        lambda: slow if randomness.random() < 0.1 else 0.05,
        lambda _: THROTTLED if randomness.random() < throttling else None,
    )

    async def scenario() -> None:
        client = client_for(timed, percent=percent, concurrency=concurrency, attempts=3)
        async with asyncio.TaskGroup() as group:
            for number, gap in zip(range(400), itertools.cycle(gaps), strict=False):
                if number % 12 == 0:
                    await asyncio.sleep(gap)
                if number % 100 == 99:
                    client.drop_account(ACCOUNT)
                group.create_task(succeeds(client, operation))

    run(scenario())
    times = [moment for moment, _ in timed.sent]
    share = RATES.get(str(operation), 10.0) * percent / 100 * WINDOW
    assert max(most_in_a_window(times), most_in_a_fixed_window(times)) <= max(1, share)


@pytest.mark.parametrize(
    ("operation", "percent", "seconds"),
    [
        (LIST_GRANTS, 25, (1000 - 25) / 22.5),
        (DESCRIBE_CUSTOM_KEY_STORES, 5, 999 / 0.2),
        (DESCRIBE_CUSTOM_KEY_STORES, 1, 999 / 0.05),
    ],
)
def test_a_burst_is_spread_at_the_steady_rate(operation: Operation, percent: int, seconds: float) -> None:
    """A burst of calls is sent in order and takes no longer than the share requires, except for the last tick."""
    timed, order = Timed(), list[int]()

    async def numbered_call(client: AwsClient, number: int) -> None:
        await succeeds(client, operation)
        order.append(number)

    async def burst() -> None:
        client = client_for(timed, percent=percent)
        await asyncio.gather(*(numbered_call(client, number) for number in range(1000)))

    run(burst())
    assert order == list(range(1000))
    assert seconds - 1e-3 <= timed.sent[-1][0] <= seconds + TICK


def test_throttling_reduces_the_rate_and_success_restores_it() -> None:
    """Each throttled call halves the rate down to a minimum; successful calls restore it."""
    bucket = Bucket(10.0, 10.0, 0.0, 0.0)
    for _ in range(10):
        bucket.throttled()
    assert bucket.factor == MIN_FACTOR
    assert bucket.delay(0.0) == pytest.approx(1 / (10 * MIN_FACTOR))
    for _ in range(100):
        bucket.accepted()
    assert bucket.factor == 1.0
    assert bucket.delay(0.0) == pytest.approx(1 / 10)


def test_waiting_calls_are_sent_at_common_ticks() -> None:
    """Buckets that hold several tokens send at the same moments, so that one turn of the event loop serves all of them."""
    timed = Timed()

    async def burst() -> None:
        client = client_for(timed)
        calls = [(operation, account) for operation in (LIST_GRANTS, LIST_KEYS) for account in (ACCOUNT, OTHER)]
        await asyncio.gather(*(succeeds(client, *call) for call in calls for _ in range(300)))

    run(burst())
    later = {round(moment / TICK, 3) for moment, _ in timed.sent if moment}
    assert all(tick.is_integer() for tick in later)


def test_throttling_slows_waiting_calls() -> None:
    """Throttling slows the calls that already wait, not only later ones."""
    timed = Timed()

    async def line() -> float:
        client = client_for(timed)
        bucket = client._rate_limiter.bucket(ACCOUNT, REGION, LIST_GRANTS, now())
        bucket.level = 0.0
        async with asyncio.TaskGroup() as group:
            for _ in range(45):
                group.create_task(succeeds(client, LIST_GRANTS))
            await asyncio.sleep(1.0)
            bucket.throttled()
            bucket.throttled()
        return now()

    usual = 45 / 22.5
    assert run(line()) > 1.5 * usual


def test_waiting_calls_keep_no_slot() -> None:
    """With two slots and a hundred calls waiting for a slow bucket, calls of another operation are sent."""
    timed, ended_at = Timed(0.01), list[float]()

    async def keys(client: AwsClient) -> None:
        await asyncio.sleep(0.5)
        await asyncio.gather(*(succeeds(client, DESCRIBE_KEY) for _ in range(10)))
        ended_at.append(now())

    async def both() -> float:
        client = client_for(timed, concurrency=2)
        await asyncio.gather(keys(client), *(succeeds(client, DESCRIBE_CUSTOM_KEY_STORES) for _ in range(100)))
        return now()

    assert run(both()) > 80
    assert ended_at[0] < 0.6
    assert timed.max_in_flight == 2


def test_a_long_queue_does_not_block_other_buckets() -> None:
    """A call of another account does not wait for five hundred earlier calls: buckets take turns."""
    timed, ended_at = Timed(1.0), list[float]()

    async def late(client: AwsClient) -> None:
        await asyncio.sleep(0.1)
        await succeeds(client, DESCRIBE_KEY, OTHER)
        ended_at.append(now())

    async def both() -> None:
        client = client_for(timed, concurrency=1)
        await asyncio.gather(late(client), *(succeeds(client, DESCRIBE_KEY) for _ in range(500)))

    run(both())
    assert ended_at[0] <= 3.0


def test_calls_that_waited_for_a_slot_are_not_sent_as_a_burst() -> None:
    """After all slots were blocked for a minute, the waiting calls are still rate limited."""
    blocked = iter([60.0])
    timed = Timed(lambda: next(blocked, 0.0))

    async def scenario() -> None:
        client = client_for(timed, concurrency=1)
        await asyncio.gather(
            succeeds(client, DESCRIBE_KEY, OTHER), *(succeeds(client, LIST_GRANTS) for _ in range(600))
        )

    run(scenario())
    times = [moment for moment, account_id in timed.sent if account_id == ACCOUNT]
    assert min(times) == 60.0
    assert most_in_a_window(times) <= SHARE * RATES["kms:ListGrants"] * WINDOW


def test_a_throttled_account_does_not_delay_a_healthy_one() -> None:
    """If 30% of one account's calls are throttled, the calls of another account take at most 5% longer."""

    def finished(throttling: float) -> float:
        randomness = random.Random(7)  # noqa: S311 - the same throttles each time
        timed = Timed(
            0.05, lambda account_id: THROTTLED if account_id == OTHER and randomness.random() < throttling else None
        )
        ended_at: list[float] = []

        async def account(client: AwsClient, account_id: str) -> None:
            numbers = iter(range(1500))

            async def worker() -> None:
                for number in numbers:
                    await succeeds(client, LIST_GRANTS if number % 5 == 0 else DESCRIBE_KEY, account_id)

            await asyncio.gather(*(worker() for _ in range(64)))
            if account_id == ACCOUNT:
                ended_at.append(now())

        async def scenario() -> None:
            client = client_for(timed, attempts=8, concurrency=64)
            await asyncio.gather(account(client, OTHER), account(client, ACCOUNT))

        run(scenario())
        return ended_at[0]

    assert finished(0.3) == pytest.approx(finished(0.0), rel=0.05)


def test_cancelled_calls_leave_the_queue() -> None:
    """Cancelled calls leave the queue and use no tokens."""
    timed = Timed()

    async def scenario() -> float:
        client = client_for(timed)
        waiting = [asyncio.create_task(succeeds(client, DESCRIBE_CUSTOM_KEY_STORES)) for _ in range(50)]
        await asyncio.sleep(1.0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        started = now()
        await succeeds(client, DESCRIBE_CUSTOM_KEY_STORES)
        return now() - started

    assert run(scenario()) < 1.0


def test_buckets_are_separate_by_account_region_and_operation() -> None:
    """Accounts, regions and operations have separate buckets; operations of a service without published rates share one."""
    limiter = RateLimiter(SHARE)
    bucket = limiter.bucket(ACCOUNT, REGION, LIST_GRANTS, 0.0)
    assert limiter.bucket(ACCOUNT, REGION, LIST_GRANTS, 5.0) is bucket
    assert limiter.bucket(ACCOUNT, REGION, Operation("kms", "ListGrants"), 5.0) is bucket
    others = [
        limiter.bucket(OTHER, REGION, LIST_GRANTS, 0.0),
        limiter.bucket(ACCOUNT, "us-east-1", LIST_GRANTS, 0.0),
        limiter.bucket(ACCOUNT, REGION, LIST_KEYS, 0.0),
    ]
    assert all(other is not bucket for other in others)
    instances = limiter.bucket(ACCOUNT, REGION, DB_INSTANCE.listing, 0.0)
    assert instances is limiter.bucket(ACCOUNT, REGION, DB_CLUSTER.listing, 0.0)
    sessions = limiter.bucket(ACCOUNT, REGION, ASSUME_ROLE, 0.0)
    assert sessions is limiter.bucket(ACCOUNT, REGION, CALLER_IDENTITY, 0.0)
    assert sessions.size == SHARE * 600


def test_a_finished_account_is_dropped_once_its_buckets_are_full() -> None:
    """A dropped account frees memory, but an empty bucket is not replaced by a full one."""
    limiter = RateLimiter(SHARE)
    used = limiter.bucket(ACCOUNT, REGION, LIST_GRANTS, 0.0)
    assert used.take(0.0)
    limiter.drop_account(ACCOUNT, 0.0)
    assert limiter.bucket(ACCOUNT, REGION, LIST_GRANTS, 0.0) is used
    limiter.drop_account(OTHER, 10.0)
    assert limiter.bucket(ACCOUNT, REGION, LIST_GRANTS, 10.0) is not used
    limiter.drop_account(ACCOUNT, 20.0)
    assert not limiter._buckets
    assert not limiter._finished

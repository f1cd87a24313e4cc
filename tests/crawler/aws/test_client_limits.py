"""Limits of the AWS client: retries per account and the deadline of a call."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any

import pytest

from crawler.aws.client import FREE_RETRIES, AwsClient, Counter
from crawler.aws.errors import AwsError
from crawler.aws.transport_boto3 import Credentials
from crawler.services.kms import DESCRIBE_CUSTOM_KEY_STORES, DESCRIBE_KEY, LIST_GRANTS
from crawler.spec import Operation
from models.settings import AwsSettings
from models.settings.crawl import CrawlSettings
from models.tables.runs import Cause
from tests.crawler.fake_clock import StaticProvider, Timed, now, run
from tests.crawler.scripted_aws import Caller, aws_error, unreachable

HEALTHY, FAILING, REGION = "111122223333", "444455556666", "eu-west-1"
THROTTLED = aws_error("ThrottlingException", "Rate exceeded")
EXPIRED = aws_error("ExpiredToken", "The security token included in the request is expired")


def client_for(timed: Timed, **settings: Any) -> AwsClient:
    """Return a client with these crawl settings."""
    return AwsClient(AwsSettings(), CrawlSettings(quota_share_percent=100, **settings), timed)


async def call(client: AwsClient, account_id: str = FAILING) -> AwsError | None:
    """Make one call and return its error, if any."""
    try:
        await client.call(StaticProvider(account_id), DESCRIBE_KEY, REGION, {})
    except AwsError as error:
        return error
    return None


def test_the_retry_budget_is_a_hundred_plus_a_share_of_the_calls() -> None:
    """Once the budget is used up, calls fail at the first attempt; retries do not add to the budget."""
    failing = False
    timed = Timed(fail=lambda _: THROTTLED if failing else None)

    async def scenario() -> tuple[int, list[AwsError | None], int]:
        nonlocal failing
        client = client_for(timed, max_attempts=5, retry_budget_percent=50)
        for _ in range(400):
            assert await call(client) is None
        failing = True
        failed = [await call(client) for _ in range(100)]
        before = len(timed.sent)
        failed += [await call(client) for _ in range(10)]
        return client.total.retries, failed, len(timed.sent) - before

    retries, failed, last_ten = run(scenario())
    calls = 400 + len(failed)
    assert retries == FREE_RETRIES + calls // 2
    assert {error.cause for error in failed if error} == {Cause.THROTTLED}
    first, last = failed[0], failed[-1]
    assert first is not None
    assert last is not None
    assert (first.retries, first.message) == (4, "Rate exceeded")
    assert last.code == "ThrottlingException"
    assert FAILING in last.message
    assert "retries" in last.message
    assert last.message.endswith("Rate exceeded")
    # Each of the last ten calls adds half a retry.
    assert last_ten == 15


def test_a_share_of_zero_leaves_the_free_retries() -> None:
    """With crawl.retry_budget_percent 0, an account has a hundred retries, then one attempt per call."""
    timed = Timed(fail=lambda _: unreachable())

    async def scenario() -> list[AwsError | None]:
        client = client_for(timed, max_attempts=3, retry_budget_percent=0)
        return [await call(client) for _ in range(60)]

    errors = [error for error in run(scenario()) if error]
    assert [error.retries for error in errors] == [2] * 50 + [0] * 10
    assert len(timed.sent) == 60 + FREE_RETRIES


def test_the_retry_budget_is_per_account() -> None:
    """Each account has its own budget, which drop_account() resets."""
    timed = Timed(fail=lambda _: THROTTLED)

    async def scenario() -> tuple[AwsError | None, ...]:
        client = client_for(timed, max_attempts=2, retry_budget_percent=0)
        for _ in range(FREE_RETRIES):
            await call(client)
        used_up, other = await call(client), await call(client, HEALTHY)
        client.drop_account(FAILING)
        return used_up, other, await call(client)

    assert [error and error.retries for error in run(scenario())] == [0, 1, 1]


class GiantListing(Timed):
    """A key with 50,000 grants, 100 on each page."""

    async def send(
        self, credentials: Credentials, operation: Operation, region: str, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the page, or fail."""
        page = int(params.get("Marker", "0"))
        await super().send(credentials, operation, region, params)
        return {"Grants": [page], "Truncated": page < 499, "NextMarker": str(page + 1)}


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_a_listing_that_makes_progress_is_completed(share: float) -> None:
    """However many calls are throttled, neither the retry budget nor one unlucky page ends the listing."""
    chance = random.Random(7)  # noqa: S311 - repeatable
    timed = GiantListing(fail=lambda _: THROTTLED if timed.sent[1:] and chance.random() < share else None)

    async def scenario() -> int:
        client = client_for(timed, max_attempts=5, retry_budget_percent=0, call_deadline=86_400)
        pages = client.pages(StaticProvider(FAILING), LIST_GRANTS, REGION, {"KeyId": "k"})
        return len([page async for page in pages])

    assert run(scenario()) == 500


def test_a_listing_that_makes_no_progress_ends() -> None:
    """A page that is always throttled ends the listing after its attempts."""
    timed = GiantListing(fail=lambda _: THROTTLED if len(timed.sent) > 3 else None)

    async def scenario() -> None:
        client = client_for(timed, max_attempts=5)
        async for _ in client.pages(StaticProvider(FAILING), LIST_GRANTS, REGION, {"KeyId": "k"}):
            pass

    with pytest.raises(AwsError):
        run(scenario())
    assert len(timed.sent) <= 3 + 4 * 5


def test_expired_sessions_use_up_no_retries() -> None:
    """Session renewals do not count as retries of the account."""
    timed = Timed(fail=lambda _: EXPIRED if len(timed.sent) % 2 else None)

    async def scenario() -> list[dict[str, Any]]:
        client = client_for(timed, max_attempts=1, retry_budget_percent=0)
        return [await client.call(Caller(), DESCRIBE_KEY, REGION, {}) for _ in range(300)]

    assert run(scenario()) == [{}] * 300
    assert len(timed.sent) == 600


def test_a_hanging_call_ends_at_its_deadline() -> None:
    """The cause is the deadline, and the slot in flight is released."""
    timed = Timed(3600.0)

    async def scenario() -> tuple[AwsError | None, float, bool]:
        client = client_for(timed, call_deadline=30, concurrency=1)
        error = await call(client)
        return error, now(), client._in_flight.locked()

    error, ended, locked = run(scenario())
    assert error is not None
    assert (error.cause, error.retries, ended, locked) == (Cause.DEADLINE, 0, 30.0, False)
    assert "30 s" in error.message


def test_the_transport_timeout_replaces_the_deadline_timer() -> None:
    """While the remaining time exceeds the transport's timeout, no timer is set; afterwards the client enforces the deadline."""

    async def scenario(max_seconds: float) -> tuple[Cause | None, float]:
        error = await call(client_for(Timed(40.0, max_seconds=max_seconds), call_deadline=30))
        return error.cause if error else None, now()

    assert run(scenario(29.0)) == (None, 40.0)
    assert run(scenario(30.0)) == (Cause.DEADLINE, 30.0)


def test_calls_waiting_for_a_connection_have_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """With more calls than connections and a silent server, each call ends at its own deadline."""
    monkeypatch.setattr("crawler.aws.transport_curl.MAX_CONNECTIONS_PER_ENDPOINT", 1)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Until the caller disconnects.
        await reader.read()
        writer.close()

    async def scenario() -> tuple[list[AwsError | None], float]:
        listening = await asyncio.start_server(silent, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        aws = AwsSettings(endpoint_url=url, connect_timeout=0.1, read_timeout=0.3)
        client = AwsClient(aws, CrawlSettings(quota_share_percent=100, concurrency=16, max_attempts=1, call_deadline=1))
        started = now()
        failed = await asyncio.gather(*(call(client) for _ in range(16)))
        took = now() - started
        client.close()
        listening.close()
        await asyncio.sleep(0.1)
        return failed, took

    failed, took = asyncio.run(scenario())
    assert took < 4.0
    assert {error.cause for error in failed if error} == {Cause.UNREACHABLE, Cause.DEADLINE}


def test_a_timeout_error_of_the_transport_is_not_a_deadline() -> None:
    """Only the client's own timeout is a deadline: another TimeoutError is raised as is."""

    def fail(_: str) -> AwsError | None:
        raise TimeoutError("transport timeout")

    with pytest.raises(TimeoutError, match="transport timeout"):
        run(call(client_for(Timed(fail=fail))))


def test_a_retry_delay_beyond_the_deadline_fails_immediately() -> None:
    """The last error is raised without waiting for an attempt that would come too late."""
    timed = Timed(fail=lambda _: THROTTLED)

    async def scenario() -> tuple[AwsError | None, float]:
        return await call(client_for(timed, call_deadline=10, max_attempts=20)), now()

    error, ended = run(scenario())
    assert error is not None
    assert (error.cause, error.message) == (Cause.THROTTLED, "Rate exceeded")
    assert 0 < error.retries == len(timed.sent) - 1 < 19
    assert ended == timed.sent[-1][0] < 10.0


def test_attempts_share_one_deadline() -> None:
    """A hanging later attempt ends at the deadline of the whole call."""
    timed = Timed(lambda: 4.0 if len(timed.sent) == 1 else 3600.0, fail=lambda _: unreachable())

    async def scenario() -> tuple[AwsError | None, float]:
        return await call(client_for(timed, call_deadline=10, max_attempts=20)), now()

    error, ended = run(scenario())
    assert error is not None
    assert (error.cause, error.retries) == (Cause.DEADLINE, 1)
    assert ended == pytest.approx(10.0)


def test_waiting_for_the_rate_limiter_does_not_count() -> None:
    """A call may wait minutes for the rate limiter; its deadline starts when it is sent."""
    timed = Timed(0.5)

    async def scenario() -> float:
        client = AwsClient(AwsSettings(), CrawlSettings(quota_share_percent=25, call_deadline=1), timed)
        caller = StaticProvider(HEALTHY)
        await asyncio.gather(*(client.call(caller, DESCRIBE_CUSTOM_KEY_STORES, REGION, {}) for _ in range(100)))
        return now()

    assert run(scenario()) > 80


def test_waiting_for_a_slot_in_flight_does_not_count() -> None:
    """The deadline starts after the call gets a slot."""
    timed = Timed(0.8)

    async def scenario() -> list[AwsError | None]:
        client = client_for(timed, call_deadline=1, concurrency=1)
        return await asyncio.gather(*(call(client) for _ in range(20)))

    assert run(scenario()) == [None] * 20
    assert timed.max_in_flight == 1


def test_a_retry_delay_keeps_no_slot() -> None:
    """With one slot, a hundred calls are made during the retry delay of a throttled call."""
    timed = Timed(0.001, fail=lambda account_id: THROTTLED if account_id == FAILING else None)

    async def scenario() -> float:
        client = client_for(timed, concurrency=1, max_attempts=8)
        waiting = asyncio.create_task(call(client))
        await asyncio.gather(*(call(client, HEALTHY) for _ in range(100)))
        ended = now()
        await waiting
        return ended

    assert run(scenario()) < 0.2


def test_attempts_are_counted() -> None:
    """Each attempt is a call, each after the first a retry, in the total and in the caller's counter."""
    timed, own = Timed(fail=lambda _: THROTTLED if len(timed.sent) < 3 else None), Counter()

    async def scenario() -> Counter:
        client = client_for(timed)
        await client.call(StaticProvider(FAILING), DESCRIBE_KEY, REGION, {}, own)
        return client.total

    assert run(scenario()) == own == Counter(3, 2)

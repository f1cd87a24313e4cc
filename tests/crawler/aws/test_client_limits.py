"""What the client bounds: the retries of an account, and the time that one call may take."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from crawler.aws.client import FREE_RETRIES, AwsClient, Counter
from crawler.aws.errors import AwsError
from crawler.services.kms import DESCRIBE_CUSTOM_KEY_STORES, DESCRIBE_KEY
from models.settings import AwsSettings
from models.settings.crawl import CrawlSettings
from models.tables.runs import Cause
from tests.crawler.fake_clock import StaticProvider, Timed, now, run
from tests.crawler.scripted_aws import Caller, aws_error, unreachable

HEALTHY, SICK, REGION = "111122223333", "444455556666", "eu-west-1"
THROTTLED = aws_error("ThrottlingException", "Rate exceeded")
EXPIRED = aws_error("ExpiredToken", "The security token included in the request is expired")


def client_for(timed: Timed, **settings: Any) -> AwsClient:
    """A client with these settings of the crawl."""
    return AwsClient(AwsSettings(), CrawlSettings(quota_share_percent=100, **settings), timed)


async def ask(client: AwsClient, account_id: str = SICK) -> AwsError | None:
    """One call, and what it failed with."""
    try:
        await client.call(StaticProvider(account_id), DESCRIBE_KEY, REGION, {})
    except AwsError as error:
        return error
    return None


def test_an_account_has_a_hundred_retries_and_a_share_of_its_calls() -> None:
    """Further calls fail at the first try, with their cause; retries do not earn retries."""
    sick = False
    timed = Timed(fail=lambda _: THROTTLED if sick else None)

    async def scenario() -> tuple[int, list[AwsError | None], int]:
        nonlocal sick
        client = client_for(timed, max_attempts=5, retry_budget_percent=50)
        for _ in range(400):
            assert await ask(client) is None
        sick = True
        failed = [await ask(client) for _ in range(100)]
        before = len(timed.sent)
        failed += [await ask(client) for _ in range(10)]
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
    assert SICK in last.message
    assert "retries" in last.message
    assert last.message.endswith("Rate exceeded")
    # Each of the last ten earns half a retry of its own, and no more.
    assert last_ten == 15


def test_no_share_leaves_the_free_retries() -> None:
    """crawl.retry_budget_percent 0: a hundred retries an account, then each call has one try."""
    timed = Timed(fail=lambda _: unreachable())

    async def scenario() -> list[AwsError | None]:
        client = client_for(timed, max_attempts=3, retry_budget_percent=0)
        return [await ask(client) for _ in range(60)]

    errors = [error for error in run(scenario()) if error]
    assert [error.retries for error in errors] == [2] * 50 + [0] * 10
    assert len(timed.sent) == 60 + FREE_RETRIES


def test_one_account_does_not_use_up_the_retries_of_another() -> None:
    """Each account has its own, and one that comes back after it was forgotten has them anew."""
    timed = Timed(fail=lambda _: THROTTLED)

    async def scenario() -> tuple[AwsError | None, ...]:
        client = client_for(timed, max_attempts=2, retry_budget_percent=0)
        for _ in range(FREE_RETRIES):
            await ask(client)
        used_up, other = await ask(client), await ask(client, HEALTHY)
        client.drop_account(SICK)
        return used_up, other, await ask(client)

    assert [error and error.retries for error in run(scenario())] == [0, 1, 1]


def test_expired_sessions_use_up_no_retries() -> None:
    """A session that ends under a thousand calls is renewed for each of them: that is no trouble of the account."""
    timed = Timed(fail=lambda _: EXPIRED if len(timed.sent) % 2 else None)

    async def scenario() -> list[dict[str, Any]]:
        client = client_for(timed, max_attempts=1, retry_budget_percent=0)
        return [await client.call(Caller(), DESCRIBE_KEY, REGION, {}) for _ in range(300)]

    assert run(scenario()) == [{}] * 300
    assert len(timed.sent) == 600


def test_a_call_that_hangs_is_cut_at_its_deadline() -> None:
    """Its cause is the deadline, and its place in flight is free again."""
    timed = Timed(3600.0)

    async def scenario() -> tuple[AwsError | None, float, bool]:
        client = client_for(timed, call_deadline=30, concurrency=1)
        error = await ask(client)
        return error, now(), client._in_flight.locked()

    error, ended, locked = run(scenario())
    assert error is not None
    assert (error.cause, error.retries, ended, locked) == (Cause.DEADLINE, 0, 30.0, False)
    assert "30 s" in error.message


def test_no_timer_is_set_where_the_transport_gives_up_sooner() -> None:
    """While more is left than the transport's max_seconds, it is trusted; from there on the client cuts."""

    async def scenario(max_seconds: float) -> tuple[Cause | None, float]:
        error = await ask(client_for(Timed(40.0, max_seconds=max_seconds), call_deadline=30))
        return error.cause if error else None, now()

    assert run(scenario(29.0)) == (None, 40.0)
    assert run(scenario(30.0)) == (Cause.DEADLINE, 30.0)


def test_calls_that_wait_for_a_connection_are_cut_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """More calls than connections, and a server that never answers: each call ends at its deadline, not in its turn."""
    monkeypatch.setattr("crawler.aws.transport_curl.MAX_CONNECTIONS_PER_ENDPOINT", 1)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Until the caller has had enough.
        await reader.read()
        writer.close()

    async def scenario() -> tuple[list[AwsError | None], float]:
        listening = await asyncio.start_server(silent, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        aws = AwsSettings(endpoint_url=url, connect_timeout=0.1, read_timeout=0.3)
        client = AwsClient(aws, CrawlSettings(quota_share_percent=100, concurrency=16, max_attempts=1, call_deadline=1))
        began = now()
        failed = await asyncio.gather(*(ask(client) for _ in range(16)))
        took = now() - began
        client.close()
        listening.close()
        await asyncio.sleep(0.1)
        return failed, took

    failed, took = asyncio.run(scenario())
    assert took < 4.0
    assert {error.cause for error in failed if error} == {Cause.UNREACHABLE, Cause.DEADLINE}


def test_a_transport_that_gives_up_by_itself_is_no_deadline() -> None:
    """Only what the client cut is called so: a TimeoutError of somebody else goes through."""

    def trouble(_: str) -> AwsError | None:
        raise TimeoutError("somebody else's")

    with pytest.raises(TimeoutError, match="somebody else's"):
        run(ask(client_for(Timed(fail=trouble))))


def test_a_delay_that_would_pass_the_deadline_is_not_waited_for() -> None:
    """The last error is raised at once, tries left or not: nobody waits for a try that will not be made."""
    timed = Timed(fail=lambda _: THROTTLED)

    async def scenario() -> tuple[AwsError | None, float]:
        return await ask(client_for(timed, call_deadline=10, max_attempts=20)), now()

    error, ended = run(scenario())
    assert error is not None
    assert (error.cause, error.message) == (Cause.THROTTLED, "Rate exceeded")
    assert 0 < error.retries == len(timed.sent) - 1 < 19
    assert ended == timed.sent[-1][0] < 10.0


def test_tries_share_one_deadline() -> None:
    """A try that hangs after others is cut when the time of the whole call is over."""
    timed = Timed(lambda: 4.0 if len(timed.sent) == 1 else 3600.0, fail=lambda _: unreachable())

    async def scenario() -> tuple[AwsError | None, float]:
        return await ask(client_for(timed, call_deadline=10, max_attempts=20)), now()

    error, ended = run(scenario())
    assert error is not None
    assert (error.cause, error.retries) == (Cause.DEADLINE, 1)
    assert ended == pytest.approx(10.0)


def test_waiting_for_the_pace_is_not_counted() -> None:
    """A call may wait for minutes until its quota lets it through; its deadline begins when it is made."""
    timed = Timed(0.5)

    async def scenario() -> float:
        client = AwsClient(AwsSettings(), CrawlSettings(quota_share_percent=25, call_deadline=1), timed)
        caller = StaticProvider(HEALTHY)
        await asyncio.gather(*(client.call(caller, DESCRIBE_CUSTOM_KEY_STORES, REGION, {}) for _ in range(100)))
        return now()

    assert run(scenario()) > 80


def test_waiting_for_a_place_in_flight_is_not_counted() -> None:
    """Nor is the time in which other calls take all places."""
    timed = Timed(0.8)

    async def scenario() -> list[AwsError | None]:
        client = client_for(timed, call_deadline=1, concurrency=1)
        return await asyncio.gather(*(ask(client) for _ in range(20)))

    assert run(scenario()) == [None] * 20
    assert timed.max_in_flight == 1


def test_a_call_that_waits_for_its_next_try_keeps_no_place() -> None:
    """One place: while a throttled call waits, a hundred others are made."""
    timed = Timed(0.001, fail=lambda account_id: THROTTLED if account_id == SICK else None)

    async def scenario() -> float:
        client = client_for(timed, concurrency=1, max_attempts=8)
        waiting = asyncio.create_task(ask(client))
        await asyncio.gather(*(ask(client, HEALTHY) for _ in range(100)))
        ended = now()
        await waiting
        return ended

    assert run(scenario()) < 0.2


def test_tries_are_counted_for_whoever_asked() -> None:
    """Each try is a call, each after the first a retry: for the process and for the scope alike."""
    timed, own = Timed(fail=lambda _: THROTTLED if len(timed.sent) < 3 else None), Counter()

    async def scenario() -> Counter:
        client = client_for(timed)
        await client.call(StaticProvider(SICK), DESCRIBE_KEY, REGION, {}, own)
        return client.total

    assert run(scenario()) == own == Counter(3, 2)

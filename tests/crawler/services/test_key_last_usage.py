"""Last-use polling: order and limits, error handling, and resumption."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from crawler.aws.credentials import RoleCredentials
from crawler.aws.errors import AwsError
from crawler.aws.rate_limit import RATES
from crawler.services import key_last_usage
from crawler.writer import Coverage
from models.errors import UserError
from models.store.scd2_merge import Batch
from models.tables.keys import Key, KeyLastUse, KeyLastUseGap
from models.tables.runs import Cause
from tests.crawler.empty_ledger import Ledger
from tests.crawler.last_use_fixtures import (
    OPERATION,
    OTHER_REGION,
    TRACKED,
    UNUSED,
    USAGE,
    USED,
    PollingLedger,
    arn,
    arns,
    days_ago,
    only,
    polled_keys,
    scripted,
)
from tests.crawler.scripted_aws import (
    ACCOUNT,
    REGION,
    RecordedCall,
    Result,
    ScriptedAws,
    aws_error,
    denied,
    in_turn,
    unreachable,
)


@pytest.fixture
def polling(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> PollingLedger:
    """A ledger for polling without rate limits."""
    monkeypatch.setitem(RATES, OPERATION, 1e6)
    return PollingLedger(ledger)


def test_responses_are_stored_uninterpreted(polling: PollingLedger) -> None:
    """Operation, time, event and tracking start are stored as returned; without a use, the first three are NULL."""
    polling.keys(range(2))
    poller = polling.poll(only(0, UNUSED | {"KeyLastUsage": USAGE}))
    rows = {row["key_arn"]: row for row in polling.ledger.current(KeyLastUse)}
    used, unused = rows[arn(0)], rows[arn(1)]
    assert (used["operation"], used["used_at"], used["cloudtrail_event_id"]) == ("Decrypt", USED, "event-1")
    assert (unused["operation"], unused["used_at"], unused["cloudtrail_event_id"]) == (None, None, None)
    assert unused["tracking_started_at"] == unused["key_created_at"] == TRACKED
    assert (poller.succeeded, poller.failed) == (2, 0)


def test_only_customer_keys_of_the_scope_are_polled(polling: PollingLedger) -> None:
    """Customer managed keys of the saved scope are polled, and keys without metadata."""
    polling.keys(range(2))
    polling.keys(range(2, 4), manager="AWS")
    polling.keys(range(4, 6), manager=None)
    polling.keys(range(2), OTHER_REGION)
    aws = scripted()
    polling.poll(aws)
    assert polled_keys(aws) == arns(0, 1, 4, 5)


def test_a_deleted_key_is_not_polled(polling: PollingLedger) -> None:
    """A deleted key is not polled, and its last use and gap close with it."""
    polling.keys(range(2))
    polling.poll(only(1, denied(OPERATION)))
    without_keys = Batch()
    without_keys.mark_complete(Key, ACCOUNT, REGION)
    polling.merge(polling.run(), without_keys)
    assert polling.ledger.current(KeyLastUse) == polling.ledger.current(KeyLastUseGap) == []
    aws = scripted()
    polling.poll(aws)
    assert polled_keys(aws) == []


def test_polling_order(polling: PollingLedger) -> None:
    """Never polled keys come first, then those polled longest ago; recently polled keys are skipped."""
    polling.keys(range(6))
    polling.set_polled([0], days_ago(8))
    polling.set_polled([1], days_ago(30))
    polling.set_polled([2], days_ago(3))
    polling.set_polled([3], days_ago(6.8))
    aws = scripted()
    polling.poll(aws)
    assert polled_keys(aws) == arns(4, 5, 1, 0, 3)


def test_the_limit_per_run(polling: PollingLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run polls at most the configured number of keys, across pages; the next run continues with the rest."""
    monkeypatch.setattr(key_last_usage, "PAGE_SIZE", 3)
    polling.keys(range(12))
    polling.set_polled([0, 1], days_ago(20))
    first, second, third = scripted(), scripted(), scripted()
    polling.poll(first, max_keys_per_run=8)
    assert polled_keys(first) == arns(*range(2, 10))
    polling.poll(second, max_keys_per_run=8)
    assert polled_keys(second) == arns(10, 11, 0, 1)
    polling.poll(third, max_keys_per_run=8)
    assert polled_keys(third) == []


def test_a_resumed_run_continues(polling: PollingLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed run does not poll saved keys again and counts them towards its limit."""
    monkeypatch.setattr(key_last_usage, "BATCH_KEYS", 4)
    polling.keys(range(20))
    run_id = polling.run()
    killed = scripted(in_turn(*[UNUSED] * 10, MemoryError("killed")))
    with pytest.raises(MemoryError):
        polling.poll(killed, run_id=run_id, max_keys_per_run=15)
    resumed = scripted()
    polling.poll(resumed, run_id=run_id, max_keys_per_run=15)
    assert polled_keys(resumed) == arns(*range(10, 15))
    assert set(polling.last_polled()) == set(arns(*range(15)))


def test_batches_are_saved_by_size_and_by_time(polling: PollingLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is saved after a number of keys or after some time."""
    polling.keys(range(60))
    polling.poll(scripted())
    assert [len(batch.last_use_polls) for batch in polling.puts] == [25, 25, 10]
    polling.puts.clear()
    polling.keys(range(60, 63))
    monkeypatch.setattr(key_last_usage, "BATCH_SECONDS", 0.0)
    polling.poll(scripted())
    assert [len(batch.last_use_polls) for batch in polling.puts] == [1, 1, 1]


def test_a_denied_key_keeps_its_last_known_use(polling: PollingLedger) -> None:
    """A denial is a gap of the key: its last use stays open, other keys are polled, the next response closes the gap."""
    polling.keys(range(3))
    polling.poll(only(1, UNUSED | {"KeyLastUsage": USAGE}), interval_days=1)
    one_denied = only(1, denied(OPERATION))
    polling.set_polled(range(3), days_ago(2))
    poller = polling.poll(one_denied, interval_days=1)
    assert sorted(polled_keys(one_denied)) == arns(0, 1, 2)
    assert (poller.succeeded, poller.failed) == (2, 1)
    (gap,) = polling.ledger.current(KeyLastUseGap)
    assert (gap["key_arn"], gap["action"], gap["cause"]) == (arn(1), OPERATION, "key_policy")
    (known,) = polling.ledger.current(KeyLastUse, key_arn=arn(1))
    assert known["used_at"] == USED
    polling.set_polled(range(3), days_ago(2))
    polling.poll(only(1, UNUSED | {"KeyLastUsage": USAGE}), interval_days=1)
    assert polling.ledger.current(KeyLastUseGap) == []
    assert len(polling.ledger.rows(KeyLastUse, key_arn=arn(1))) == 1


def test_a_denial_stays_one_gap(polling: PollingLedger) -> None:
    """A key denied in every run has one gap, even if the message changes."""
    polling.keys(range(1))
    for message in ("no request id", "another request id"):
        polling.set_polled([0], days_ago(9))
        polling.poll(scripted(aws_error("AccessDeniedException", message)))
    assert len(polling.ledger.rows(KeyLastUseGap)) == 1


@pytest.mark.parametrize(
    ("error", "is_recorded"),
    [
        (aws_error("UnknownOperationException"), True),
        (aws_error("KMSInternalException", status=500), True),
        (AwsError(Cause.DEADLINE, "Deadline", "no answer"), True),
        (aws_error("OptInRequired"), False),
        (unreachable(), False),
        (aws_error("InvalidClientTokenId"), False),
    ],
)
def test_scope_errors_stop_polling(polling: PollingLedger, error: AwsError, is_recorded: bool) -> None:
    """If the operation, region, connection or credentials fail, polling of the scope stops after the first key."""
    polling.keys(range(5))
    aws = scripted(error)
    polling.poll(aws)
    assert polled_keys(aws) == arns(0)
    (gap,) = polling.ledger.current(KeyLastUseGap)
    assert (gap["key_arn"], gap["cause"]) == (arn(0), str(error.cause))
    # A key that may cause the error moves to the end of the queue; otherwise it stays first.
    assert (arn(0) in polling.last_polled()) is is_recorded
    again = scripted()
    polling.poll(again)
    assert polled_keys(again) == (arns(1, 2, 3, 4) if is_recorded else arns(0, 1, 2, 3, 4))


def test_an_unsupported_key_does_not_stop_polling(polling: PollingLedger) -> None:
    """KMS returns UnsupportedOperationException for an unsupported key, not for a missing operation."""
    polling.keys(range(3))
    aws = only(1, aws_error("UnsupportedOperationException"))
    polling.poll(aws)
    assert polled_keys(aws) == arns(0, 1, 2)
    assert [row["key_arn"] for row in polling.ledger.current(KeyLastUseGap)] == arns(1)


def test_throttling_stops_polling_without_a_gap(polling: PollingLedger) -> None:
    """If all attempts are throttled, the next run continues with the same key."""
    polling.keys(range(5))
    aws = only(2, aws_error("ThrottlingException"))
    polling.poll(aws)
    assert polled_keys(aws) == arns(0, 1, 2)
    assert polling.ledger.current(KeyLastUseGap) == []
    assert set(polling.last_polled()) == set(arns(0, 1))
    again = scripted()
    polling.poll(again)
    assert polled_keys(again) == arns(2, 3, 4)


def test_a_failed_role_is_one_gap(polling: PollingLedger) -> None:
    """Without the role no key is polled; the first key has the gap and stays first in the queue."""

    class Lost:
        account_id = ACCOUNT

        async def credentials(self) -> None:
            raise AwsError(Cause.SERVICE_CONTROL_POLICY, "AccessDenied", "denied by a service control policy")

        renew = RoleCredentials.renew

    async def provider(_: str) -> Lost:
        return Lost()

    polling.keys(range(3))
    aws = scripted()
    polling.poll(aws, provider=provider)
    assert polled_keys(aws) == []
    assert [row["cause"] for row in polling.ledger.current(KeyLastUseGap)] == ["service_control_policy"]
    assert polling.last_polled() == {}


def test_an_invalid_response_is_a_gap(polling: PollingLedger) -> None:
    """An invalid response is not stored, and the other keys are polled."""
    polling.keys(range(2))
    polling.poll(only(0, UNUSED | {"KeyLastUsage": {"Timestamp": "yesterday"}}))
    assert [(row["key_arn"], row["cause"]) for row in polling.ledger.current(KeyLastUseGap)] == [
        (arn(0), "invalid_response")
    ]
    assert [row["key_arn"] for row in polling.ledger.current(KeyLastUse)] == arns(1)


def test_the_rate_limit_applies_by_region(polling: PollingLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rate limit applies to the calls of one region; another region has its own limit."""
    monkeypatch.setitem(RATES, OPERATION, 20.0)
    polling.keys(range(26))
    polling.keys(range(26), OTHER_REGION)
    calls: list[tuple[str, float]] = []

    def answer(call: RecordedCall) -> Result:
        calls.append((call.region, asyncio.get_running_loop().time()))
        return UNUSED

    async def scenario() -> None:
        poller = polling.create_poller(scripted(answer))
        poller.enqueue(ACCOUNT, REGION)
        poller.enqueue(ACCOUNT, OTHER_REGION)
        await poller.finish()

    asyncio.run(scenario())
    for region in (REGION, OTHER_REGION):
        times = [at for where, at in calls if where == region]
        assert len(times) == 26
        assert times[-1] - times[0] >= (26 - 20 - 1) / 20
    spread = max(at for _, at in calls) - min(at for _, at in calls)
    assert spread < 2 * (26 - 20) / (20 * 0.9) + 1, "the regions waited for each other"


def test_the_quota_is_the_documented_one() -> None:
    """The quota is five requests per second for each account-region."""
    assert RATES[OPERATION] == 5.0


@pytest.mark.parametrize(("max_minutes", "remaining"), [(0, math.inf), (30, 0), (30, -5)])
def test_the_time_limit_defers_the_rest(polling: PollingLedger, max_minutes: int, remaining: float) -> None:
    """After the time limit the results are saved, and the rest is left to the next run without a gap."""
    polling.keys(range(40))

    async def scenario() -> tuple[ScriptedAws, float]:
        stuck = asyncio.Event()
        aws = ScriptedAws({OPERATION: UNUSED})
        usual = aws.send

        class Stalling(ScriptedAws):
            async def send(self, *call: Any) -> dict[str, Any]:
                if len(aws.calls) == 30:
                    stuck.set()
                    await asyncio.sleep(3600)
                return await usual(*call)

        poller = polling.create_poller(Stalling({}), max_minutes=max_minutes)
        poller.enqueue(ACCOUNT, REGION)
        await stuck.wait()
        started = asyncio.get_running_loop().time()
        await poller.finish(remaining)
        poller.enqueue(ACCOUNT, REGION)  # too late: nothing starts any more
        return aws, asyncio.get_running_loop().time() - started

    aws, took = asyncio.run(scenario())
    assert took < 5
    assert set(polling.last_polled()) == set(arns(*range(30))) == set(polled_keys(aws))
    assert polling.ledger.current(KeyLastUseGap) == []
    assert len(polling.ledger.current(KeyLastUse)) == 30


def test_the_number_of_workers_is_limited(polling: PollingLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limited number of scopes is polled concurrently, and all in the end."""
    monkeypatch.setattr(key_last_usage, "MAX_WORKERS", 3)
    regions = [f"eu-north-{number}" for number in range(20)]
    for region in regions:
        polling.keys(range(2), region)
    max_workers = 0

    async def scenario() -> ScriptedAws:
        nonlocal max_workers
        aws = scripted()
        poller = polling.create_poller(aws)
        for region in regions:
            poller.enqueue(ACCOUNT, region)
            max_workers = max(max_workers, len(poller._workers))
        await poller.finish()
        return aws

    aws = asyncio.run(scenario())
    assert max_workers == 3
    assert len(polled_keys(aws)) == 40


def test_polling_can_be_disabled(polling: PollingLedger) -> None:
    """With crawl.last_use.enabled: false no call is made."""
    polling.keys(range(2))
    aws = scripted()
    polling.poll(aws, enabled=False)
    assert aws.calls == []


def test_an_unexpected_error_is_raised_by_finish(polling: PollingLedger) -> None:
    """If the ledger cannot be written, polling stops, the crawl continues, and finish() raises the error."""
    polling.keys(range(60))

    async def scenario() -> None:
        poller = polling.create_poller(scripted())

        async def put(_: Coverage | None, _batch: Batch) -> None:
            raise UserError("the disk is full")

        poller._put = put
        poller.enqueue(ACCOUNT, REGION)
        await asyncio.wait(poller._workers)
        poller.enqueue(ACCOUNT, REGION)
        await poller.finish()

    with pytest.raises(UserError, match="the disk is full"):
        asyncio.run(scenario())

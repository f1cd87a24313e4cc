"""When keys were last used: who is asked and in what order, what a refusal means, and that nobody waits for it."""

from __future__ import annotations

import asyncio
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
    PLAIN,
    TRACKED,
    USAGE,
    USED,
    PollingLedger,
    answering,
    arn,
    arns,
    asked_keys,
    days_ago,
    only,
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
    """With a quota that makes nobody wait."""
    monkeypatch.setitem(RATES, OPERATION, 1e6)
    return PollingLedger(ledger)


def test_what_aws_answers_is_kept_as_it_is(polling: PollingLedger) -> None:
    """Operation, time, event and tracking are stored uninterpreted; without a use, the first three are empty."""
    polling.keys(range(2))
    lanes = polling.ask(only(0, PLAIN | {"KeyLastUsage": USAGE}))
    told = {row["key_arn"]: row for row in polling.ledger.current(KeyLastUse)}
    used, unused = told[arn(0)], told[arn(1)]
    assert (used["operation"], used["used_at"], used["cloudtrail_event_id"]) == ("Decrypt", USED, "event-1")
    assert (unused["operation"], unused["used_at"], unused["cloudtrail_event_id"]) == (None, None, None)
    assert unused["tracking_started_at"] == unused["key_created_at"] == TRACKED
    assert (lanes.succeeded, lanes.failed) == (2, 0)


def test_keys_of_aws_and_of_other_regions_are_not_asked(polling: PollingLedger) -> None:
    """Only customer managed keys of the saved scope are asked, and those that could not be described."""
    polling.keys(range(2))
    polling.keys(range(2, 4), manager="AWS")
    polling.keys(range(4, 6), manager=None)
    polling.keys(range(2), OTHER_REGION)
    aws = answering()
    polling.ask(aws)
    assert asked_keys(aws) == arns(0, 1, 4, 5)


def test_a_key_that_is_gone_is_not_asked(polling: PollingLedger) -> None:
    """A key that the listing no longer shows is left out, and with it ends what was known of its use."""
    polling.keys(range(2))
    polling.ask(only(1, denied(OPERATION)))
    gone = Batch()
    gone.mark_complete(Key, ACCOUNT, REGION)
    polling.merge(polling.run(), gone)
    assert polling.ledger.current(KeyLastUse) == polling.ledger.current(KeyLastUseGap) == []
    aws = answering()
    polling.ask(aws)
    assert asked_keys(aws) == []


def test_never_asked_first_then_longest_ago(polling: PollingLedger) -> None:
    """Who was never asked comes first, then who was asked longest ago; who was asked this week is left in peace."""
    polling.keys(range(6))
    polling.set_polled([0], days_ago(8))
    polling.set_polled([1], days_ago(30))
    polling.set_polled([2], days_ago(3))
    polling.set_polled([3], days_ago(6.8))
    aws = answering()
    polling.ask(aws)
    assert asked_keys(aws) == arns(4, 5, 1, 0, 3)


def test_the_budget_of_a_night_and_the_next_night(polling: PollingLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than the budget is asked a night, across portions; the next night goes on with the rest."""
    monkeypatch.setattr(key_last_usage, "PAGE_SIZE", 3)
    polling.keys(range(12))
    polling.set_polled([0, 1], days_ago(20))
    first, second, third = answering(), answering(), answering()
    polling.ask(first, max_keys_per_run=8)
    assert asked_keys(first) == arns(*range(2, 10))
    polling.ask(second, max_keys_per_run=8)
    assert asked_keys(second) == arns(10, 11, 0, 1)
    polling.ask(third, max_keys_per_run=8)
    assert asked_keys(third) == []


def test_a_killed_run_goes_on_where_it_was(polling: PollingLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was saved in slices is not asked again by the resumed run, and counts towards its budget."""
    monkeypatch.setattr(key_last_usage, "BATCH_KEYS", 4)
    polling.keys(range(20))
    run_id = polling.run()
    killed = answering(in_turn(*[PLAIN] * 10, MemoryError("killed")))
    with pytest.raises(MemoryError):
        polling.ask(killed, run_id=run_id, max_keys_per_run=15)
    resumed = answering()
    polling.ask(resumed, run_id=run_id, max_keys_per_run=15)
    assert asked_keys(resumed) == arns(*range(10, 15))
    assert set(polling.last_asked()) == set(arns(*range(15)))


def test_slices_are_saved_by_number_and_by_time(polling: PollingLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lane saves after so many keys, and after so long however few they are."""
    polling.keys(range(60))
    polling.ask(answering())
    assert [len(batch.last_use_polls) for batch in polling.puts] == [25, 25, 10]
    polling.puts.clear()
    polling.keys(range(60, 63))
    monkeypatch.setattr(key_last_usage, "BATCH_SECONDS", 0.0)
    polling.ask(answering())
    assert [len(batch.last_use_polls) for batch in polling.puts] == [1, 1, 1]


def test_a_denied_key_keeps_what_was_known_and_stops_nobody(polling: PollingLedger) -> None:
    """A denial of one key is its gap: the last answer stays, the others are asked, and the next answer closes the gap."""
    polling.keys(range(3))
    polling.ask(only(1, PLAIN | {"KeyLastUsage": USAGE}), interval_days=1)
    refusing = only(1, denied(OPERATION))
    polling.set_polled(range(3), days_ago(2))
    lanes = polling.ask(refusing, interval_days=1)
    assert sorted(asked_keys(refusing)) == arns(0, 1, 2)
    assert (lanes.succeeded, lanes.failed) == (2, 1)
    (gap,) = polling.ledger.current(KeyLastUseGap)
    assert (gap["key_arn"], gap["action"], gap["cause"]) == (arn(1), OPERATION, "key_policy")
    (known,) = polling.ledger.current(KeyLastUse, key_arn=arn(1))
    assert known["used_at"] == USED
    polling.set_polled(range(3), days_ago(2))
    polling.ask(only(1, PLAIN | {"KeyLastUsage": USAGE}), interval_days=1)
    assert polling.ledger.current(KeyLastUseGap) == []
    assert len(polling.ledger.rows(KeyLastUse, key_arn=arn(1))) == 1


def test_a_denial_stays_one_gap(polling: PollingLedger) -> None:
    """A key that is refused night after night has one gap since the first, however its words change."""
    polling.keys(range(1))
    for message in ("no request id", "another request id"):
        polling.set_polled([0], days_ago(9))
        polling.ask(answering(aws_error("AccessDeniedException", message)))
    assert len(polling.ledger.rows(KeyLastUseGap)) == 1


@pytest.mark.parametrize(
    ("error", "turn"),
    [
        (aws_error("UnknownOperationException"), True),
        (aws_error("KMSInternalException", status=500), True),
        (AwsError(Cause.DEADLINE, "Deadline", "no answer"), True),
        (aws_error("OptInRequired"), False),
        (unreachable(), False),
        (aws_error("InvalidClientTokenId"), False),
    ],
)
def test_what_concerns_the_whole_scope_ends_its_night(polling: PollingLedger, error: AwsError, turn: bool) -> None:
    """Without the operation, region, connection or credentials one key tells it for all; nobody else is asked for nothing."""
    polling.keys(range(5))
    aws = answering(error)
    polling.ask(aws)
    assert asked_keys(aws) == arns(0)
    (gap,) = polling.ledger.current(KeyLastUseGap)
    assert (gap["key_arn"], gap["cause"]) == (arn(0), str(error.cause))
    # A key that may itself be the trouble gives its turn away; otherwise it is the first to be asked again.
    assert (arn(0) in polling.last_asked()) is turn
    again = answering()
    polling.ask(again)
    assert asked_keys(again) == (arns(1, 2, 3, 4) if turn else arns(0, 1, 2, 3, 4))


def test_one_key_that_kms_does_not_support_stops_nobody(polling: PollingLedger) -> None:
    """UnsupportedOperationException is KMS's word for a key of the wrong kind, not for a missing operation."""
    polling.keys(range(3))
    aws = only(1, aws_error("UnsupportedOperationException"))
    polling.ask(aws)
    assert asked_keys(aws) == arns(0, 1, 2)
    assert [row["key_arn"] for row in polling.ledger.current(KeyLastUseGap)] == arns(1)


def test_being_throttled_ends_the_night_and_is_no_gap(polling: PollingLedger) -> None:
    """When AWS throttles until the tries are used up, the scope goes on the next night where it was."""
    polling.keys(range(5))
    aws = only(2, aws_error("ThrottlingException"))
    polling.ask(aws)
    assert asked_keys(aws) == arns(0, 1, 2)
    assert polling.ledger.current(KeyLastUseGap) == []
    assert set(polling.last_asked()) == set(arns(0, 1))
    again = answering()
    polling.ask(again)
    assert asked_keys(again) == arns(2, 3, 4)


def test_a_role_that_cannot_be_assumed_is_told_once(polling: PollingLedger) -> None:
    """Where the role is lost, whatever the words, no key is asked; the first stands for all and keeps its turn."""

    class Lost:
        account_id = ACCOUNT

        async def credentials(self) -> None:
            raise AwsError(Cause.SERVICE_CONTROL_POLICY, "AccessDenied", "denied by a service control policy")

        renew = RoleCredentials.renew

    async def provider(_: str) -> Lost:
        return Lost()

    polling.keys(range(3))
    aws = answering()
    polling.ask(aws, provider=provider)
    assert asked_keys(aws) == []
    assert [row["cause"] for row in polling.ledger.current(KeyLastUseGap)] == ["service_control_policy"]
    assert polling.last_asked() == {}


def test_an_answer_that_makes_no_sense_is_a_gap(polling: PollingLedger) -> None:
    """What is not as the model says is not stored as a fact, and the others are asked."""
    polling.keys(range(2))
    polling.ask(only(0, PLAIN | {"KeyLastUsage": {"Timestamp": "yesterday"}}))
    assert [(row["key_arn"], row["cause"]) for row in polling.ledger.current(KeyLastUseGap)] == [
        (arn(0), "invalid_response")
    ]
    assert [row["key_arn"] for row in polling.ledger.current(KeyLastUse)] == arns(1)


def test_keys_are_asked_at_a_share_of_the_quota(polling: PollingLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pace of the operation holds between the calls of a lane; another region has a pace of its own."""
    monkeypatch.setitem(RATES, OPERATION, 20.0)
    polling.keys(range(26))
    polling.keys(range(26), OTHER_REGION)
    made: list[tuple[str, float]] = []

    def answer(call: RecordedCall) -> Result:
        made.append((call.region, asyncio.get_running_loop().time()))
        return PLAIN

    async def scenario() -> None:
        lanes = polling.lanes(answering(answer))
        lanes.enqueue(ACCOUNT, REGION)
        lanes.enqueue(ACCOUNT, OTHER_REGION)
        await lanes.finish()

    asyncio.run(scenario())
    for region in (REGION, OTHER_REGION):
        times = [at for where, at in made if where == region]
        assert len(times) == 26
        assert times[-1] - times[0] >= (26 - 20 - 1) / 20
    spread = max(at for _, at in made) - min(at for _, at in made)
    assert spread < 2 * (26 - 20) / (20 * 0.9) + 1, "the regions waited for each other"


def test_the_quota_is_the_documented_one() -> None:
    """Five requests a second for each account and region."""
    assert RATES[OPERATION] == 5.0


def test_what_is_left_when_time_is_up_goes_on_the_next_night(polling: PollingLedger) -> None:
    """The end of its minutes cancels the lanes: what was learned is saved, the rest is not asked yet, and no gap."""
    polling.keys(range(40))

    async def scenario() -> tuple[ScriptedAws, float]:
        stuck = asyncio.Event()
        aws = ScriptedAws({OPERATION: PLAIN})
        usual = aws.send

        class Stalling(ScriptedAws):
            async def send(self, *call: Any) -> dict[str, Any]:
                if len(aws.calls) == 30:
                    stuck.set()
                    await asyncio.sleep(3600)
                return await usual(*call)

        lanes = polling.lanes(Stalling({}), max_minutes=0)
        lanes.enqueue(ACCOUNT, REGION)
        await stuck.wait()
        started = asyncio.get_running_loop().time()
        await lanes.finish()
        lanes.enqueue(ACCOUNT, REGION)  # too late: nothing begins any more
        return aws, asyncio.get_running_loop().time() - started

    aws, took = asyncio.run(scenario())
    assert took < 5
    assert set(polling.last_asked()) == set(arns(*range(30))) == set(asked_keys(aws))
    assert polling.ledger.current(KeyLastUseGap) == []
    assert len(polling.ledger.current(KeyLastUse)) == 30


def test_many_scopes_share_few_lanes(polling: PollingLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many scopes are saved, so many are asked at a time, and all in the end."""
    monkeypatch.setattr(key_last_usage, "MAX_WORKERS", 3)
    regions = [f"eu-north-{number}" for number in range(20)]
    for region in regions:
        polling.keys(range(2), region)
    most = 0

    async def scenario() -> ScriptedAws:
        nonlocal most
        aws = answering()
        lanes = polling.lanes(aws)
        for region in regions:
            lanes.enqueue(ACCOUNT, region)
            most = max(most, len(lanes._workers))
        await lanes.finish()
        return aws

    aws = asyncio.run(scenario())
    assert most == 3
    assert len(asked_keys(aws)) == 40


def test_switched_off_nobody_is_asked(polling: PollingLedger) -> None:
    """crawl.last_use.enabled: false asks nothing and leaves what is known."""
    polling.keys(range(2))
    aws = answering()
    polling.ask(aws, enabled=False)
    assert aws.calls == []


def test_what_goes_wrong_in_a_lane_is_raised_in_the_end(polling: PollingLedger) -> None:
    """A ledger that cannot be written ends the lanes, quietly for the crawl beside them, and is told by finish()."""
    polling.keys(range(60))

    async def scenario() -> None:
        lanes = polling.lanes(answering())

        async def put(_: Coverage | None, _batch: Batch) -> None:
            raise UserError("the disk is full")

        lanes._put = put
        lanes.enqueue(ACCOUNT, REGION)
        await asyncio.wait(lanes._workers)
        lanes.enqueue(ACCOUNT, REGION)
        await lanes.finish()

    with pytest.raises(UserError, match="the disk is full"):
        asyncio.run(scenario())

"""When keys were last used: who is asked and in what order, what a refusal means, and that nobody waits for it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from crawler.aws.credentials import RoleAccess
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
    OTHER_REGION,
    PLAIN,
    QUESTION,
    TRACKED,
    USAGE,
    USED,
    Nights,
    answering,
    arn,
    arns,
    asked_keys,
    days_ago,
    only,
)
from tests.crawler.scripted_aws import ACCOUNT, REGION, Asked, Given, ScriptedAws, denied, in_turn, refused, unreachable


@pytest.fixture
def nights(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Nights:
    """With a quota that makes nobody wait."""
    monkeypatch.setitem(RATES, QUESTION, 1e6)
    return Nights(ledger)


def test_what_aws_answers_is_kept_as_it_is(nights: Nights) -> None:
    """Operation, time, event and tracking are stored uninterpreted; without a use, the first three are empty."""
    nights.keys(range(2))
    lanes = nights.ask(only(0, PLAIN | {"KeyLastUsage": USAGE}))
    told = {row["key_arn"]: row for row in nights.ledger.known(KeyLastUse)}
    used, unused = told[arn(0)], told[arn(1)]
    assert (used["operation"], used["used_at"], used["cloudtrail_event_id"]) == ("Decrypt", USED, "event-1")
    assert (unused["operation"], unused["used_at"], unused["cloudtrail_event_id"]) == (None, None, None)
    assert unused["tracking_started_at"] == unused["key_created_at"] == TRACKED
    assert (lanes.answered, lanes.refused) == (2, 0)


def test_keys_of_aws_and_of_other_regions_are_not_asked(nights: Nights) -> None:
    """Only customer managed keys of the saved scope are asked, and those that could not be described."""
    nights.keys(range(2))
    nights.keys(range(2, 4), manager="AWS")
    nights.keys(range(4, 6), manager=None)
    nights.keys(range(2), OTHER_REGION)
    aws = answering()
    nights.ask(aws)
    assert asked_keys(aws) == arns(0, 1, 4, 5)


def test_a_key_that_is_gone_is_not_asked(nights: Nights) -> None:
    """A key that the listing no longer shows is left out, and with it ends what was known of its use."""
    nights.keys(range(2))
    nights.ask(only(1, denied(QUESTION)))
    gone = Batch()
    gone.mark_complete(Key, ACCOUNT, REGION)
    nights.merge(nights.run(), gone)
    assert nights.ledger.known(KeyLastUse) == nights.ledger.known(KeyLastUseGap) == []
    aws = answering()
    nights.ask(aws)
    assert asked_keys(aws) == []


def test_never_asked_first_then_longest_ago(nights: Nights) -> None:
    """Who was never asked comes first, then who was asked longest ago; who was asked this week is left in peace."""
    nights.keys(range(6))
    nights.asked([0], days_ago(8))
    nights.asked([1], days_ago(30))
    nights.asked([2], days_ago(3))
    nights.asked([3], days_ago(6.8))
    aws = answering()
    nights.ask(aws)
    assert asked_keys(aws) == arns(4, 5, 1, 0, 3)


def test_the_budget_of_a_night_and_the_next_night(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than the budget is asked a night, across portions; the next night goes on with the rest."""
    monkeypatch.setattr(key_last_usage, "PORTION", 3)
    nights.keys(range(12))
    nights.asked([0, 1], days_ago(20))
    first, second, third = answering(), answering(), answering()
    nights.ask(first, max_keys_per_run=8)
    assert asked_keys(first) == arns(*range(2, 10))
    nights.ask(second, max_keys_per_run=8)
    assert asked_keys(second) == arns(10, 11, 0, 1)
    nights.ask(third, max_keys_per_run=8)
    assert asked_keys(third) == []


def test_a_killed_run_goes_on_where_it_was(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was saved in slices is not asked again by the resumed run, and counts towards its budget."""
    monkeypatch.setattr(key_last_usage, "SLICE", 4)
    nights.keys(range(20))
    run_id = nights.run()
    killed = answering(in_turn(*[PLAIN] * 10, MemoryError("killed")))
    with pytest.raises(MemoryError):
        nights.ask(killed, run_id=run_id, max_keys_per_run=15)
    resumed = answering()
    nights.ask(resumed, run_id=run_id, max_keys_per_run=15)
    assert asked_keys(resumed) == arns(*range(10, 15))
    assert set(nights.last_asked()) == set(arns(*range(15)))


def test_slices_are_saved_by_number_and_by_time(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lane saves after so many keys, and after so long however few they are."""
    nights.keys(range(60))
    nights.ask(answering())
    assert [len(batch.last_use_polls) for batch in nights.puts] == [25, 25, 10]
    nights.puts.clear()
    nights.keys(range(60, 63))
    monkeypatch.setattr(key_last_usage, "SLICE_SECONDS", 0.0)
    nights.ask(answering())
    assert [len(batch.last_use_polls) for batch in nights.puts] == [1, 1, 1]


def test_a_denied_key_keeps_what_was_known_and_stops_nobody(nights: Nights) -> None:
    """A denial of one key is its gap: the last answer stays, the others are asked, and the next answer closes the gap."""
    nights.keys(range(3))
    nights.ask(only(1, PLAIN | {"KeyLastUsage": USAGE}), interval_days=1)
    refusing = only(1, denied(QUESTION))
    nights.asked(range(3), days_ago(2))
    lanes = nights.ask(refusing, interval_days=1)
    assert sorted(asked_keys(refusing)) == arns(0, 1, 2)
    assert (lanes.answered, lanes.refused) == (2, 1)
    (gap,) = nights.ledger.known(KeyLastUseGap)
    assert (gap["key_arn"], gap["action"], gap["cause"]) == (arn(1), QUESTION, "key_policy")
    (known,) = nights.ledger.known(KeyLastUse, key_arn=arn(1))
    assert known["used_at"] == USED
    nights.asked(range(3), days_ago(2))
    nights.ask(only(1, PLAIN | {"KeyLastUsage": USAGE}), interval_days=1)
    assert nights.ledger.known(KeyLastUseGap) == []
    assert len(nights.ledger.rows(KeyLastUse, key_arn=arn(1))) == 1


def test_a_denial_stays_one_gap(nights: Nights) -> None:
    """A key that is refused night after night has one gap since the first, however its words change."""
    nights.keys(range(1))
    for message in ("no request id", "another request id"):
        nights.asked([0], days_ago(9))
        nights.ask(answering(refused("AccessDeniedException", message)))
    assert len(nights.ledger.rows(KeyLastUseGap)) == 1


@pytest.mark.parametrize(
    ("error", "turn"),
    [
        (refused("UnknownOperationException"), True),
        (refused("KMSInternalException", status=500), True),
        (AwsError(Cause.DEADLINE, "Deadline", "no answer"), True),
        (refused("OptInRequired"), False),
        (unreachable(), False),
        (refused("InvalidClientTokenId"), False),
    ],
)
def test_what_concerns_the_whole_scope_ends_its_night(nights: Nights, error: AwsError, turn: bool) -> None:
    """Without the operation, region, connection or credentials one key tells it for all; nobody else is asked for nothing."""
    nights.keys(range(5))
    aws = answering(error)
    nights.ask(aws)
    assert asked_keys(aws) == arns(0)
    (gap,) = nights.ledger.known(KeyLastUseGap)
    assert (gap["key_arn"], gap["cause"]) == (arn(0), str(error.cause))
    # A key that may itself be the trouble gives its turn away; otherwise it is the first to be asked again.
    assert (arn(0) in nights.last_asked()) is turn
    again = answering()
    nights.ask(again)
    assert asked_keys(again) == (arns(1, 2, 3, 4) if turn else arns(0, 1, 2, 3, 4))


def test_one_key_that_kms_does_not_support_stops_nobody(nights: Nights) -> None:
    """UnsupportedOperationException is KMS's word for a key of the wrong kind, not for a missing operation."""
    nights.keys(range(3))
    aws = only(1, refused("UnsupportedOperationException"))
    nights.ask(aws)
    assert asked_keys(aws) == arns(0, 1, 2)
    assert [row["key_arn"] for row in nights.ledger.known(KeyLastUseGap)] == arns(1)


def test_being_throttled_ends_the_night_and_is_no_gap(nights: Nights) -> None:
    """When AWS throttles until the tries are used up, the scope goes on the next night where it was."""
    nights.keys(range(5))
    aws = only(2, refused("ThrottlingException"))
    nights.ask(aws)
    assert asked_keys(aws) == arns(0, 1, 2)
    assert nights.ledger.known(KeyLastUseGap) == []
    assert set(nights.last_asked()) == set(arns(0, 1))
    again = answering()
    nights.ask(again)
    assert asked_keys(again) == arns(2, 3, 4)


def test_a_role_that_cannot_be_assumed_is_told_once(nights: Nights) -> None:
    """Where the role is lost, whatever the words, no key is asked; the first stands for all and keeps its turn."""

    class Lost:
        account_id = ACCOUNT

        async def credentials(self) -> None:
            raise AwsError(Cause.SERVICE_CONTROL_POLICY, "AccessDenied", "denied by a service control policy")

        renew = RoleAccess.renew

    async def access(_: str) -> Lost:
        return Lost()

    nights.keys(range(3))
    aws = answering()
    nights.ask(aws, access=access)
    assert asked_keys(aws) == []
    assert [row["cause"] for row in nights.ledger.known(KeyLastUseGap)] == ["service_control_policy"]
    assert nights.last_asked() == {}


def test_an_answer_that_makes_no_sense_is_a_gap(nights: Nights) -> None:
    """What is not as the model says is not stored as a fact, and the others are asked."""
    nights.keys(range(2))
    nights.ask(only(0, PLAIN | {"KeyLastUsage": {"Timestamp": "yesterday"}}))
    assert [(row["key_arn"], row["cause"]) for row in nights.ledger.known(KeyLastUseGap)] == [(arn(0), "invalid_response")]
    assert [row["key_arn"] for row in nights.ledger.known(KeyLastUse)] == arns(1)


def test_keys_are_asked_at_a_share_of_the_quota(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pace of the operation holds between the calls of a lane; another region has a pace of its own."""
    monkeypatch.setitem(RATES, QUESTION, 20.0)
    nights.keys(range(26))
    nights.keys(range(26), OTHER_REGION)
    made: list[tuple[str, float]] = []

    def answer(call: Asked) -> Given:
        made.append((call.region, asyncio.get_running_loop().time()))
        return PLAIN

    async def night() -> None:
        lanes = nights.lanes(answering(answer))
        lanes.saved(ACCOUNT, REGION)
        lanes.saved(ACCOUNT, OTHER_REGION)
        await lanes.finish()

    asyncio.run(night())
    for region in (REGION, OTHER_REGION):
        times = [at for where, at in made if where == region]
        assert len(times) == 26
        assert times[-1] - times[0] >= (26 - 20 - 1) / 20
    spread = max(at for _, at in made) - min(at for _, at in made)
    assert spread < 2 * (26 - 20) / (20 * 0.9) + 1, "the regions waited for each other"


def test_the_quota_is_the_documented_one() -> None:
    """Five requests a second for each account and region."""
    assert RATES[QUESTION] == 5.0


def test_what_is_left_when_time_is_up_goes_on_the_next_night(nights: Nights) -> None:
    """The end of its minutes cancels the lanes: what was learned is saved, the rest is not asked yet, and no gap."""
    nights.keys(range(40))

    async def night() -> tuple[ScriptedAws, float]:
        stuck = asyncio.Event()
        aws = ScriptedAws({QUESTION: PLAIN})
        usual = aws.send

        class Stalling(ScriptedAws):
            async def send(self, *call: Any) -> dict[str, Any]:
                if len(aws.asked) == 30:
                    stuck.set()
                    await asyncio.sleep(3600)
                return await usual(*call)

        lanes = nights.lanes(Stalling({}), max_minutes=0)
        lanes.saved(ACCOUNT, REGION)
        await stuck.wait()
        started = asyncio.get_running_loop().time()
        await lanes.finish()
        lanes.saved(ACCOUNT, REGION)  # too late: nothing begins any more
        return aws, asyncio.get_running_loop().time() - started

    aws, took = asyncio.run(night())
    assert took < 5
    assert set(nights.last_asked()) == set(arns(*range(30))) == set(asked_keys(aws))
    assert nights.ledger.known(KeyLastUseGap) == []
    assert len(nights.ledger.known(KeyLastUse)) == 30


def test_many_scopes_share_few_lanes(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many scopes are saved, so many are asked at a time, and all in the end."""
    monkeypatch.setattr(key_last_usage, "LANES", 3)
    regions = [f"eu-north-{number}" for number in range(20)]
    for region in regions:
        nights.keys(range(2), region)
    most = 0

    async def night() -> ScriptedAws:
        nonlocal most
        aws = answering()
        lanes = nights.lanes(aws)
        for region in regions:
            lanes.saved(ACCOUNT, region)
            most = max(most, len(lanes._lanes))
        await lanes.finish()
        return aws

    aws = asyncio.run(night())
    assert most == 3
    assert len(asked_keys(aws)) == 40


def test_switched_off_nobody_is_asked(nights: Nights) -> None:
    """crawl.last_use.enabled: false asks nothing and leaves what is known."""
    nights.keys(range(2))
    aws = answering()
    nights.ask(aws, enabled=False)
    assert aws.asked == []


def test_what_goes_wrong_in_a_lane_is_raised_in_the_end(nights: Nights) -> None:
    """A ledger that cannot be written ends the lanes, quietly for the crawl beside them, and is told by finish()."""
    nights.keys(range(60))

    async def night() -> None:
        lanes = nights.lanes(answering())

        async def put(_: Coverage | None, _batch: Batch) -> None:
            raise UserError("the disk is full")

        lanes._put = put
        lanes.saved(ACCOUNT, REGION)
        await asyncio.wait(lanes._lanes)
        lanes.saved(ACCOUNT, REGION)
        await lanes.finish()

    with pytest.raises(UserError, match="the disk is full"):
        asyncio.run(night())

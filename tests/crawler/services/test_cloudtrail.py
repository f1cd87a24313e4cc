"""CloudTrail trails: calls, facts, and the handling of failed calls."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from crawler.collector import Collected, CollectOptions, collect
from crawler.iam_policies import configured_types, member_actions
from crawler.services.resource_types import SECRET, TRAIL
from crawler.spec import Scope
from models.tables.resources import KeyClass, KeyReference, Resource, ResourceKey
from models.tables.runs import Gap, Outcome
from models.tables.trails import ShadowTrail, Trail, TrailScan, TrailSelector, TrailStatus
from models.versioned import VersionedTable
from tests.crawler.empty_ledger import Ledger
from tests.crawler.sample_resources import BASIC_SELECTOR, LONG_AGO, ORGANIZATION_TRAIL, OWN_TRAIL, key_arn, sample_aws
from tests.crawler.scripted_aws import ACCOUNT, REGION, Answer, Caller, ScriptedAws, client_for, denied

ARN = OWN_TRAIL["TrailARN"]
DESCRIBE, SELECTORS, STATUS = (
    f"cloudtrail:{name}" for name in ("DescribeTrails", "GetEventSelectors", "GetTrailStatus")
)
OUTCOMES = {(ACCOUNT, REGION): Outcome.COMPLETE}
TRAIL_TABLES: tuple[type[VersionedTable], ...] = (Trail, ShadowTrail, TrailScan, TrailSelector, TrailStatus)


def collected(aws: ScriptedAws, options: CollectOptions | None = None, region: str = REGION) -> Collected:
    async def run() -> Collected:
        return await collect(client_for(aws), Caller(), Scope(ACCOUNT, region), options or CollectOptions())

    return asyncio.run(run())


def only(result: Collected, model: type[VersionedTable]) -> Any:
    """Return the only row of a table."""
    (row,) = result.batch.rows[model]
    return row


def open_rows(ledger: Ledger) -> dict[str, int]:
    """Return the number of open rows by table."""
    return {model.__tablename__: len(ledger.current(model)) for model in TRAIL_TABLES}


def test_a_trail_is_read_in_its_home_region_only() -> None:
    """The region's own trail is recorded with its details; the trail of another account is only a shadow trail."""
    aws = sample_aws()
    result = collected(aws)
    trail, shadow = only(result, Trail), only(result, ShadowTrail)
    assert (trail["trail_arn"], trail["is_multi_region"], trail["kms_key"]) == (ARN, True, key_arn("plain"))
    assert (shadow["trail_arn"], shadow["is_organization"], shadow["region"]) == (
        ORGANIZATION_TRAIL["TrailARN"],
        True,
        REGION,
    )
    assert [call["TrailName"] for call in aws.of(SELECTORS)] == [call["Name"] for call in aws.of(STATUS)] == [ARN]
    assert [call["includeShadowTrails"] for call in aws.of(DESCRIBE)] == [True]
    assert only(result, TrailScan) == {"account_id": ACCOUNT, "region": REGION}
    status = {"logging": True, "started_at": LONG_AGO, "stopped_at": None, "delivery_error": None}
    assert only(result, TrailStatus) == {"trail_arn": ARN, **status}
    selectors = orjson.loads(only(result, TrailSelector)["selectors"])
    assert selectors == {"EventSelectors": [BASIC_SELECTOR], "AdvancedEventSelectors": []}


def test_in_other_regions_a_trail_is_a_shadow_trail() -> None:
    """A multi-region trail is one resource: in other regions it is a shadow trail, and its selectors are not read again."""
    empty: dict[str, Any] = {"kms:ListKeys": {"Keys": []}, "kms:ListAliases": {"Aliases": []}}
    aws = sample_aws(empty)
    result = collected(aws, region="eu-central-1", options=CollectOptions((TRAIL,)))
    assert {row["trail_arn"] for row in result.batch.rows[ShadowTrail]} == {ARN, ORGANIZATION_TRAIL["TrailARN"]}
    assert TRAIL.name not in {row["resource_type"] for row in result.batch.rows.get(Resource, ())}
    assert not aws.of(SELECTORS)
    assert result.gaps == 0


@pytest.mark.parametrize(
    ("key", "expected"), [(key_arn("plain"), (key_arn("plain"), "customer")), (None, (None, str(KeyClass.AWS_OWNED)))]
)
def test_the_key_of_a_trail_is_a_key_use(key: str | None, expected: Any, tmp_path: Path) -> None:
    """A trail is a dependent of its key; without a KMS key, its log files use S3's own key."""
    aws = sample_aws({DESCRIBE: {"trailList": [OWN_TRAIL | {"KmsKeyId": key}]}})
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.record_run(collected(aws).batch, OUTCOMES)
    (used,) = ledger.current(ResourceKey, resource_arn=ARN)
    assert (used["role"], used["key_arn"], used["key_class"]) == ("logs", *expected)
    ledger.close()


@pytest.mark.parametrize(
    ("failed", "lost"),
    [
        (SELECTORS, {"trail_selector"}),
        (STATUS, {"trail_status"}),
        (DESCRIBE, {model.__tablename__ for model in TRAIL_TABLES}),
    ],
)
def test_a_failed_call_is_a_gap_and_loses_nothing_else(failed: str, lost: set[str], tmp_path: Path) -> None:
    """Only the facts of the failed call are missing; after a complete run, a failed call closes no facts."""
    ledger = Ledger(tmp_path / "fresh.db")
    ledger.record_run(collected(sample_aws({failed: denied(failed)})).batch, OUTCOMES)
    assert open_rows(ledger) == {model.__tablename__: int(model.__tablename__ not in lost) for model in TRAIL_TABLES}
    assert [row["action"] for row in ledger.current(Gap)] == [failed]
    ledger.close()
    ledger = Ledger(tmp_path / "known.db")
    ledger.record_run(collected(sample_aws()).batch, OUTCOMES)
    before = open_rows(ledger)
    ledger.record_run(collected(sample_aws({failed: denied(failed)})).batch, OUTCOMES)
    assert open_rows(ledger) == before
    ledger.close()


def test_a_deleted_trail_closes_its_details(tmp_path: Path) -> None:
    """A complete listing without the trail closes it with its selectors, status and key use."""
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.record_run(collected(sample_aws()).batch, OUTCOMES)
    ledger.record_run(collected(sample_aws({DESCRIBE: {"trailList": []}})).batch, OUTCOMES)
    assert open_rows(ledger) == dict.fromkeys(open_rows(ledger), 0) | {"trail_scan": 1}
    assert ledger.current(KeyReference, resource_arn=ARN) == []
    ledger.close()


def test_trails_that_are_not_configured_stay_as_last_known(tmp_path: Path) -> None:
    """With only other resource types configured, no call is made: the scan closes, the facts stay open."""
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.record_run(collected(sample_aws()).batch, OUTCOMES)
    aws = sample_aws()
    ledger.record_run(collected(aws, CollectOptions((SECRET,))).batch, OUTCOMES)
    assert not aws.of(DESCRIBE)
    assert open_rows(ledger) == dict.fromkeys(open_rows(ledger), 1) | {"trail_scan": 0}
    ledger.close()


MALFORMED: list[Answer] = [
    {"trailList": [{"Name": "no-arn"}, OWN_TRAIL]},
    {"trailList": [{"TrailARN": "no arn"}, OWN_TRAIL]},
]


@pytest.mark.parametrize("answer", MALFORMED)
def test_a_malformed_trail_does_not_discard_the_others(answer: Answer) -> None:
    """The other trails are recorded, the error is a gap, and the listing is incomplete."""
    result = collected(sample_aws({DESCRIBE: answer}))
    assert only(result, Trail)["trail_arn"] == ARN
    assert [row["operation"] for row in result.batch.rows[Gap]] == ["DescribeTrails"]
    assert TrailScan not in result.batch.rows
    assert Trail not in result.batch.complete_listings


def test_the_permissions_include_the_configured_types_only() -> None:
    """The role needs three actions for trails, and none of them if trails are not configured."""
    actions = {DESCRIBE, SELECTORS, STATUS}
    assert actions <= set(member_actions())
    assert not actions & set(member_actions(configured_types([SECRET.name])))

"""CloudTrail trails: what is asked of whom, what becomes of it, and what is not concluded from silence."""

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
HERE = {(ACCOUNT, REGION): Outcome.COMPLETE}
OF_TRAILS: tuple[type[VersionedTable], ...] = (Trail, ShadowTrail, TrailScan, TrailSelector, TrailStatus)


def collected(aws: ScriptedAws, wanted: CollectOptions | None = None, region: str = REGION) -> Collected:
    async def run() -> Collected:
        return await collect(client_for(aws), Caller(), Scope(ACCOUNT, region), wanted or CollectOptions())

    return asyncio.run(run())


def only(found: Collected, model: type[VersionedTable]) -> Any:
    """The one fact of its kind."""
    (row,) = found.batch.rows[model]
    return row


def kept(ledger: Ledger) -> dict[str, int]:
    """How many facts of each kind are known."""
    return {model.__tablename__: len(ledger.current(model)) for model in OF_TRAILS}


def test_a_trail_is_asked_in_its_home_region_alone() -> None:
    """The region's own trail becomes facts; another account's is a shadow, of which nothing further is asked."""
    aws = sample_aws()
    found = collected(aws)
    trail, shadow = only(found, Trail), only(found, ShadowTrail)
    assert (trail["trail_arn"], trail["is_multi_region"], trail["kms_key"]) == (ARN, True, key_arn("plain"))
    assert (shadow["trail_arn"], shadow["is_organization"], shadow["region"]) == (
        ORGANIZATION_TRAIL["TrailARN"],
        True,
        REGION,
    )
    assert [call["TrailName"] for call in aws.of(SELECTORS)] == [call["Name"] for call in aws.of(STATUS)] == [ARN]
    assert [call["includeShadowTrails"] for call in aws.of(DESCRIBE)] == [True]
    assert only(found, TrailScan) == {"account_id": ACCOUNT, "region": REGION}
    status = {"logging": True, "started_at": LONG_AGO, "stopped_at": None, "delivery_error": None}
    assert only(found, TrailStatus) == {"trail_arn": ARN, **status}
    selectors = orjson.loads(only(found, TrailSelector)["selectors"])
    assert selectors == {"EventSelectors": [BASIC_SELECTOR], "AdvancedEventSelectors": []}


def test_in_other_regions_an_own_trail_is_a_shadow() -> None:
    """A trail of all regions is one trail: elsewhere it is no resource, and its selectors are not asked again."""
    aws = sample_aws()
    found = collected(aws, region="eu-central-1")
    assert {row["trail_arn"] for row in found.batch.rows[ShadowTrail]} == {ARN, ORGANIZATION_TRAIL["TrailARN"]}
    assert TRAIL.name not in {row["resource_type"] for row in found.batch.rows[Resource]}
    assert not aws.of(SELECTORS)
    assert found.gaps == 0


@pytest.mark.parametrize(
    ("key", "expected"), [(key_arn("plain"), (key_arn("plain"), "customer")), (None, (None, str(KeyClass.AWS_OWNED)))]
)
def test_the_key_of_a_trail_is_a_use_of_that_key(key: str | None, expected: Any, tmp_path: Path) -> None:
    """What breaks without the key includes the trail; without a key of KMS the log files are under S3's own."""
    aws = sample_aws({DESCRIBE: {"trailList": [OWN_TRAIL | {"KmsKeyId": key}]}})
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.record_run(collected(aws).batch, HERE)
    (used,) = ledger.current(ResourceKey, resource_arn=ARN)
    assert (used["role"], used["key_arn"], used["key_class"]) == ("logs", *expected)
    ledger.close()


@pytest.mark.parametrize(
    ("refused", "lost"),
    [
        (SELECTORS, {"trail_selector"}),
        (STATUS, {"trail_status"}),
        (DESCRIBE, {model.__tablename__ for model in OF_TRAILS}),
    ],
)
def test_a_refusal_is_a_gap_and_loses_nothing_else(refused: str, lost: set[str], tmp_path: Path) -> None:
    """What was refused is not known, all else is; after a good night nothing that was known is taken for gone."""
    ledger = Ledger(tmp_path / "fresh.db")
    ledger.record_run(collected(sample_aws({refused: denied(refused)})).batch, HERE)
    assert kept(ledger) == {model.__tablename__: int(model.__tablename__ not in lost) for model in OF_TRAILS}
    assert [row["action"] for row in ledger.current(Gap)] == [refused]
    ledger.close()
    ledger = Ledger(tmp_path / "kept.db")
    ledger.record_run(collected(sample_aws()).batch, HERE)
    before = kept(ledger)
    ledger.record_run(collected(sample_aws({refused: denied(refused)})).batch, HERE)
    assert kept(ledger) == before
    ledger.close()


def test_a_trail_that_is_gone_takes_what_describes_it_along(tmp_path: Path) -> None:
    """A whole listing without it ends the trail, its selectors, its status and its use of a key."""
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.record_run(collected(sample_aws()).batch, HERE)
    ledger.record_run(collected(sample_aws({DESCRIBE: {"trailList": []}})).batch, HERE)
    assert kept(ledger) == dict.fromkeys(kept(ledger), 0) | {"trail_scan": 1}
    assert ledger.current(KeyReference, resource_arn=ARN) == []
    ledger.close()


def test_trails_that_are_not_wanted_are_last_known(tmp_path: Path) -> None:
    """With other resource types in the configuration nothing is asked; that they are kept up ends, the facts stay."""
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.record_run(collected(sample_aws()).batch, HERE)
    aws = sample_aws()
    ledger.record_run(collected(aws, CollectOptions((SECRET,))).batch, HERE)
    assert not aws.of(DESCRIBE)
    assert kept(ledger) == dict.fromkeys(kept(ledger), 1) | {"trail_scan": 0}
    ledger.close()


MALFORMED: list[Answer] = [
    {"trailList": [{"Name": "no-arn"}, OWN_TRAIL]},
    {"trailList": [{"TrailARN": "no arn"}, OWN_TRAIL]},
]


@pytest.mark.parametrize("answer", MALFORMED)
def test_a_trail_that_cannot_be_understood_keeps_no_other_out(answer: Answer) -> None:
    """The rest is recorded, the answer is a gap, and the listing is not whole."""
    found = collected(sample_aws({DESCRIBE: answer}))
    assert only(found, Trail)["trail_arn"] == ARN
    assert [row["operation"] for row in found.batch.rows[Gap]] == ["DescribeTrails"]
    assert TrailScan not in found.batch.rows
    assert Trail not in found.batch.complete_listings


def test_the_permissions_follow_from_the_declaration() -> None:
    """The role needs three actions for trails, and none of them where trails are not asked."""
    wanted = {DESCRIBE, SELECTORS, STATUS}
    assert wanted <= set(member_actions())
    assert not wanted & set(member_actions(configured_types([SECRET.name])))

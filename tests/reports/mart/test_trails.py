"""Trails in the mart: what is known of each, and whether the use of keys is logged in each account and region."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from models.hashing import canonical_json
from models.tables import ShadowTrail, Trail, TrailScan, TrailSelector, TrailStatus
from reports.mart.build import build
from reports.mart.connection import connect
from tests.reports.ledger_builder import LedgerBuilder, settings_of

HUB, SHOP, LAB, LOST = "123456789012", "111122223333", "444455556666", "222233334444"
IRELAND, VIRGINIA = "eu-west-1", "us-east-1"
OF_ALL = f"arn:aws:cloudtrail:{VIRGINIA}:{HUB}:trail/all"
OWN = f"arn:aws:cloudtrail:{IRELAND}:{SHOP}:trail/own"
FOREIGN = f"arn:aws:cloudtrail:{VIRGINIA}:999900001111:trail/foreign"


@pytest.fixture
def world(tmp_path: Path) -> LedgerBuilder:
    """The organization's trail in Hub, listed by Shop; Lab denies listing its trails, and Lost is unreachable."""
    made = LedgerBuilder(f"sqlite:///{tmp_path / 'ledger.db'}")
    made.account(HUB, "Hub", VIRGINIA, is_management=True)
    made.account(SHOP, "Shop", IRELAND)
    made.account(LAB, "Lab", IRELAND)
    made.account(LOST, "Lost", IRELAND)
    made.outcomes[LOST, IRELAND] = ("failed", "the endpoint could not be reached")
    made.gap(LAB, IRELAND, "cloudtrail:DescribeTrails", cause="role_permission")
    for account, region in ((HUB, VIRGINIA), (SHOP, IRELAND)):
        made.add(TrailScan, account_id=account, region=region)
    trail(made, OF_ALL, is_multi_region=True, is_organization=True)
    shadow(made, OF_ALL, is_multi_region=True, is_organization=True)
    return made


def trail(
    world: LedgerBuilder, arn: str, *, logging: bool | None = True, excluded: bool = False, **values: Any
) -> None:
    """Add a trail as its own account returns it."""
    _, _, _, region, account, name = arn.split(":")
    where = {"account_id": account, "region": region, "home_region": region, "name": name.removeprefix("trail/")}
    world.add(Trail, trail_arn=arn, **where, **values)
    world.add(TrailStatus, trail_arn=arn, logging=logging)
    basic = [{"ReadWriteType": "All", "ExcludeManagementEventSources": ["kms.amazonaws.com"] if excluded else []}]
    found = canonical_json({"EventSelectors": basic, "AdvancedEventSelectors": []})
    world.add(TrailSelector, trail_arn=arn, selectors=found)


def shadow(world: LedgerBuilder, arn: str, **values: Any) -> None:
    """Add the same trail as Shop lists it in Ireland."""
    _, _, _, region, _, name = arn.split(":")
    where = {"account_id": SHOP, "region": IRELAND, "home_region": region, "name": name.removeprefix("trail/")}
    world.add(ShadowTrail, trail_arn=arn, **where, **values)


def query_after_run(world: LedgerBuilder, query: str) -> list[tuple[Any, ...]]:
    """Crawl, build the mart, and return the rows of a query."""
    world.crawl()
    path = Path(world.url.removeprefix("sqlite:///")).with_name("mart.duckdb")
    build(world.url, path, settings_of(database=world.url, report={"mart": path}))
    with connect(path) as mart:
        return mart.execute(query).fetchall()


LOGGED = "SELECT account_name, kms_events, freshness FROM kms_logging ORDER BY account_name"


def test_the_organizations_trail_covers_accounts_that_cannot_list_it(world: LedgerBuilder) -> None:
    """The trail records every account, including those that list no trails or could not be crawled."""
    assert query_after_run(world, LOGGED) == [
        ("Hub", "all", "current"),
        ("Lab", "all", "none"),
        ("Lost", "all", "none"),
        ("Shop", "all", "current"),
    ]


@pytest.mark.parametrize(
    ("values", "shop", "lab"),
    [
        ({"logging": False}, "none", None),
        ({"excluded": True}, "none", None),
        ({"logging": None}, None, None),
    ],
)
def test_a_trail_that_does_not_log_covers_nobody(
    world: LedgerBuilder, values: dict[str, Any], shop: Any, lab: Any
) -> None:
    """Logging is none where the trails were listed completely, and unknown elsewhere."""
    trail(world, OF_ALL, is_multi_region=True, is_organization=True, **values)
    found = {name: word for name, word, _ in query_after_run(world, LOGGED)}
    assert found == {"Hub": shop, "Shop": shop, "Lab": lab, "Lost": lab}


def test_one_trail_makes_up_for_another(world: LedgerBuilder) -> None:
    """An account's trail may exclude KMS while the organization's trail logs it; both are listed."""
    trail(world, OWN, excluded=True)
    query = f"SELECT kms_events, trails, other_trails FROM kms_logging WHERE account_id = '{SHOP}'"
    assert query_after_run(world, query) == [("all", [OF_ALL], [OWN])]
    query = f"SELECT management_events, kms_events, kms_excluded, freshness FROM trails WHERE trail_arn = '{OWN}'"
    assert query_after_run(world, query) == [("all", "none", True, "current")]


def test_a_shadow_trail_alone(world: LedgerBuilder) -> None:
    """For a trail of an account that is not crawled, the default selectors are known and the logging status is unknown."""
    world.remove(ShadowTrail, SHOP, IRELAND, OF_ALL)
    shadow(world, FOREIGN, is_organization=True, is_multi_region=True, has_custom_selectors=False)
    found = query_after_run(
        world, f"SELECT kms_events, logging, freshness, reason FROM trails WHERE trail_arn = '{FOREIGN}'"
    )
    said = "only seen from other accounts or regions: its own account does not show it"
    assert found == [("all", None, "partial", said)]
    ((word, reason),) = query_after_run(
        world, f"SELECT kms_events, reason FROM kms_logging WHERE account_id = '{SHOP}'"
    )
    assert word is None
    assert reason.startswith("foreign: ")


def test_a_denied_call_keeps_the_last_known_selectors(world: LedgerBuilder) -> None:
    """Selectors are stale after a denied call, and unknown if no call ever succeeded."""
    query = f"SELECT kms_events, freshness, reason FROM trails WHERE trail_arn = '{OF_ALL}'"
    said = "GetEventSelectors: the crawler's role lacks the permission"
    world.crawl()
    world.gap(HUB, VIRGINIA, "cloudtrail:GetEventSelectors", OF_ALL, cause="role_permission")
    assert query_after_run(world, query) == [("all", "stale", said)]
    world.remove(TrailSelector, OF_ALL)
    world.url = world.url.replace("ledger.db", "other.db")
    assert query_after_run(world, query) == [(None, "partial", said)]

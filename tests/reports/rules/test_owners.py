"""Tests of owners: the first matching entry of the settings, by tag, account or organizational unit."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from reports.mart.connection import connect
from reports.pipeline import refresh
from tests.reports.conftest import IRELAND, SHOP
from tests.reports.ledger_builder import LedgerBuilder, build_mart, only, settings_of

OTHER = "111122224444"


def test_the_first_matching_entry_wins(world: LedgerBuilder, tmp_path: Path) -> None:
    """Entries apply in order; an OU applies to the OUs below it, but not to OUs with the same prefix."""
    world.account(OTHER, "Other", IRELAND, ou_path="/Production/Shop/Web")
    world.account("111122225555", "Third", IRELAND, ou_path="/Production/Shopping")
    for name, tags in (("k1", {"Owner": "one"}), ("k2", {"Owner": ""}), ("k3", {"Team": "three"})):
        world.tag(world.key(SHOP, IRELAND, name), **tags)
    world.tag(world.key(OTHER, IRELAND, "k4"), Team="four")
    world.key("111122225555", IRELAND, "k5")
    world.crawl()
    owners = [
        {"tag": "Owner"},
        {"account": [SHOP], "owner": "shop"},
        {"tag": "Team"},
        {"ou": "/Production/Shop", "owner": "web"},
    ]
    path = tmp_path / "mart.duckdb"
    build_mart(settings_of(database=world.url, owners=owners, report={"mart": path}))
    with connect(path) as mart:
        rows = mart.execute("SELECT resource_arn, owner, source FROM owners").fetchall()
    assert {arn.rpartition("/")[2]: (owner, source) for arn, owner, source in rows} == {
        "k1": ("one", "tag"),
        "k2": ("shop", "account"),
        "k3": ("shop", "account"),
        "k4": ("four", "tag"),
        SHOP: ("shop", "account"),
        OTHER: ("web", "ou"),
    }


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"owner": "x"}, "one of tag, account and ou"),
        ({"tag": "Owner", "account": SHOP, "owner": "x"}, "one of tag, account and ou"),
        ({"tag": "Owner", "owner": "x"}, "no owner together with a tag"),
        ({"account": SHOP}, "an owner together with account"),
        ({"ou": "Prod", "owner": "x"}, "the path of an organizational unit"),
    ],
)
def test_an_entry_needs_one_criterion(entry: dict[str, str], expected: str) -> None:
    """Each entry has exactly one criterion, and an owner unless the criterion is a tag."""
    with pytest.raises(ValidationError, match=expected):
        settings_of(owners=[entry])


def test_a_grant_inherits_the_owner_of_its_key(world: LedgerBuilder, tmp_path: Path) -> None:
    """A finding about a grant has the owner of the key, or else of the account."""
    tagged, untagged = world.key(SHOP, IRELAND, "k1"), world.key(SHOP, IRELAND, "k2")
    world.tag(tagged, Owner="one")
    for key in (tagged, untagged):
        world.grant(key, "g", operations='["CreateGrant","Decrypt"]')
    world.crawl()
    owners = [{"tag": "Owner"}, {"account": [SHOP], "owner": "shop"}]
    path = tmp_path / "mart.duckdb"
    refresh(
        settings_of(database=world.url, report={"mart": str(path)}, owners=owners, rules=only("grant-create-grant"))
    )
    with connect(path) as mart:
        rows = mart.execute(
            "SELECT key_arn, owner, resource_arn FROM findings WHERE rule_id = 'grant-create-grant'"
        ).fetchall()
    assert {(key, owner) for key, owner, _ in rows} == {(tagged, "one"), (untagged, "shop")}
    assert {arn.partition("#")[2] for _, _, arn in rows} == {"grant/g"}

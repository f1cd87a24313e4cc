"""The list of action items, over a small ledger."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from models.tables import KeyMetadata
from reports.html.action_items import ActionItem, action_list
from reports.html.query_runner import Source
from reports.mart.build import build
from reports.mart.connection import connect
from tests.reports.conftest import IRELAND, SHOP
from tests.reports.ledger_builder import LedgerBuilder, settings_of

PLACE = f"Shop ({SHOP}, {IRELAND})"
DATE = dt.datetime(2026, 12, 4, tzinfo=dt.UTC)


def test_unused_keys_that_are_scheduled_for_deletion_are_one_item(tmp_path: Path) -> None:
    """An application that replaces its keys every day causes one item and one change of low severity, not one per key and day."""
    world = LedgerBuilder(f"sqlite:///{tmp_path / 'ledger.db'}")
    world.account(SHOP, "Shop", IRELAND)
    settings = settings_of(database=world.url, report={"mart": tmp_path / "mart.duckdb"})
    for number in range(3):
        world.key(SHOP, IRELAND, f"k{number}", state="PendingDeletion", deletion_date=DATE)
    granted = world.key(SHOP, IRELAND, "granted")
    world.grant(granted, "g1", grantee_principal=f"arn:aws:iam::{SHOP}:role/app")
    unread = world.key(SHOP, IRELAND, "unread", state="PendingDeletion", deletion_date=DATE)
    world.gap(SHOP, IRELAND, "kms:ListGrants", unread)
    new = [world.key(SHOP, IRELAND, name) for name in ("new", "newer")]
    world.crawl()
    for arn in (granted, *new):
        world.change(KeyMetadata, arn, state="PendingDeletion", deletion_date=DATE, enabled=False)
    run_id = world.crawl()
    build(settings.database, settings.report.mart, settings)
    with connect(settings.report.mart) as mart:
        run = {"run_id": run_id, "started_at": dt.datetime(2026, 11, 21, 3, tzinfo=dt.UTC)}
        items = action_list(Source(mart), run, 10).items
        changes = [
            (row["severity"], row["message"], row["total"])
            for row in Source(mart).rows("changes", run_id=run_id, limit=10)
        ]
    assert changes == [
        ("high", f"Key granted in {PLACE} was scheduled for deletion on 2026-12-04.", 2),
        ("low", "2 keys that nothing is known to use were scheduled for deletion.", 2),
    ]
    about_deletion = [item for item in items if "scheduled for deletion" in item.text]
    assert about_deletion == [
        ActionItem(
            "high",
            f"Key granted in {PLACE} was scheduled for deletion on 2026-12-04.",
            f"Shop ({SHOP}), {IRELAND}",
            "changes",
        ),
        ActionItem(
            "medium",
            "2 more keys are scheduled for deletion, the first on 2026-12-04. No resource is known to use them, but they have "
            "grants, or their grants are unknown.",
            "Sort the keys by state to see them",
            "keys",
        ),
        ActionItem(
            "low",
            "5 more keys are scheduled for deletion, the first on 2026-12-04, 2 of them since the previous run. No resource and "
            "no grant is known to use them.",
            "Sort the keys by state to see them",
            "keys",
        ),
    ]

"""What the views say about facts that a run could not read again."""

from __future__ import annotations

from pathlib import Path

from reports.mart.build import build
from reports.mart.connection import connect
from tests.reports.conftest import IRELAND, SHOP
from tests.reports.ledger_builder import LedgerBuilder, settings_of


def test_a_resource_is_stale_when_it_could_not_be_read_again(tmp_path: Path) -> None:
    """A failed account-region makes all of its resources stale, a denied call for one resource only this one."""
    world = LedgerBuilder(f"sqlite:///{tmp_path / 'ledger.db'}")
    world.account(SHOP, "Shop", IRELAND, "eu-west-3")
    denied = world.secret(SHOP, IRELAND, "denied")
    world.secret(SHOP, IRELAND, "read")
    world.secret(SHOP, "eu-west-3", "unreachable")
    settings = settings_of(database=world.url, report={"mart": tmp_path / "mart.duckdb"})

    def freshness() -> dict[str, str]:
        world.crawl()
        build(settings.database, settings.report.mart, settings)
        with connect(settings.report.mart) as mart:
            return dict(mart.execute("SELECT name, freshness FROM resources").fetchall())

    assert freshness() == {"denied": "current", "read": "current", "unreachable": "current"}
    world.gap(SHOP, IRELAND, "secretsmanager:GetResourcePolicy", denied)
    world.outcomes[SHOP, "eu-west-3"] = ("failed", "the endpoint could not be reached")
    assert freshness() == {"denied": "stale", "read": "current", "unreachable": "stale"}

"""One small mart with a finding of every status, hostile names, and an earlier run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from reports.exports import export
from reports.exports.common import RunInfo, load_run
from reports.mart.connection import connect
from reports.pipeline import refresh
from reports.rules.findings import STATUSES, FindingFilter, FindingRecord, read_findings
from tests.made_once import made_once
from tests.reports.ledger_builder import LedgerBuilder, one_rule_of_each_family, only, settings_of

SHOP, PAY, IRELAND = "111122223333", "444455556666", "eu-west-1"
HOSTILE = '=HYPERLINK("http://x","y")<script>[a](http://evil){0}\u202e'
WAIVERS = """
- {rule: key-rotation, resource: "*:key/accepted", reason: It goes soon., owner: shop, expires: 2026-12-31, id: w1}
- {rule: key-rotation, resource: "*:key/unseen", reason: So., owner: shop, expires: 2026-12-31, id: w2, include_unknown: true}
- {rule: key-rotation, resource: "nothing*", reason: So., owner: shop, expires: 2026-12-31, id: idle}
"""


@pytest.fixture(scope="session")
def findings_mart(shared_directory: Path) -> Path:
    """Two runs: in the second, rotation of `again` is fixed, `stopped` is disabled, and `late` begins to fail."""
    return made_once(shared_directory / "exports", _make_findings_mart) / "mart.duckdb"


def _make_findings_mart(folder: Path) -> None:
    folder.mkdir()
    (folder / "waivers.yaml").write_text(WAIVERS, encoding="utf-8")
    world = LedgerBuilder(f"sqlite:///{folder / 'store.db'}")
    world.account(SHOP, "Shop", IRELAND)
    world.account(PAY, f"Pay {HOSTILE}"[:50], IRELAND)
    for account in (SHOP, PAY):
        for name in ("off", "accepted", "again", "stopped"):
            world.key(account, IRELAND, name, rotation="disabled")
        for name in ("dark", "unseen"):
            world.key(account, IRELAND, name, rotation="unknown")
        world.key(account, IRELAND, "late", rotation="enabled")
        world.key(account, IRELAND, "fine", rotation="enabled")
    secret = world.secret(SHOP, IRELAND, HOSTILE)
    world.uses(secret, None, "aws_managed")
    settings = settings_of(
        database=world.url,
        report={"mart": folder / "mart.duckdb"},
        rules={"waivers": [folder / "waivers.yaml"], **only(*one_rule_of_each_family())},
        owners=[{"account": SHOP, "owner": HOSTILE}],
    )
    world.crawl()
    refresh(settings)
    for account in (SHOP, PAY):
        world.key(account, IRELAND, "again", rotation="enabled")
        world.key(account, IRELAND, "late", rotation="disabled")
        world.key(account, IRELAND, "stopped", rotation="disabled", state="Disabled")
    world.crawl()
    refresh(settings)


@pytest.fixture(scope="session")
def run_info(findings_mart: Path) -> RunInfo:
    with connect(findings_mart) as connection:
        found = load_run(connection)
    assert found is not None
    return found


@pytest.fixture(scope="session")
def everything(findings_mart: Path) -> list[FindingRecord]:
    with connect(findings_mart) as connection:
        return list(read_findings(connection, FindingFilter(statuses=STATUSES)))


@pytest.fixture
def rotation(everything: list[FindingRecord]) -> dict[str, FindingRecord]:
    """The findings of key-rotation in one account, by the key's name."""
    return {
        one.resource_arn.rpartition("/")[2]: one
        for one in everything
        if one.rule_id == "key-rotation" and one.account_id == SHOP
    }


@pytest.fixture
def run(findings_mart: Path) -> Callable[..., Result]:
    def ran(form: str, *options: str) -> Result:
        return CliRunner().invoke(export, ["findings", "--mart", str(findings_mart), "--format", form, *options])

    return ran

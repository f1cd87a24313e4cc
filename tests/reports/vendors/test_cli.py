"""Tests of `kmsledger vendors check`: text, JSON, CSV and exit codes."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from click.testing import CliRunner, Result

from reports.vendors.cli import check as check_command
from tests.reports.conftest import IRELAND, SHOP
from tests.reports.ledger_builder import LedgerBuilder, build_mart, settings_of
from tests.reports.vendors.organization import NAME, checkmarx


def test_the_command_prints_results(world: LedgerBuilder, tmp_path: Path) -> None:
    """`check` prints problems with fixes, JSON has every field, and the exit code depends on the severity."""
    arn = world.key(SHOP, IRELAND, NAME, policy=checkmarx(grant={}))
    world.crawl()
    mart = tmp_path / "mart.duckdb"
    build_mart(
        settings_of(database=world.url, report={"mart": mart}, vendors={"profiles": {"checkmarx-one": {"keys": [arn]}}})
    )
    config = tmp_path / "kmsledger.yaml"
    config.write_text(f"report: {{mart: '{mart}'}}\n")

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(check_command, [*arguments, "--config", str(config)])

    result = run("checkmarx-one")
    assert result.exit_code == 1
    assert "blocked by policy" in result.output
    assert "Fix: Add to the key policy" in result.output
    assert run("checkmarx-one", "--fail-on", "info").exit_code == 1
    assert run("checkmarx-one", "--fail-on", "never").exit_code == 0
    document = json.loads(run("--format", "json").output)
    assert document["format"] == "kmsledger.vendor-checks/1"
    assert {row["profile"] for row in document["checks"]} == {"checkmarx-one", "cerby", "plerion"}
    rows = list(csv.DictReader(io.StringIO(run("--format", "csv").output)))
    assert [(row["profile"], row["result"]) for row in rows] == [
        (row["profile"], row["result"]) for row in document["checks"]
    ]
    assert run("nobody").exit_code == 2

"""A run that was limited to one account: every view has the same rows about the others as for the run before."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from reports.mart.connection import connect
from reports.mart.view_loader import views
from tests.reports.ledger_builder import build_mart, settings_of
from tests.reports.sample_ledger import DATA, LOCKED, sample_world

TIME_DEPENDENT = {"age_days", "days_to_deletion", "run_id", "waiver_days_left"}
"""Columns that depend on the time of the run, and its number."""


@pytest.mark.deep  # every view, as of two runs
def test_every_view_keeps_the_rows_of_other_accounts(tmp_path: Path) -> None:
    """Nothing is stale, no streak is longer, and only the account of the run counts in its coverage."""
    settings = settings_of(
        database=f"sqlite:///{tmp_path / 'ledger.db'}", report={"mart": str(tmp_path / "kmsledger.duckdb")}
    )
    world = sample_world(tmp_path / "ledger.db")
    world.crawl()
    world.crawl()
    with sqlite3.connect(tmp_path / "ledger.db") as ledger:
        ledger.execute("UPDATE scope_coverage SET read_run_id = 1 WHERE run_id = 2 AND account_id <> ?", [DATA])
        ledger.execute("UPDATE run SET only_accounts = ? WHERE run_id = 2", [DATA])
    ledger.close()
    build_mart(settings)
    compared = set()
    with connect(settings.report.mart) as mart:
        for view in views():
            columns = [name for name in view.columns if name not in TIME_DEPENDENT]
            account = "account_id" if "account_id" in view.columns else "split_part(key_arn, ':', 5)"
            if not {"account_id", "key_arn"} & set(view.columns):
                continue
            chosen = ", ".join(f'"{name}"' for name in columns)
            query = f"SELECT {chosen} FROM {view.qualified}_as_of({{}}) WHERE {account} <> '{DATA}' ORDER BY ALL"
            before, after = (mart.execute(query.format(run)).fetchall() for run in (1, 2))
            assert after == before, view.name
            compared |= {view.name} if before else set()
        assert compared >= {
            "keys",
            "coverage",
            "accounts",
            "account_regions",
            "incomplete_account_regions",
            "key_access",
        }
        assert mart.execute(
            "SELECT run_id, account_regions, complete FROM run_coverage ORDER BY run_id"
        ).fetchall() == [
            (1, 6, 3),
            (2, 1, 0),
        ]
        streak = f"SELECT consecutive_runs, read_run_id FROM incomplete_account_regions WHERE account_id = '{LOCKED}'"
        assert mart.execute(streak).fetchall() == [(1, 1)]
        seen = "SELECT DISTINCT last_seen_run, freshness FROM keys WHERE freshness <> 'unknown' ORDER BY ALL"
        assert mart.execute(seen).fetchall() == [(1, "current"), (2, "current")]

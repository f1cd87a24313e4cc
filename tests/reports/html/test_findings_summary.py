"""The findings of a run in a few lines for the terminal."""

from __future__ import annotations

from pathlib import Path

import duckdb

from models.settings import Settings
from reports.html.findings_summary import findings_summary
from reports.pipeline import refresh
from tests.reports.html.conftest import Make, world_of
from tests.reports.ledger_builder import build_mart, only
from tests.reports.sample_ledger import third_run


def test_open_findings_by_severity_and_the_next_command(mart: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """The numbers are those of the view; the command lists the most severe ones; a first evaluation compares nothing."""
    counts = dict(
        mart.execute("SELECT severity, count(*) FROM findings WHERE status = 'fail' GROUP BY severity").fetchall()
    )
    unknown = mart.execute("SELECT count(*) FROM findings WHERE status = 'unknown'").fetchone()
    lines = findings_summary(settings)
    assert unknown is not None
    assert lines[0].startswith(f"findings: {sum(counts.values())} open ({counts['critical']} critical, ")
    assert lines[0].endswith(f", {unknown[0]} unknown")
    assert lines[1:] == ["next: `kmsledger findings --severity critical`"]
    assert findings_summary(settings, Path("other.yaml"))[-1].endswith("--severity critical --config other.yaml`")
    assert findings_summary(settings, Path("my $(id).yaml"))[-1].endswith("--config 'my $(id).yaml'`")


def test_changes_since_the_run_before(make_settings: Make) -> None:
    """From the second evaluation on, a line says what is new and resolved, or that nothing has changed."""
    settings = make_settings(rules=only("key-pending-deletion", "secret-key-usable"))
    world = world_of(settings)
    world.crawl()
    refresh(settings)
    assert len(findings_summary(settings)) == 2
    third_run(world)
    world.crawl()
    refresh(settings)
    assert " new" in findings_summary(settings)[1]
    world.crawl()
    refresh(settings)
    assert findings_summary(settings)[1] == "since the run before: no finding has changed"


def test_without_results_of_rules_there_is_no_summary(make_settings: Make) -> None:
    """A mart whose rules were never run has no line about findings."""
    settings = make_settings()
    world_of(settings).crawl()
    build_mart(settings)
    assert findings_summary(settings) == []

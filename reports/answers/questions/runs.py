"""List the runs with their duration, coverage and gaps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from reports.answers.question import question

if TYPE_CHECKING:
    from reports.answers.runs import Runs

COVERAGE = ("account_regions", "complete", "partial", "failed", "coverage_percent")
_TIMES = ("run_id", "started_at", "finished_at", "status")
_COUNTS = ("gaps", "calls", "message", "only_accounts", "only_regions")
STORED = (*_TIMES, *_COUNTS)
"""The columns of a run in the ledger."""
COLUMNS = (*_TIMES, "duration_seconds", *COVERAGE, *_COUNTS, "in_mart")


@question(columns=COLUMNS, rows=lambda document: document["runs"])
def runs(mart: Path) -> Runs:
    """List the runs, the latest first: when they began, how long they took, what share they read completely, and their gaps.

    Runs that are newer than the mart come from the ledger, unless --mart names another mart; their coverage is unknown. So is
    that of a run that failed or was interrupted.

    A run that was limited to accounts or regions has the coverage of these alone.

    JSON has `format` and `runs`: the columns of view run_coverage, as in CSV, with duration_seconds, and in_mart, which is false
    for a run whose mart was not built.
    """
    from models.settings import load
    from reports.answers.runs import runs as all_runs

    options = click.get_current_context().params
    database = load(options["config_path"]).database if options["mart_path"] is None else None
    return all_runs(mart, database)

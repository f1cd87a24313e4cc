"""Decides whether a run has read enough: the exit code for its coverage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import duckdb

from reports.answers.text import counted

DONE, PARTIAL, FAILED = 0, 3, 4
"""The exit codes."""

_QUERY: Final = """
SELECT r.status = 'complete', coalesce(c.complete, 0), coalesce(c.account_regions, 0), c.coverage_percent, i.n, i.runs
FROM runs AS r
LEFT JOIN run_coverage AS c USING (run_id)
CROSS JOIN (
  SELECT count(*) AS n, CASE WHEN count(*) = count(consecutive_runs) THEN max(consecutive_runs) END AS runs
  FROM incomplete_account_regions
) AS i
ORDER BY r.run_id DESC
LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class CoverageResult:
    """The coverage of a run, as an exit code and a clause."""

    exit_code: int
    message: str
    incomplete: int = 0
    """The account-regions with gaps."""


def check_coverage(duck: duckdb.DuckDBPyConnection, min_percent: int, max_consecutive_gaps: int) -> CoverageResult:
    """Judge the coverage of the mart's run.

    It has failed if less than ``min_percent`` of its account-regions were read completely, or if none was in scope, unless the
    minimum is 0. Otherwise it is done if no account-region has had gaps for more than ``max_consecutive_gaps`` runs in a row, and
    partial if one has, or if it is unknown since when one has had gaps.
    """
    row = duck.execute(_QUERY).fetchone()
    if row is None:
        return CoverageResult(FAILED, "the mart has no run: run `kmsledger crawl` first")
    complete_run, complete, total, percent, incomplete, longest = row
    share = "unknown" if percent is None else f"{percent} %"
    message = f"coverage is {share} ({complete:,} of {counted(total, 'account-region')} read completely)"
    if incomplete:
        length = "an unknown number of runs" if longest is None else f"up to {counted(longest, 'run')}"
        message += f", with gaps in {incomplete:,} for {length} in a row"
    if min_percent and (not total or complete * 100 < min_percent * total):
        code, message = FAILED, f"{message}, which is below the minimum of {min_percent} %"
    elif complete_run and not incomplete:
        code = DONE
    elif incomplete and longest is not None and longest <= max_consecutive_gaps:
        code, message = DONE, f"{message}, which coverage.max_consecutive_gaps tolerates"
    else:
        code = PARTIAL
    return CoverageResult(code, message, incomplete)

"""Decides whether a run has read enough: the exit code for its coverage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import duckdb

from reports.answers.text import counted

DONE, PARTIAL, FAILED = 0, 3, 4
"""The exit codes."""

_QUERY: Final = """
WITH latest AS (
  SELECT run_id, status = 'complete' AS complete, only_accounts IS NOT NULL OR only_regions IS NOT NULL AS limited
  FROM runs ORDER BY run_id DESC LIMIT 1
), counted AS (
  SELECT c.complete, c.account_regions AS total
  FROM run_coverage AS c JOIN latest AS r USING (run_id)
  WHERE NOT (r.limited AND $everything)
  UNION ALL
  -- What was not part of a limited run counts as the earlier run read it.
  SELECT count(*) FILTER (outcome = 'complete'), count(*)
  FROM coverage, latest AS r
  WHERE r.limited AND $everything AND operation IS NULL AND outcome IN ('complete', 'partial', 'failed')
), summed AS (
  SELECT CAST(coalesce(sum(complete), 0) AS BIGINT) AS complete, CAST(coalesce(sum(total), 0) AS BIGINT) AS total FROM counted
)
SELECT r.complete, c.complete, c.total, CASE WHEN c.total > 0 THEN c.complete * 100 // c.total END, i.n, i.runs
FROM latest AS r
CROSS JOIN summed AS c
CROSS JOIN (
  SELECT count(*) AS n, max(i.consecutive_runs) AS runs FROM incomplete_account_regions AS i, latest AS r
  WHERE NOT r.limited OR $everything OR i.read_run_id = r.run_id
) AS i
"""


@dataclass(frozen=True, slots=True)
class CoverageResult:
    """The coverage of a run, as an exit code and a clause."""

    exit_code: int
    message: str
    incomplete: int = 0
    """The account-regions with gaps."""


def check_coverage(
    duck: duckdb.DuckDBPyConnection, min_percent: int, max_consecutive_gaps: int, *, everything: bool = False
) -> CoverageResult:
    """Judge the coverage of the mart's run; with ``everything``, also of what earlier runs read, if it was limited to others.

    It has failed if less than ``min_percent`` of its account-regions were read completely, or if none was in scope, unless the
    minimum is 0. Otherwise it is done if no account-region has had gaps for more than ``max_consecutive_gaps`` runs in a row, and
    partial if one has.
    """
    row = duck.execute(_QUERY, {"everything": everything}).fetchone()
    if row is None:
        return CoverageResult(FAILED, "the mart has no run: run `kmsledger crawl` first")
    complete_run, complete, total, percent, incomplete, longest = row
    share = "unknown" if percent is None else f"{percent} %"
    message = f"coverage is {share} ({complete:,} of {counted(total, 'account-region')} read completely)"
    if incomplete:
        message += f", with gaps in {incomplete:,} for up to {counted(longest, 'run')} in a row"
    if min_percent and (not total or complete * 100 < min_percent * total):
        code, message = FAILED, f"{message}, which is below the minimum of {min_percent} %"
    elif complete_run and not incomplete:
        code = DONE
    elif incomplete and longest <= max_consecutive_gaps:
        code, message = DONE, f"{message}, which coverage.max_consecutive_gaps tolerates"
    else:
        code = PARTIAL
    return CoverageResult(code, message, incomplete)

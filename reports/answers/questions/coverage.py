"""Show what the run could not read, the worst first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from models.cli_options import AS_OF
from reports.answers.question import question

if TYPE_CHECKING:
    from reports.answers.coverage import CoverageReport

_COLUMNS = (
    *("account_id", "account_name", "region", "outcome", "gaps", "actions", "causes", "since_run", "since"),
    *("consecutive_runs", "read_run_id"),
)


@question(AS_OF, columns=_COLUMNS, rows=lambda document: document["incomplete"])
def coverage(mart: Path, as_of: str | None) -> CoverageReport:
    """Show the account-regions that the run did not read completely, why, and for how many runs in a row.

    Account-regions of which nothing was read come first, then those with gaps for most runs.

    Exit codes: 0 everything was read, 3 something is unknown.

    JSON has `format`, `as_of`, the columns of view run_coverage, and `incomplete`: the columns of view
    incomplete_account_regions, as in CSV.
    """
    from reports.answers.coverage import coverage as incomplete

    return incomplete(mart, as_of=as_of)

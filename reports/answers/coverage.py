"""What a run could not read: the account-regions with gaps, the worst first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from models.safe_text import printable
from reports.answers.change_event import format_account_region
from reports.answers.runs import limits
from reports.answers.text import and_more, counted
from reports.mart.as_of import RunRef, moments, resolve_as_of
from reports.mart.mart_reader import open_mart
from reports.mart.rows import rows

FORMAT: Final = "kmsledger.coverage/1"
_MAX_ACTIONS: Final = 5
_INCOMPLETE: Final = """
FROM incomplete_account_regions
ORDER BY outcome <> 'failed', consecutive_runs DESC, gaps DESC, account_id, region
"""
_COVERAGE: Final = (
    "SELECT account_regions, complete, partial, failed, coverage_percent FROM run_coverage WHERE run_id = $run"
)
_LIMITS: Final = "SELECT only_accounts, only_regions FROM runs WHERE run_id = $run"


@dataclass(frozen=True, slots=True)
class CoverageReport:
    """The rows of view incomplete_account_regions, the worst first, and the run's coverage."""

    run: RunRef
    totals: dict[str, Any]
    rows: list[dict[str, Any]]
    limits: str = ""
    """What the run was limited to, as a clause."""

    @property
    def known(self) -> bool:
        """Whether everything was read."""
        return not self.rows

    def to_dict(self) -> dict[str, Any]:
        """The JSON document."""
        return {"format": FORMAT, "as_of": self.run, **self.totals, "incomplete": self.rows}

    def to_text(self) -> str:
        """Text for a terminal: an account-region per paragraph, with its causes."""
        total, percent = self.totals["account_regions"], self.totals["coverage_percent"]
        share = "unknown coverage" if percent is None else f"{percent} %"
        read = f"{self.totals['complete']:,} of {counted(total, 'account-region')} completely ({share})"
        lines = [f"Run {self.run.run_id} read {read}."]
        if self.limits:
            lines.append(f"It was {self.limits}: everything else is as earlier runs read it.")
        for row in self.rows:
            place = format_account_region(
                row["account_id"], row["account_name"], row["region"].replace("*", "all regions")
            )
            gaps = f", {counted(row['gaps'], 'gap')}" if row["gaps"] else ""
            streak = f"for {counted(row['consecutive_runs'], 'run')} (since run {row['since_run']})"
            lines += [f"{place}: {row['outcome']}{gaps}, {streak}"]
            lines += [f"  {cause}" for cause in row["causes"]]
            if row["actions"]:
                lines += [f"  {and_more(row['actions'], limit=_MAX_ACTIONS)}"]
        if self.rows:
            lines += ["`kmsledger denials` prints the statement that allows each denied call."]
        return "\n".join(map(printable, lines))


def coverage(mart: Path, *, as_of: str | None = None) -> CoverageReport:
    """What the run could not read. Raises MartError or QueryError."""
    duck, run = open_mart(mart, as_of)
    with duck:
        run = run or resolve_as_of(moments(duck))
        nothing = {"account_regions": 0, "complete": 0, "partial": 0, "failed": 0, "coverage_percent": None}
        totals = rows(duck, _COVERAGE, {"run": run.run_id})
        (of_run,) = rows(duck, _LIMITS, {"run": run.run_id})
        return CoverageReport(run, totals[0] if totals else nothing, rows(duck, _INCOMPLETE), limits(of_run))

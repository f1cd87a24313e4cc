"""The history of the figures over the latest runs. A run without a value, because it failed or had no rules yet, has None."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from models.severities import SEVERITIES
from reports.html.charts import Bars, bars
from reports.html.filters import date
from reports.html.query_runner import Source
from reports.mart.rows import Row

RUNS: Final = 90
"""The number of runs in the largest chart."""
SPARKLINE: Final = 30
"""The number of runs in a sparkline."""
RISK_RULE: Final = "key-unusable-in-use"
"""The rule that fails for keys at risk: keys in use that are disabled, unavailable or scheduled for deletion."""


@dataclass(frozen=True)
class Series:
    """The values of a figure in consecutive runs, the latest last; None where the value is unknown."""

    runs: Sequence[Row]
    values: Sequence[int | None]
    unit: str = ""

    @property
    def change(self) -> int | None:
        """The difference between the latest run and the last one before it that has a value; None if one is missing."""
        known = [value for value in self.values[:-1] if value is not None]
        latest = self.values[-1] if self.values else None
        return latest - known[-1] if known and latest is not None else None

    @property
    def text(self) -> str:
        """The chart in words."""
        known = [(run, value) for run, value in zip(self.runs, self.values, strict=True) if value is not None]
        if not known:
            return "no earlier value"
        parts = [f"{date(run['started_at'])}: {value:,}{self.unit}" for run, value in (known[0], known[-1])]
        missing = len(self.values) - len(known)
        unknown = f"; unknown in {missing:,} of {len(self.values):,} runs" if missing else ""
        return f"{' to '.join(dict.fromkeys(parts))}, highest {max(value for _, value in known):,}{self.unit}{unknown}"


class History:
    """The latest runs of the mart with their figures."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.runs = source.table("recent_runs", runs=RUNS)
        self._run_ids = [run["run_id"] for run in self.runs]

    @property
    def has_results(self) -> bool:
        """Whether rules were evaluated, in this run or an earlier one."""
        return any(run["first_evaluated"] is not None for run in self.runs)

    @property
    def evaluated(self) -> list[bool]:
        """For each run, whether it has results of rules."""
        return [run["finished"] and run["run_id"] >= (run["first_evaluated"] or run["run_id"] + 1) for run in self.runs]

    @cached_property
    def failures(self) -> list[dict[str, int] | None]:
        """The open failures in each run: by severity, and `at_risk` for keys at risk."""
        rows = self._source.rows("failure_trend", run_ids=self._run_ids, risk_rule=RISK_RULE)
        changes = {(row["series"], row["run_id"]): row["failures"] for row in rows}
        total, failures = dict.fromkeys((*SEVERITIES, "at_risk"), 0), list[dict[str, int] | None]()
        for run_id, known in zip(self._run_ids, self.evaluated, strict=True):
            total = {name: count + changes.get((name, run_id), 0) for name, count in total.items()}
            failures.append(total if known else None)
        return failures

    def severities(self, runs: int) -> Bars:
        """The chart of the open failures by severity in the latest runs."""
        return bars(
            [[counts[name] for name in SEVERITIES] if counts else None for counts in self.failures[-runs:]], least=1
        )

    @cached_property
    def flow(self) -> list[tuple[int, int] | None]:
        """How many findings began to fail and were resolved in each run; the first results of rules are not new."""
        rows = self._source.rows("failure_flow", run_ids=self._run_ids)
        counts = {row["run_id"]: (row["began"], row["resolved"]) for row in rows}
        return [
            counts.get(run["run_id"], (0, 0)) if known and run["run_id"] > run["first_evaluated"] else None
            for run, known in zip(self.runs, self.evaluated, strict=True)
        ]

    def titles(self, runs: int) -> list[str]:
        """The columns of that chart in words."""
        return [
            f"Run {run['run_id']}, {date(run['started_at'])}: "
            + (", ".join(f"{counts[name]:,} {name}" for name in SEVERITIES) if counts else "unknown")
            for run, counts in zip(self.runs[-runs:], self.failures[-runs:], strict=True)
        ]

    @property
    def flow_charts(self) -> tuple[Bars, Bars]:
        """The findings that began to fail, and those that were resolved, on the same scale."""
        flow = self.flow[-SPARKLINE:]
        highest = max((max(counts) for counts in flow if counts), default=0)
        began, resolved = (
            bars(
                [counts and counts[index : index + 1] for counts in flow], capacity=SPARKLINE, least=3, highest=highest
            )
            for index in (0, 1)
        )
        return began, resolved

    def open(self, *names: str) -> Series:
        """The sum of the open failures of some severities."""
        return self._series([sum(counts[name] for name in names) if counts else None for counts in self.failures])

    @cached_property
    def parties(self) -> Series:
        """The parties outside the organization with access to keys."""
        rows = self._source.rows("party_trend", run_ids=self._run_ids)
        return self._by_run({row["run_id"]: row["parties"] for row in rows})

    @cached_property
    def coverage(self) -> Series:
        """The percentage of account-regions that were read completely, rounded down."""
        rows = self._source.rows("coverage_trend", run_ids=self._run_ids)
        return self._by_run({row["run_id"]: row["coverage_percent"] for row in rows}, " %")

    def _by_run(self, values: Mapping[int, int], unit: str = "") -> Series:
        return self._series([values.get(run["run_id"]) if run["finished"] else None for run in self.runs], unit)

    def _series(self, values: Sequence[int | None], unit: str = "") -> Series:
        return Series(self.runs[-SPARKLINE:], values[-SPARKLINE:], unit)

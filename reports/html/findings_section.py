"""The results of the rules for reports and mail: counts, status changes of the run, and the findings of each rule."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from itertools import groupby
from typing import Final

from models.settings import Settings
from reports.html.query_runner import Source
from reports.mart.rows import Row
from reports.rules.findings import STATUSES

STATUS_CHANGES: Final = ("new", "reopened", "returned", "unknown", "resolved")
"""The status changes of a finding in a run; `returned`: it failed before, and was waived or unknown in between."""
TREND_RUNS: Final = 30
"""The number of runs in the trend of a rule."""
SHOWN_STATUS_CHANGES: Final = 25
"""The maximum number of findings listed per status change."""


class FindingsSection:
    """The results of the rules for the mart's run."""

    def __init__(self, source: Source, settings: Settings, run: Row, *, counts_passes: bool = True) -> None:
        self._source = source
        self._run = run
        self.limit = settings.report.findings_limit
        self.statuses = STATUSES if counts_passes else STATUSES[: STATUSES.index("pass")]
        """The statuses whose findings are counted."""

    @cached_property
    def rules(self) -> list[Row]:
        """The rules with their counts: failing rules first, then rules with unknown results, each by severity."""
        changes, uncounted = self._status_changes_by_rule, dict.fromkeys(set(STATUSES).difference(self.statuses))
        return [
            {**row, **uncounted, "status_changes": changes.get(row["rule_id"], {})}
            for row in self._source.table("rules")
        ]

    @cached_property
    def by_id(self) -> dict[str, Row]:
        """The enabled rules by ID."""
        return {rule["rule_id"]: rule for rule in self.rules}

    @cached_property
    def totals(self) -> dict[str, int]:
        """Findings by status."""
        return {name: sum(rule[name] for rule in self.rules) for name in self.statuses}

    @cached_property
    def has_previous_results(self) -> bool:
        """Whether rules were evaluated for an earlier run; otherwise there is nothing to compare with."""
        return bool(self._evaluations["earlier"])

    @property
    def is_evaluated(self) -> bool:
        """Whether rules were evaluated for this run."""
        return bool(self._evaluations["current"])

    @property
    def _evaluations(self) -> Row:
        return self._source.row("rule_evaluations", run_id=self._run["run_id"]) or {}

    @cached_property
    def _status_changes_by_rule(self) -> Mapping[str, Mapping[str, int]]:
        if not self.has_previous_results:
            return {}
        changes: dict[str, dict[str, int]] = {}
        for row in self._source.table("status_changes", at=self._run["started_at"]):
            changes.setdefault(row["rule_id"], {})[row["status_change"]] = row["findings"]
        return changes

    @cached_property
    def status_changes(self) -> dict[str, int]:
        """The number of findings per status change in this run; zeros if no earlier run has results."""
        return {
            name: sum(counts.get(name, 0) for counts in self._status_changes_by_rule.values())
            for name in STATUS_CHANGES
        }

    @cached_property
    def status_change_rows(self) -> list[tuple[str, list[Row]]]:
        """The most severe findings per status change in this run."""
        if not any(self.status_changes.values()):
            return []
        rows = self._source.rows(
            "status_change_rows", at=self._run["started_at"], run_id=self._run["run_id"], limit=SHOWN_STATUS_CHANGES
        )
        return [(name, list(group)) for name, group in groupby(rows, lambda row: row["status_change"])]

    @cached_property
    def trends(self) -> dict[str, list[Row]]:
        """Failing and unknown resources by rule, for the latest runs."""
        groups = groupby(self._source.table("trend", runs=TREND_RUNS), lambda row: row["rule_id"])
        return {rule_id: list(rows) for rule_id, rows in groups}

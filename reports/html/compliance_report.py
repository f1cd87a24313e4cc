"""The sections of the report `compliance`: frameworks with their controls, and the rules behind them as evidence."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any, Final

from reports.html.charts import TrendPoint
from reports.html.findings_section import FindingsSection
from reports.html.query_runner import LimitedRows, Row
from reports.html.run_header import RunReport
from reports.rules.findings import STATUSES
from reports.rules.framework_loader import check_frameworks

TREND_RUNS: Final = 14
"""The number of runs in a trend chart."""

LISTED: Final = 25
"""The maximum number of failing, and of unknown resources listed per control; their total is always shown."""

STATES: Final[dict[str, str]] = {
    "fail": "Failed",
    "unknown": "Unknown",
    "pass": "Met",
    "not_applicable": "Not applicable",
}
"""The states of a control, in display order."""


@dataclass(frozen=True)
class Control:
    """A control with the results of its rules: `rules` are the enabled ones, `missing` the IDs of the disabled ones."""

    row: Row
    rules: tuple[Row, ...]
    missing: tuple[str, ...]
    waivers: tuple[Row, ...]

    @property
    def state(self) -> str:
        """fail, unknown, pass or not_applicable."""
        return str(self.row["status"])

    @property
    def counts(self) -> list[tuple[str, int]]:
        """Resources by status, over all its rules."""
        return [(name, self.row[name]) for name in STATUSES]


class ComplianceReport(RunReport):
    """The data of the template."""

    states: Final = STATES
    trend_runs: Final = TREND_RUNS

    @cached_property
    def causes(self) -> LimitedRows:
        """The unread scopes and missing answers, by cause."""
        return self._source.limited("unread_scopes", self._limit)

    @cached_property
    def findings(self) -> FindingsSection:
        """The results of the rules."""
        return FindingsSection(self._source, self._settings, self.run)

    @cached_property
    def frameworks(self) -> list[Row]:
        """The frameworks selected in the settings, in that order; all frameworks if none is selected.

        Raises UnknownFrameworkError.
        """
        check_frameworks(self._settings)
        by_name = {row["framework"]: row for row in self._source.rows("frameworks")}
        selected = self._settings.report.frameworks
        return [by_name[name] for name in selected] if selected else list(by_name.values())

    @staticmethod
    def states_of(framework: Row) -> list[tuple[str, int]]:
        """The number of controls of a framework per state."""
        return [(name, framework[name]) for name in STATES]

    def controls(self, framework: str) -> list[Control]:
        """The controls of a framework."""
        rules = self.findings.by_id
        return [
            Control(
                row,
                tuple(rules[name] for name in row["rules"] if name in rules),
                tuple(name for name in row["rules"] if name not in rules),
                tuple(waiver for waiver in self.active_waivers if waiver["rule_id"] in row["rules"]),
            )
            for row in self._source.rows("controls", framework=framework)
        ]

    @cached_property
    def waivers(self) -> LimitedRows:
        """All waivers, up to the limit."""
        return self._source.limited("waivers", self._limit).buffered()

    @cached_property
    def register(self) -> list[Row]:
        """The rows of the waivers."""
        return list(self.waivers.rows)

    @property
    def active_waivers(self) -> list[Row]:
        """The waivers that are valid in this run, of enabled rules."""
        return [row for row in self.register if not row["expired"] and row["rule_enabled"]]

    def open_resources(self, control: Control, status: str) -> list[tuple[Row, list[Row]]]:
        """The first resources that fail a control or are unknown under it, by rule."""
        left, resources = LISTED, []
        for rule in control.rules:
            if left and rule[status]:
                listed = self._first_findings.get(rule["rule_id"], ())
                rows = [row for row in listed if row["status"] == status][:left]
                resources.append((rule, rows))
                left -= len(rows)
        return resources

    @cached_property
    def _first_findings(self) -> dict[str, list[Row]]:
        rows = groupby(self.findings.first(LISTED), lambda row: row["rule_id"])
        return {rule_id: list(group) for rule_id, group in rows}

    @cached_property
    def trends(self) -> dict[str, list[TrendPoint]]:
        """Failing and unknown resources by rule, for the latest runs."""
        trends: dict[str, list[TrendPoint]] = {}
        for row in self._source.rows("trend", runs=TREND_RUNS):
            trends.setdefault(row["rule_id"], []).append(TrendPoint(row["started_at"], row["fail"], row["unknown"]))
        return trends

    @property
    def catalogue(self) -> list[tuple[str, list[Row]]]:
        """The rules by family."""
        families: dict[str, list[Row]] = {}
        for rule in sorted(self.findings.rules, key=lambda rule: rule["rule_id"]):
            families.setdefault(rule["family"], []).append(rule)
        return sorted(families.items())

    @staticmethod
    def parameters(rule: Row) -> list[tuple[str, str]]:
        """The parameters of a rule and their values in the run."""
        values: dict[str, Any] = json.loads(rule["parameters"] or "{}")
        return [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in values.items()]

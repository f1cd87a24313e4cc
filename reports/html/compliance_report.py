"""The sections of the report `compliance`: frameworks with their controls, and the rules behind them as evidence."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from reports.html.charts import Night
from reports.html.findings_section import STATUSES, Verdicts
from reports.html.query_runner import Cut, Row
from reports.html.run_header import RunReport
from reports.rules.framework_loader import check_frameworks

NIGHTS: Final = 14
"""How many nights a trend shows."""

LISTED: Final = 25
"""How many failing, and how many unknown resources are listed under one control; their full number is always stated."""

STATES: Final[dict[str, str]] = {
    "fail": "Failed",
    "unknown": "Not fully known",
    "pass": "Met",
    "not_applicable": "Nothing to judge",
}
"""The states of a control, in the order in which they are always shown."""


@dataclass(frozen=True)
class Control:
    """A control with what its rules say. `rules` are those in force, `missing` the ids of those that are not."""

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


class Compliance(RunReport):
    """What the template asks of the mart."""

    states: Final = STATES
    nights: Final = NIGHTS

    @cached_property
    def causes(self) -> Cut:
        """What could not be looked at, by cause."""
        return self._source.cut("unread_scopes", self._limit)

    @cached_property
    def verdicts(self) -> Verdicts:
        """What the rules say."""
        return Verdicts(self._source, self._settings, self.run)

    @cached_property
    def frameworks(self) -> list[Row]:
        """The frameworks that the settings choose, in their order; all where they choose none.

        Raises UnknownFrameworkError.
        """
        check_frameworks(self._settings)
        found = {row["framework"]: row for row in self._source.rows("frameworks")}
        wanted = self._settings.report.frameworks
        return [found[name] for name in wanted] if wanted else list(found.values())

    @staticmethod
    def states_of(framework: Row) -> list[tuple[str, int]]:
        """Controls of a framework by state."""
        return [(name, framework[name]) for name in STATES]

    def controls(self, framework: str) -> list[Control]:
        """The controls of a framework."""
        rules = self.verdicts.by_id
        return [
            Control(
                row,
                tuple(rules[name] for name in row["rules"] if name in rules),
                tuple(name for name in row["rules"] if name not in rules),
                tuple(one for one in self.waivers_in_force if one["rule_id"] in row["rules"]),
            )
            for row in self._source.rows("controls", framework=framework)
        ]

    @cached_property
    def waivers(self) -> Cut:
        """The register of waivers."""
        cut = self._source.cut("waivers", self._limit)
        return Cut(cut.total, cut.limit, iter(list(cut.rows)))

    @cached_property
    def register(self) -> list[Row]:
        """The rows of that register."""
        return list(self.waivers.rows)

    @property
    def waivers_in_force(self) -> list[Row]:
        """Those that hold in this run, for rules that are in force."""
        return [row for row in self.register if not row["expired"] and row["in_force"]]

    @cached_property
    def _open(self) -> dict[str, list[Row]]:
        return {}

    def open_resources(self, control: Control, status: str) -> list[tuple[Row, list[Row]]]:
        """The first resources that fail a control or are unknown under it, by rule."""
        left, found = LISTED, []
        for rule in control.rules:
            if left and rule[status]:
                rows = [row for row in self._first(rule["rule_id"]) if row["status"] == status][:left]
                found.append((rule, rows))
                left -= len(rows)
        return found

    def _first(self, rule_id: str) -> list[Row]:
        # One rule answers many controls.
        if rule_id not in self._open:
            self._open[rule_id] = list(self.verdicts.listed(rule_id, LISTED))
        return self._open[rule_id]

    @cached_property
    def trends(self) -> dict[str, list[Night]]:
        """Failing and unknown resources by rule, for the last nights."""
        found: dict[str, list[Night]] = {}
        for row in self._source.rows("trend", runs=NIGHTS):
            found.setdefault(row["rule_id"], []).append(Night(row["started_at"], row["fail"], row["unknown"]))
        return found

    @property
    def catalogue(self) -> list[tuple[str, list[Row]]]:
        """The rules by family."""
        families: dict[str, list[Row]] = {}
        for rule in sorted(self.verdicts.rules, key=lambda rule: rule["rule_id"]):
            families.setdefault(rule["family"], []).append(rule)
        return sorted(families.items())

    @staticmethod
    def parameters(rule: Row) -> list[tuple[str, str]]:
        """The parameters of a rule with the values that were in force."""
        values: dict[str, Any] = json.loads(rule["parameters"] or "{}")
        return [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in values.items()]

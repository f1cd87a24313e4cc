"""The sections of the report `compliance`: frameworks with their controls, and the rules behind them as evidence."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any, Final

from reports.html.findings_section import TREND_RUNS, FindingsSection
from reports.html.labels import CONTROL_STATES
from reports.html.query_runner import LimitedRows
from reports.html.run_header import RunReport
from reports.html.tables import DataTable
from reports.mart.rows import Row
from reports.rules.framework_loader import check_frameworks

LISTED: Final = 10
"""The maximum number of failing, and of unknown resources listed per control; the table of findings has all of them."""

_DIGITS: Final = re.compile(r"\d+")


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


class ComplianceReport(RunReport):
    """The data of the template."""

    tables = ("frameworks", "findings", "waivers")
    links = ("f", "rule")
    states: Final = CONTROL_STATES
    trend_runs: Final = TREND_RUNS

    @cached_property
    def findings(self) -> FindingsSection:
        """The results of the rules."""
        return FindingsSection(self._source, self._settings, self.run)

    @cached_property
    def frameworks(self) -> list[Row]:
        """The frameworks selected in the settings, in that order; if none is selected, each in its current version.

        Raises UnknownFrameworkError.
        """
        check_frameworks(self._settings)
        by_name = {row["framework"]: row for row in self.rows("frameworks")}
        selected = self._settings.report.frameworks
        if selected:
            return [by_name[name] for name in selected]
        current = {row["title"]: row for row in sorted(by_name.values(), key=_version)}
        return sorted(current.values(), key=lambda row: row["title"])

    @property
    def other_frameworks(self) -> list[Row]:
        """The frameworks that the report does not show."""
        shown = {row["framework"] for row in self.frameworks}
        return [row for row in self.rows("frameworks") if row["framework"] not in shown]

    def summary(self) -> DataTable:
        """The frameworks with the states of their controls."""
        rows = [
            {
                **{name: row[name] for name in ("framework", "controls", *CONTROL_STATES)},
                "name": f"{row['title']} {row['version']}",
                "counts": [row[name] for name in CONTROL_STATES],
            }
            for row in self.frameworks
        ]
        return self.table_of("frameworks", rows)

    @cached_property
    def evidence(self) -> DataTable:
        """The failed, unknown and waived findings of all rules."""
        return self.open_findings(self.findings)

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
            for row in self.rows("controls")
            if row["framework"] == framework
        ]

    @cached_property
    def waivers(self) -> LimitedRows:
        """All waivers, up to the limit."""
        return self.table("waivers")

    def waiver_table(self) -> DataTable:
        """The register of waivers."""
        rows = [
            {
                **{
                    name: row[name] for name in ("waiver", "source", "rule_id", "resource", "reason", "owner", "ticket")
                },
                "title": row["title"] or "the rule is disabled",
                "account": f"in {row['account_id']}" if row["account_id"] else None,
                "unknown_too": "also if unknown" if row["include_unknown"] else None,
                "expires": str(row["expires"]),
                "expired": "expired" if row["expired"] else None,
                "waived_count": row["waived_count"],
            }
            for row in self.waivers.rows
        ]
        return replace(self.table_of("waivers", rows), total=self.waivers.total)

    @property
    def active_waivers(self) -> list[Row]:
        """The waivers that are valid in this run, of enabled rules."""
        return [row for row in self.waivers.rows if not row["expired"] and row["rule_enabled"]]

    def open_resources(self, control: Control, status: str) -> list[Row]:
        """The first findings of a control with a status, in the order of its rules."""
        listed = (row for rule in control.rules for row in self._by_rule.get((rule["rule_id"], status), ()))
        return list(islice(listed, LISTED))

    @cached_property
    def _by_rule(self) -> dict[tuple[str, str], list[Row]]:
        table, found = self.evidence, defaultdict[tuple[str, str], list[Row]](list)
        for values in table.rows:
            row = dict(zip(table.fields, values, strict=True))
            first = found[row["rule_id"], row["status"]]
            if len(first) < LISTED:
                first.append(row)
        return found

    @staticmethod
    def parameters(rule: Row) -> list[tuple[str, str]]:
        """The parameters of a rule and their values in the run."""
        values: dict[str, Any] = json.loads(rule["parameters"] or "{}")
        return [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in values.items()]


def _version(row: Row) -> list[int]:
    return [int(number) for number in _DIGITS.findall(row["version"])]

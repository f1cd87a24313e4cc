"""The sections of the report `overview`: one query per section, executed when the template renders it."""

from __future__ import annotations

from functools import cached_property
from itertools import groupby
from typing import Final

from reports.html.action_items import ActionItem, ActionList, action_list
from reports.html.findings_section import FindingsSection
from reports.html.labels import ALWAYS_LISTED, CLASSES
from reports.html.query_runner import LimitedRows
from reports.html.run_header import RunReport
from reports.mart.rows import Row

NESTED: Final = 50
"""The maximum number of grants, resources or keys listed within a row; their total is always shown."""

NESTED_INTERNAL: Final = 10
"""The same for the keys of principals in the organization, which most policies name."""


class OverviewReport(RunReport):
    """The data of the template."""

    @cached_property
    def findings(self) -> FindingsSection:
        """The results of the rules."""
        return FindingsSection(self._source, self._settings, self.run)

    @cached_property
    def _actions(self) -> ActionList:
        return action_list(self._source, self.run, self._limit)

    @property
    def action_items(self) -> tuple[ActionItem, ...]:
        """What needs attention today."""
        return self._actions.items

    @cached_property
    def figures(self) -> Row:
        """The key figures of the summary."""
        return self._source.row("kpis", run_id=self.run["run_id"]) or {}

    @cached_property
    def severities(self) -> list[Row]:
        """Findings by severity and status."""
        return self._source.table("severities")

    def keys(self) -> LimitedRows:
        """Keys with policy, grants, tags and dependents; keys at risk first."""
        return self._source.limited("keys", self._limit, first=list(self._actions.keys), nested=NESTED)

    def protects(self) -> LimitedRows:
        """Keys by the number of their dependents."""
        return self._source.limited("key_dependents", self._limit, nested=NESTED)

    @cached_property
    def classes(self) -> dict[str, dict[str, int]]:
        """References by service and key class; the services in ALWAYS_LISTED come first."""
        by_service = {
            service: {row["key_class"]: row["references"] for row in rows}
            for service, rows in groupby(self._source.rows("key_class_counts"), lambda row: row["service"])
        }
        return {name: by_service.pop(name, {}) for name in ALWAYS_LISTED} | by_service

    @property
    def all_classes(self) -> dict[str, int]:
        """References by key class, over all services."""
        return {name: sum(counts.get(name, 0) for counts in self.classes.values()) for name in CLASSES}

    def usage(self, service: str) -> LimitedRows:
        """The references to keys in one service."""
        return self._source.limited("usage", self._limit, service=service)

    @cached_property
    def external_counts(self) -> list[Row]:
        """The number of named principals outside the organization, by party."""
        return self._source.table("external_party_counts")

    def parties(self, *, external: bool) -> LimitedRows:
        """The principals named in policies and grants, outside or inside the organization."""
        nested = NESTED if external else NESTED_INTERNAL
        return self._source.limited("external_principals", self._limit, external=external, nested=nested)

    def changes(self) -> LimitedRows:
        """The changes since the previous run."""
        return self._source.limited("changes", self._limit, run_id=self.run["run_id"])

    @cached_property
    def vendor_profiles(self) -> list[Row]:
        """The vendor profiles in use, with their counts."""
        return self._source.table("vendor_profiles")

    @property
    def vendor_failing(self) -> int:
        """The number of broken, blocked and over-shared keys, plus the findings that are not about keys."""
        counted = ("broken", "blocked_by_policy", "over_shared", "wrong")
        return sum(row[name] for row in self.vendor_profiles for name in counted)

    def vendor_checks(self, profile: str) -> LimitedRows:
        """The results of one profile."""
        return self._source.limited("vendor_rows", self._limit, profile=profile)

    @cached_property
    def regions(self) -> list[str]:
        """The regions of the coverage matrix."""
        return [row["region"] for row in self._source.rows("regions")]

    def matrix(self) -> LimitedRows:
        """Accounts with the outcome of each region."""
        return self._source.limited("coverage_matrix", self._limit)

"""The sections of the report `overview`: one query per section, executed when the template renders it."""

from __future__ import annotations

from functools import cached_property
from itertools import groupby

from reports.html.findings_section import FindingsSection
from reports.html.labels import ALWAYS_LISTED, CLASSES
from reports.html.query_runner import LimitedRows
from reports.html.run_header import RunReport
from reports.html.situations import LISTED, Situations, situations
from reports.mart.rows import Row


class OverviewReport(RunReport):
    """The data of the template."""

    @cached_property
    def findings(self) -> FindingsSection:
        """The results of the rules."""
        return FindingsSection(self._source, self._settings, self.run)

    @cached_property
    def situations(self) -> Situations:
        """What needs attention, by root cause."""
        limit = min(self._limit, LISTED)
        return situations(
            self._source.limited("situations", limit, at=self.run["started_at"], run_id=self.run["run_id"])
        )

    @cached_property
    def figures(self) -> Row:
        """The key figures of the summary."""
        return next(iter(self.rows("kpis")), {})

    def keys(self) -> LimitedRows:
        """Keys with policy, grants, tags and dependents; the keys of situations first."""
        return self.table("keys", first=list(self.situations.keys))

    @cached_property
    def classes(self) -> dict[str, dict[str, int]]:
        """References by service and key class; the services in ALWAYS_LISTED come first."""
        by_service = {
            service: {row["key_class"]: row["references"] for row in rows}
            for service, rows in groupby(self.rows("key_class_counts"), lambda row: row["service"])
        }
        return {name: by_service.pop(name, {}) for name in ALWAYS_LISTED} | by_service

    @property
    def all_classes(self) -> dict[str, int]:
        """References by key class, over all services."""
        return {name: sum(counts.get(name, 0) for counts in self.classes.values()) for name in CLASSES}

    @property
    def vendor_failing(self) -> int:
        """The number of broken, blocked and over-shared keys, plus the deviations from vendor requirements."""
        counted = ("broken", "blocked_by_policy", "over_shared", "wrong")
        return sum(row[name] for row in self.rows("vendor_profiles") for name in counted)

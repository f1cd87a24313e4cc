"""The sections of the report `estate`. Each is one query, and is read when the template comes to it."""

from __future__ import annotations

from functools import cached_property
from itertools import groupby
from typing import Final

from reports.html.action_items import Attention, attention
from reports.html.findings_section import Verdicts
from reports.html.labels import ALWAYS_LISTED, CLASSES
from reports.html.query_runner import Cut, Row
from reports.html.run_header import RunReport

NESTED: Final = 50
"""How many grants, resources or keys are listed inside one row; their full number is always stated."""

FEW: Final = 10
"""The same for keys that name somebody of the organization, which is what policies do."""


class Estate(RunReport):
    """What the template asks of the mart."""

    @cached_property
    def verdicts(self) -> Verdicts:
        """What the rules say."""
        return Verdicts(self._source, self._settings, self.run)

    @cached_property
    def attention(self) -> Attention:
        """What needs attention today."""
        return attention(self._source, self.run, self._limit)

    @cached_property
    def figures(self) -> Row:
        """The figures of the summary."""
        return self._source.row("kpis", run_id=self.run["run_id"]) or {}

    @cached_property
    def severities(self) -> list[Row]:
        """Findings by severity and status."""
        return list(self._source.rows("severities"))

    def keys(self) -> Cut:
        """Keys with policy, grants, tags and uses; those that need attention first."""
        return self._source.cut("keys", self._limit, first=list(self.attention.keys), nested=NESTED)

    def protects(self) -> Cut:
        """Keys by what depends on them."""
        return self._source.cut("key_dependents", self._limit, nested=NESTED)

    @cached_property
    def classes(self) -> dict[str, dict[str, int]]:
        """References by service, then by kind of key; the four services that are always reported come first."""
        found = {
            service: {row["key_class"]: row["uses"] for row in rows}
            for service, rows in groupby(self._source.rows("key_class_counts"), lambda row: row["service"])
        }
        return {name: found.pop(name, {}) for name in ALWAYS_LISTED} | found

    @property
    def all_classes(self) -> dict[str, int]:
        """References by kind of key, over all services."""
        return {name: sum(counts.get(name, 0) for counts in self.classes.values()) for name in CLASSES}

    def usage(self, service: str) -> Cut:
        """What uses which key in one service."""
        return self._source.cut("usage", self._limit, service=service)

    @cached_property
    def outsiders(self) -> list[Row]:
        """How many parties outside the organization are named, by kind."""
        return list(self._source.rows("external_party_counts"))

    def parties(self, *, outside: bool) -> Cut:
        """Who is named in policies and grants, outside or inside the organization."""
        return self._source.cut("external_principals", self._limit, outside=outside, nested=NESTED if outside else FEW)

    def changes(self) -> Cut:
        """What changed since the run before."""
        return self._source.cut("changes", self._limit, run_id=self.run["run_id"])

    @cached_property
    def vendor_profiles(self) -> list[Row]:
        """The uses of vendor profiles with their counts."""
        return list(self._source.rows("vendor_profiles"))

    @property
    def vendor_failing(self) -> int:
        """How many keys are broken, blocked or shared too widely, and how many findings there are beside them."""
        counted = ("broken", "blocked_by_policy", "over_shared", "wrong")
        return sum(row[name] for row in self.vendor_profiles for name in counted)

    def vendor_checks(self, profile: str) -> Cut:
        """What one use of a profile says."""
        return self._source.cut("vendor_rows", self._limit, profile=profile)

    @cached_property
    def regions(self) -> list[str]:
        """The regions of the coverage matrix."""
        return [row["region"] for row in self._source.rows("regions")]

    def matrix(self) -> Cut:
        """Accounts with the outcome of each region."""
        return self._source.cut("coverage_matrix", self._limit)

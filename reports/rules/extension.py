"""Adds the rules, their framework controls, the waivers and the owners to a mart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from models.settings import Settings
from reports.mart.extension import Extension, fill
from reports.rules import framework_loader, waivers
from reports.rules.loader import Rule, rule_rows


@dataclass(frozen=True, slots=True)
class RuleTables(Extension):
    """Fills the tables that describe the rules in force; running the rules fills the results."""

    settings: Settings
    rules: Sequence[Rule]

    def prepare(self, duck: duckdb.DuckDBPyConnection) -> None:
        """Load rules, controls, waivers and owners. Raises SettingsError for an invalid waiver."""
        fill(duck, "rule", rule_rows(self.rules))
        framework_loader.prepare(duck)
        waivers.prepare(duck, self.settings, self.rules)

"""The sections of the report `key`: one key's life, who can use it and what depends on it."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from itertools import groupby
from typing import Any, Final

from reports.answers.change_event import Event
from reports.answers.key_history import KeyHistory, key_histories
from reports.html.overview_report import OverviewReport
from reports.html.tables import DataTable
from reports.mart.as_of import moments
from reports.mart.connection import CATALOG
from reports.mart.rows import Row

LISTED: Final = 500
"""The maximum number of events in the history; `kmsledger history` prints all of them."""


class KeyReport(OverviewReport):
    """The data of the template."""

    tables = ("key_access", "references", "key_findings", "checks", "gaps")
    listed_events = LISTED

    @cached_property
    def figures(self) -> Row | None:  # type: ignore[override]  # a deleted key has none
        """The key and its figures; None if it no longer exists."""
        return next(iter(self.rows("key_figures")), None)

    @cached_property
    def key_history(self) -> KeyHistory:
        """The history of the key until the run."""
        with self._source.cursor(CATALOG) as cursor:
            (history,) = key_histories(cursor, moments(cursor), self._key_arns)
        history.events = [event for event in history.events if event.run_id <= self.run["run_id"]]
        return history

    @property
    def _key_arns(self) -> list[str]:
        return [self.subject.name] if self.subject else []

    @cached_property
    def name(self) -> str:
        """The alias of the key, or its ID; the last alias, if it no longer exists."""
        if self.figures:
            return str(self.figures["name"])
        former = [period["alias_name"] for period in self.key_history.aliases if period["key_arn"] in self._key_arns]
        return former[-1] if former else self.key_history.key_id

    @property
    def runs(self) -> list[tuple[Event, list[Event]]]:
        """The latest events by run, the latest run first; each run as its first event, which has its number and time."""
        latest = self.key_history.events[-LISTED:]
        groups = [list(events) for _, events in groupby(latest, lambda event: event.run_id)]
        return [(events[0], events) for events in reversed(groups)]

    def references(self) -> DataTable:
        """The references of resources to the key, without columns about the key."""
        table = super().references()
        columns = [column for column in table.spec["columns"] if column[0] not in {"class", "by"}]
        return replace(table, spec={**table.spec, "columns": columns})

    def passport(self) -> DataTable:
        """The key with its policy and grants; its dependents have a section of their own."""
        table = self.keys()
        details: list[Any] = [part for part in table.spec["details"] if not part[2].startswith("uses")]
        return replace(table, spec={**table.spec, "details": details})

"""The header of every report: the run, and how much of its scope it could read."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final
from zoneinfo import ZoneInfo

from models.settings import Settings
from models.settings.report import UTC
from reports.answers.runs import limits
from reports.html.filters import time
from reports.html.findings_section import FindingsSection
from reports.html.query_runner import LimitedRows, Source, Values
from reports.html.subjects import Subject
from reports.html.tables import DataTable, PageState, specifications
from reports.mart.errors import MartError
from reports.mart.rows import Row

NESTED: Final = 20
"""The maximum number of grants, resources or keys listed within a row; their total is always shown."""


class RunReport:
    """The run and its coverage; each report adds its sections, and lists its `tables` and other targets of `links`.

    A report with a subject has only what concerns it: its source reads the restricted catalog.
    """

    tables: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    subject: Any = None
    """What the report is about, if not the whole organization."""

    def __init__(self, source: Source, settings: Settings, subject: Subject | None = None) -> None:
        self._source = source
        self._settings = settings
        self._limit = settings.report.list_limit
        declared = [specifications()[name] for name in self.tables]
        links = {*self.links, *self.tables}.union(*(table["ids"] for table in declared))
        self._page = PageState(sum(table["share"] for table in declared), frozenset(links))
        self.title = settings.report.title
        self.subject = subject

    def clock(self, moment: dt.datetime) -> str:
        """A time in UTC and, if the settings have another zone, in that zone."""
        zone, text = self._settings.report.time_zone, time(moment)
        if zone == UTC:
            return text
        local = moment.replace(tzinfo=dt.UTC).astimezone(ZoneInfo(zone))
        return f"{text} ({local:{'%H:%M' if local.date() == moment.date() else '%Y-%m-%d %H:%M'} %Z})"

    @property
    def slug(self) -> str:
        """What distinguishes the files of this report from those of other subjects; empty if there are none."""
        return self.subject.slug if self.subject else ""

    def table(self, query: str) -> LimitedRows:
        """The rows of a query, up to the configured limit."""
        return self._source.limited(query, self._limit)

    def data_table(self, name: str, **parameters: Any) -> DataTable:
        """The table whose rows the query with the same name returns, up to the configured limit."""
        values = self._source.values(
            name, **{"limit": self._limit, "run_id": self.run["run_id"], "nested": NESTED, **parameters}
        )
        return self._data_table(name, values)

    def table_of(self, name: str, rows: Sequence[Row]) -> DataTable:
        """The table with these rows."""
        fields = tuple(rows[0]) if rows else ()
        return self._data_table(name, Values(fields, [list(row.values()) for row in rows], len(rows)))

    def _data_table(self, name: str, values: Values) -> DataTable:
        spec = specifications()[name]
        sql = spec["sql"].replace("{}", str(self.run["run_id"]))
        sql = self.subject.limited(sql) if self.subject else sql
        return DataTable(name, spec, values.fields, values.rows, values.total, self._page, sql)

    def open_findings(self, section: FindingsSection) -> DataTable:
        """The failed, unknown and waived findings."""
        changes = {"at": self.run["started_at"], "compare": section.has_previous_results}
        listed = self._source.table("listed_findings", limit=self._limit, per_rule=section.limit, **changes)
        values = self._source.shared_values(
            "findings",
            rule_ids=[row["rule_id"] for row in listed],
            resource_arns=[row["resource_arn"] for row in listed],
            places=[row["place"] for row in listed],
            total=sum(section.totals[name] for name in ("fail", "unknown", "waived")),
            **changes,
        )
        return self._data_table("findings", values)

    def rows(self, query: str) -> list[Row]:
        """All rows of a query with few rows."""
        return self._source.table(query, run_id=self.run["run_id"])

    @cached_property
    def run(self) -> Row:
        """The run of the mart."""
        run = self._source.row("run")
        if run is None:
            raise MartError("the mart has no run: run `kmsledger crawl` first")
        return run

    @property
    def scopes(self) -> dict[str, int]:
        """The number of account-regions per outcome."""
        return {row["outcome"]: row["scopes"] for row in self.rows("scopes")}

    @property
    def in_scope(self) -> int:
        """The number of account-regions that the run had to read."""
        return sum(row["scopes"] for row in self.rows("scopes") if row["in_scope"])

    @property
    def limits(self) -> str:
        """What the run was limited to, as a clause; empty if it was not."""
        return limits(self.run)

    @property
    def from_earlier_runs(self) -> int:
        """The number of account-regions that were not part of this run and are as earlier runs read them."""
        return sum(row["earlier"] for row in self.rows("scopes"))

    @cached_property
    def unread_scopes(self) -> LimitedRows:
        """Unread scopes and missing answers, grouped by cause: at most ten rows."""
        return self._source.limited("unread_scopes", 10)

    @cached_property
    def service_gaps(self) -> dict[str, int]:
        """The number of open gaps per service."""
        return {row["service"]: row["gaps"] for row in self.rows("service_gaps")}

    @property
    def unknown_findings(self) -> int:
        """The number of findings whose status is unknown."""
        return sum(row["unknown"] for row in self.rows("severities"))

    @property
    def open_gaps(self) -> int:
        """The number of open gaps."""
        return sum(self.service_gaps.values())

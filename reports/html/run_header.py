"""What every report says first: which run it is about, and how much of the scope that run could read."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from models.settings import Settings
from reports.html.query_runner import Cut, Row, Source
from reports.mart.errors import MartError


class RunReport:
    """The run and its coverage. Reports add their own sections."""

    def __init__(self, source: Source, settings: Settings) -> None:
        self._source = source
        self._settings = settings
        self._limit = settings.report.list_limit
        self.title = settings.report.title

    def table(self, query: str, **parameters: Any) -> Cut:
        """The rows of a query, up to the limit of the settings: all that a section needs."""
        return self._source.cut(query, self._limit, **parameters)

    @cached_property
    def run(self) -> Row:
        """The run that the mart is about."""
        run = self._source.row("run")
        if run is None:
            raise MartError("the mart holds no run: run `kmsledger crawl` first")
        return run

    @cached_property
    def scopes(self) -> dict[str, int]:
        """Account-regions by outcome."""
        return {row["outcome"]: row["scopes"] for row in self._source.rows("scopes")}

    @property
    def in_scope(self) -> int:
        """Account-regions that the run was asked to read."""
        return sum(self.scopes.get(outcome, 0) for outcome in ("complete", "partial", "failed"))

    @cached_property
    def missing(self) -> Cut:
        """What is missing, grouped by cause: at most ten lines."""
        cut = self._source.cut("unread_scopes", 10)
        return Cut(cut.total, cut.limit, iter(list(cut.rows)))

    @cached_property
    def service_gaps(self) -> dict[str, int]:
        """Missing answers by service."""
        return {row["service"]: row["gaps"] for row in self._source.rows("service_gaps")}

    @property
    def open_gaps(self) -> int:
        """How many answers are missing."""
        return sum(self.service_gaps.values())

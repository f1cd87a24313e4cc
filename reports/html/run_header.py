"""The header of every report: the run, and how much of its scope it could read."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final

from models.settings import Settings
from reports.html.query_runner import LimitedRows, Source
from reports.mart.errors import MartError
from reports.mart.rows import Row

NESTED: Final = 50
"""The maximum number of grants, resources or keys listed within a row; their total is always shown."""


class RunReport:
    """The run and its coverage; each report adds its sections."""

    def __init__(self, source: Source, settings: Settings) -> None:
        self._source = source
        self._settings = settings
        self._limit = settings.report.list_limit
        self.title = settings.report.title

    def table(self, query: str, **parameters: Any) -> LimitedRows:
        """The rows of a query, up to the configured limit."""
        return self._source.limited(
            query, self._limit, **{"run_id": self.run["run_id"], "nested": NESTED, **parameters}
        )

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

    @cached_property
    def scopes(self) -> dict[str, int]:
        """The number of account-regions per outcome."""
        return {row["outcome"]: row["scopes"] for row in self.rows("scopes")}

    @property
    def in_scope(self) -> int:
        """The number of account-regions that the run had to read."""
        return sum(self.scopes.get(outcome, 0) for outcome in ("complete", "partial", "failed"))

    @cached_property
    def unread_scopes(self) -> LimitedRows:
        """Unread scopes and missing answers, grouped by cause: at most ten rows."""
        return self._source.limited("unread_scopes", 10).buffered()

    @cached_property
    def service_gaps(self) -> dict[str, int]:
        """The number of open gaps per service."""
        return {row["service"]: row["gaps"] for row in self.rows("service_gaps")}

    @property
    def open_gaps(self) -> int:
        """The number of open gaps."""
        return sum(self.service_gaps.values())

"""Runs the queries of `queries/*.sql` on the mart; returns rows as dictionaries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb

from reports.connections import new_cursor
from reports.mart.rows import QueryFiles, Row


@dataclass(frozen=True)
class LimitedRows:
    """At most `limit` of `total` rows."""

    total: int
    limit: int
    rows: list[Row]

    @property
    def left_out(self) -> int:
        """The number of rows beyond the limit."""
        return max(0, self.total - self.limit)


@dataclass(frozen=True)
class Values:
    """The rows of a table in the order of its fields, and the number of rows without a limit."""

    fields: tuple[str, ...]
    rows: list[list[Any]]
    total: int


class Source(QueryFiles):
    """Runs the report queries on a connection to a mart; reports on one connection share a source."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        super().__init__(connection, "reports.html", "queries")
        self._tables: dict[str, list[Row]] = {}
        self._values: dict[str, Values] = {}

    @contextmanager
    def cursor(self, catalog: str) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that uses a catalog, for queries that are not in a file."""
        with new_cursor(self._connection) as cursor:
            cursor.execute(f"USE {catalog}")
            yield cursor

    def table(self, query: str, **parameters: Any) -> list[Row]:
        """All rows of a query with few rows; a query with the same parameters runs once."""
        name = repr((query, parameters))
        if name not in self._tables:
            self._tables[name] = list(self.rows(query, **parameters))
        return self._tables[name]

    def row(self, query: str, **parameters: Any) -> Row | None:
        """The first row; None if there is none."""
        return next(iter(self.table(query, **parameters)), None)

    def values(self, query: str, **parameters: Any) -> Values:
        """The result of a query whose last column, `total`, is the number of rows without its limit."""
        with self.executed(query, **parameters) as cursor:
            fields = tuple(column[0] for column in cursor.description or ())
            rows = cursor.fetchall()
        return Values(fields[:-1], [list(row[:-1]) for row in rows], rows[0][-1] if rows else 0)

    def shared_values(self, query: str, **parameters: Any) -> Values:
        """The same for a query of several reports: with the same parameters, it runs once."""
        name = repr((query, parameters))
        if name not in self._values:
            self._values[name] = self.values(query, **parameters)
        return self._values[name]

    def limited(self, query: str, limit: int, **parameters: Any) -> LimitedRows:
        """The rows of a query that returns at most `$limit` rows, each with the total number of rows as `total`."""
        rows = list(self.rows(query, limit=limit, **parameters))
        return LimitedRows(rows[0]["total"] if rows else 0, limit, rows)

"""Runs the queries of `queries/*.sql` on the mart; returns rows as dictionaries, fetched in batches."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import chain
from typing import Any, Final

import duckdb

from reports.connections import new_cursor
from reports.mart.errors import MartError

Row = dict[str, Any]

_BATCH: Final = 500
_PARAMETER: Final = re.compile(r"\$(\w+)")


@dataclass(frozen=True)
class LimitedRows:
    """At most `limit` of `total` rows, fetched during iteration; can be iterated once."""

    total: int
    limit: int
    rows: Iterator[Row]

    @property
    def left_out(self) -> int:
        """The number of rows beyond the limit."""
        return max(0, self.total - self.limit)

    def buffered(self) -> LimitedRows:
        """The same rows, all of them fetched now."""
        return LimitedRows(self.total, self.limit, iter(list(self.rows)))


class Source:
    """Runs the report queries on a connection to a mart. The caller closes the connection."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        # A new cursor starts in the default catalog instead of the connection's current one.
        self._use = "USE " + ".".join(
            '"' + name.replace('"', '""') + '"'
            for name in connection.execute("SELECT current_catalog(), current_schema()").fetchone() or ()
        )

    def rows(self, query: str, **parameters: Any) -> Iterator[Row]:
        """The rows of `queries/<query>.sql`; parameters that the query does not use are ignored."""
        sql = _sql(query)
        names_in_query = set(_PARAMETER.findall(sql))
        # A cursor per query, because a page can read several tables at the same time.
        cursor = new_cursor(self._connection)
        try:
            cursor.execute(self._use)
            cursor.execute(sql, {name: parameters[name] for name in names_in_query})
            names = [column[0] for column in cursor.description or ()]
            while batch := cursor.fetchmany(_BATCH):
                for values in batch:
                    yield dict(zip(names, values, strict=True))
        except (duckdb.CatalogException, duckdb.BinderException) as error:
            raise MartError(
                "the mart lacks views that this version of kmsledger reads: run `kmsledger mart` to rebuild it"
            ) from error
        finally:
            cursor.close()

    def row(self, query: str, **parameters: Any) -> Row | None:
        """The first row; None if there is none."""
        return next(self.rows(query, **parameters), None)

    def limited(self, query: str, limit: int, **parameters: Any) -> LimitedRows:
        """The rows of a query that returns at most `$limit` rows, each with the total number of rows as `total`."""
        rows = self.rows(query, limit=limit, **parameters)
        first = next(rows, None)
        if first is None:
            return LimitedRows(0, limit, iter(()))
        return LimitedRows(first["total"], limit, chain((first,), rows))


@cache
def _sql(query: str) -> str:
    return (resources.files("reports.html") / "queries" / f"{query}.sql").read_text(encoding="utf-8")

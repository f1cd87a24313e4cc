"""Reading the mart for a report: queries from `queries/*.sql`, rows as dictionaries, a batch at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import chain
from typing import Any, Final

import duckdb

from reports.mart.errors import MartError

Row = dict[str, Any]

_BATCH: Final = 500
_PARAMETER: Final = re.compile(r"\$(\w+)")


@dataclass(frozen=True)
class Cut:
    """The rows of a table, the first of `total`, read as they are iterated over (once)."""

    total: int
    limit: int
    rows: Iterator[Row]

    @property
    def left_out(self) -> int:
        """How many rows the limit leaves out."""
        return max(0, self.total - self.limit)


class Source:
    """The queries of the reports, on one connection to a mart. The connection stays the caller's."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        # A cursor starts in the default catalog, not in the one that its connection uses.
        self._use = "USE " + ".".join(
            '"' + name.replace('"', '""') + '"'
            for name in connection.execute("SELECT current_catalog(), current_schema()").fetchone() or ()
        )

    def rows(self, query: str, **parameters: Any) -> Iterator[Row]:
        """The rows of `queries/<query>.sql`; `parameters` has at least those that the query names."""
        sql = _sql(query)
        wanted = set(_PARAMETER.findall(sql))
        # An own cursor: several tables of one page may be read at the same time.
        cursor = self._connection.cursor()
        try:
            cursor.execute(self._use)
            cursor.execute(sql, {name: parameters[name] for name in wanted})
            names = [column[0] for column in cursor.description or ()]
            while batch := cursor.fetchmany(_BATCH):
                for values in batch:
                    yield dict(zip(names, values, strict=True))
        except (duckdb.CatalogException, duckdb.BinderException) as error:
            raise MartError(
                "the mart does not have the views that this version of kmsledger reads: "
                "run `kmsledger mart` to build it anew"
            ) from error
        finally:
            cursor.close()

    def row(self, query: str, **parameters: Any) -> Row | None:
        """The first row, None if there is none."""
        return next(self.rows(query, **parameters), None)

    def cut(self, query: str, limit: int, **parameters: Any) -> Cut:
        """The rows of a query that returns at most `$limit` rows and, in each, their full number as `total`."""
        rows = self.rows(query, limit=limit, **parameters)
        first = next(rows, None)
        return Cut(0, limit, iter(())) if first is None else Cut(first["total"], limit, chain((first,), rows))


@cache
def _sql(query: str) -> str:
    return (resources.files("reports.html") / "queries" / f"{query}.sql").read_text(encoding="utf-8")

"""Rows as dictionaries: of a query, and of the query files of a package."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import resources
from typing import Any

import duckdb

from reports.connections import new_cursor
from reports.mart.errors import OutdatedMartError

Row = dict[str, Any]

_BATCH = 500
_PARAMETER = re.compile(r"\$(\w+)")


@contextmanager
def of_this_version() -> Iterator[None]:
    """Raise OutdatedMartError if a query of this program names a view or column that the mart does not have."""
    try:
        yield
    except (duckdb.CatalogException, duckdb.BinderException) as error:
        raise OutdatedMartError from error


def rows(duck: duckdb.DuckDBPyConnection, query: str, values: dict[str, Any] | None = None) -> list[Row]:
    """The rows of a query of this program. Raises OutdatedMartError if the mart is of an earlier version."""
    with of_this_version():
        return list(_fetch(duck.execute(query, values or {})))


class QueryFiles:
    """Runs the queries of a folder, each a file, in the catalog of a connection, which the caller closes."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, package: str, folder: str) -> None:
        self._connection = connection
        self._files = (package, folder)
        # A new cursor starts in the default catalog instead of the connection's current one.
        names = connection.execute("SELECT current_catalog(), current_schema()").fetchone() or ()
        self._use = "USE " + ".".join('"' + name.replace('"', '""') + '"' for name in names)

    def rows(self, query: str, **parameters: Any) -> Iterator[Row]:
        """The rows of `<query>.sql`, fetched during iteration; parameters that the query does not use are ignored."""
        with self.executed(query, **parameters) as cursor:
            yield from _fetch(cursor)

    @contextmanager
    def executed(self, query: str, **parameters: Any) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor with the result of `<query>.sql`. Raises OutdatedMartError if the mart is of an earlier version."""
        sql = _sql(*self._files, query)
        # A cursor per query, because several can be read at the same time.
        cursor = new_cursor(self._connection)
        try:
            cursor.execute(self._use)
            with of_this_version():
                cursor.execute(sql, {name: parameters[name] for name in set(_PARAMETER.findall(sql))})
            yield cursor
        finally:
            cursor.close()


def _fetch(cursor: duckdb.DuckDBPyConnection) -> Iterator[Row]:
    names = [column[0] for column in cursor.description or ()]
    while batch := cursor.fetchmany(_BATCH):
        yield from (dict(zip(names, row, strict=True)) for row in batch)


@cache
def _sql(package: str, folder: str, query: str) -> str:
    return (resources.files(package) / folder / f"{query}.sql").read_text(encoding="utf-8")

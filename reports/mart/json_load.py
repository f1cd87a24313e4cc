"""Loads rows that Python computes into tables of the mart; without SQLAlchemy, which commands that only read do not load."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from typing import Any, Self

import duckdb
import orjson

_SHORTEST_LIMIT = 1 << 20
"""Bytes of a line for which the reader always has room: it works in buffers of twice this size."""


class RowFile:
    """Rows for a table of schema ``internal``, in a temporary file of JSON lines that disappears when it is closed.

    DuckDB's own text reader loads rows some four times faster than bound lists, and a thousand times faster than row by row.
    """

    def __init__(self, table: str, columns: str) -> None:
        self._table = table
        self._columns = columns
        self._file = tempfile.NamedTemporaryFile(prefix="kmsledger-", suffix=".jsonl")  # noqa: SIM115  (closed by __exit__)
        self._longest = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, row: dict[str, Any]) -> None:
        """Add a row."""
        line = orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
        self._longest = max(self._longest, len(line))
        self._file.write(line)

    def load(self, duck: duckdb.DuckDBPyConnection, *, append: bool) -> None:
        """Append the rows to the table, or replace it."""
        self._file.flush()
        if not append:
            duck.execute(f"CREATE OR REPLACE TABLE internal.{self._table} ({self._columns})")
        if not self._longest:
            return
        types = ", ".join("{}: '{}'".format(*column.split(" ", 1)) for column in self._columns.split(", "))
        duck.execute(
            f"INSERT INTO internal.{self._table} SELECT * FROM read_json($path, format = 'newline_delimited', "
            f"columns = {{{types}}}, maximum_object_size = {max(self._longest, _SHORTEST_LIMIT)})",
            {"path": self._file.name},
        )


def load_rows(
    duck: duckdb.DuckDBPyConnection, table: str, columns: str, rows: Iterable[dict[str, Any]], *, append: bool = False
) -> None:
    """Create a table of schema ``internal`` from rows, or append the rows to it."""
    with RowFile(table, columns) as file:
        for row in rows:
            file.add(row)
        file.load(duck, append=append)

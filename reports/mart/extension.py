"""Tables with rows that Python computes, and the seam between the mart and the packages above it, which fill some of them.

Without SQLAlchemy, which commands that only read do not load.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from typing import Any, Final, Self

import duckdb
import orjson

TABLES: Final = {
    "rule": (
        "rule_id VARCHAR, title VARCHAR, severity VARCHAR, family VARCHAR, frameworks VARCHAR[], why VARCHAR, fix VARCHAR, "
        "console VARCHAR, cli VARCHAR, terraform VARCHAR, parameters VARCHAR"
    ),
    "framework_control": (
        "framework VARCHAR, framework_title VARCHAR, version VARCHAR, source VARCHAR, checked DATE, position INTEGER, "
        "control VARCHAR, title VARCHAR, rule_id VARCHAR"
    ),
    "waiver": (
        "waiver VARCHAR, rule_id VARCHAR, resource VARCHAR, account_id VARCHAR, tag VARCHAR, description VARCHAR, "
        "reason VARCHAR, ticket VARCHAR, owner VARCHAR, "
        "expires DATE, include_unknown BOOLEAN, source VARCHAR, waived_count INTEGER, unknown_count INTEGER, run_id INTEGER"
    ),
    "owner": "position INTEGER, tag VARCHAR, account_id VARCHAR, ou VARCHAR, owner VARCHAR",
    "vendor_check": (
        "run_id INTEGER, profile VARCHAR, vendor VARCHAR, subject_type VARCHAR, check_name VARCHAR, result VARCHAR, "
        "severity VARCHAR, "
        "reason VARCHAR, account_id VARCHAR, account_name VARCHAR, region VARCHAR, key_arn VARCHAR, key_alias VARCHAR, "
        "subject VARCHAR, fix VARCHAR, statement VARCHAR, evidence VARCHAR, deadline TIMESTAMP, required VARCHAR, "
        "since TIMESTAMP"
    ),
}
"""Columns of the tables in schema ``internal`` that extensions fill. Empty tables are valid: the views then return no rows."""


class Extension:
    """Adds facts to a mart while it is built; a subclass overrides the steps that it needs."""

    __slots__ = ()

    def prepare(self, duck: duckdb.DuckDBPyConnection) -> None:
        """Fill tables that do not depend on the views. Runs before the views are created."""

    def create(self, duck: duckdb.DuckDBPyConnection, run_id: int) -> None:
        """Fill tables from the views as of a run. Runs after the views are created."""


def create_tables(duck: duckdb.DuckDBPyConnection, names: Iterable[str] = TABLES) -> None:
    """Create the tables empty, in place of existing ones."""
    for name in names:
        duck.execute(f"CREATE OR REPLACE TABLE internal.{name} ({TABLES[name]})")


def fill(duck: duckdb.DuckDBPyConnection, name: str, rows: Iterable[dict[str, Any]]) -> None:
    """Create one of these tables from its rows."""
    load_rows(duck, name, TABLES[name], rows)


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

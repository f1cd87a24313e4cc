"""Loads rows that Python computes into tables of the mart; without SQLAlchemy, which commands that only read do not load."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb
import orjson


def load_rows(
    duck: duckdb.DuckDBPyConnection,
    table: str,
    columns: str,
    rows: Iterable[dict[str, Any]],
    *,
    append: bool = False,
) -> None:
    """Create a table of schema ``internal`` from rows, or append the rows to it, through a file of JSON lines.

    DuckDB's own text reader loads rows some four times faster than bound lists, and a thousand times faster than row by row.
    """
    with tempfile.NamedTemporaryFile(prefix="kmsledger-", suffix=".jsonl") as file:
        file.writelines(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)
        file.flush()
        load_file(duck, Path(file.name), table, columns, append=append)


def load_file(duck: duckdb.DuckDBPyConnection, path: Path, table: str, columns: str, *, append: bool) -> None:
    """Load a file of JSON lines into a table of schema ``internal``."""
    if not append:
        duck.execute(f"CREATE OR REPLACE TABLE internal.{table} ({columns})")
    if path.stat().st_size == 0:
        return
    types = ", ".join("{}: '{}'".format(*column.split(" ", 1)) for column in columns.split(", "))
    duck.execute(
        f"INSERT INTO internal.{table} SELECT * FROM read_json($path, format = 'newline_delimited', columns = {{{types}}}, "
        "maximum_object_size = 67108864)",
        {"path": str(path)},
    )

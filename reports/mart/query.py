"""Questions to the mart: any SELECT, and what there is to ask about."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb

from reports.mart.errors import QueryError
from reports.mart.reader import CATALOG, connect

_FETCH = 2_000
_TABLES = f"""
SELECT c.table_name AS view, r.comment AS about, c.column_name AS "column", c.data_type AS type, c.comment AS description
FROM duckdb_columns() c
JOIN (
  SELECT schema_name, view_name AS name, comment FROM duckdb_views() WHERE database_name = '{CATALOG}' AND NOT internal
  UNION ALL
  SELECT schema_name, table_name, comment FROM duckdb_tables() WHERE database_name = '{CATALOG}'
) r ON r.schema_name = c.schema_name AND r.name = c.table_name
WHERE c.database_name = '{CATALOG}' AND c.schema_name = 'main'
ORDER BY c.table_name, c.column_index
"""


def ask(
    path: Path, sql: str, connection: duckdb.DuckDBPyConnection | None = None
) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
    """Run SQL on the mart, read-only; returns column names and rows. Raises MartError or QueryError.

    A connection given (as of an earlier run) is used instead of a new one, and closed after the last row.
    """
    if not sql.strip().rstrip(";").strip():
        raise QueryError('there is no SQL to run: give a SELECT, as in kmsledger sql "SELECT * FROM keys"')
    connection = connection or connect(path)
    try:
        connection.execute(sql)
        columns = [column[0] for column in connection.description or ()]
    except duckdb.Error as error:
        connection.close()
        raise QueryError(_sentence(error)) from error
    return columns, _rows(connection)


def described(path: Path) -> tuple[list[str], list[tuple[Any, ...]]]:
    """The views with their columns: view, about, column, type, description."""
    columns, rows = ask(path, _TABLES)
    return columns, list(rows)


def _rows(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    try:
        while rows := connection.fetchmany(_FETCH):
            yield from rows
    except duckdb.Error as error:
        raise QueryError(_sentence(error)) from error
    finally:
        connection.close()


def _sentence(error: duckdb.Error) -> str:
    """DuckDB's words on one line, without its drawing of the query."""
    text = str(error)
    words, _, drawing = text.partition("LINE ")
    line = re.match(r"(\d+):", drawing)
    sentence = " ".join(words.split())
    return f"{sentence} (line {line[1]} of the query)" if line else sentence

"""Runs queries on the mart: one SELECT at a time, streamed."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from reports.mart.connection import CATALOG, connect
from reports.mart.errors import OverLimitError, QueryError, out_of_memory
from reports.mart.result_writers import writer_of

_FETCH = 2_000
_ANSWERS = frozenset({"SELECT", "EXPLAIN", "MULTI"})
"""DuckDB's names for read-only kinds of statements; a PIVOT is a MULTI, DESCRIBE and SHOW are SELECTs."""
_TABLES = f"""
SELECT CASE c.schema_name WHEN 'main' THEN c.table_name ELSE c.schema_name || '.' || c.table_name END AS view,
  r.comment AS about, c.column_name AS "column", c.data_type AS type, c.comment AS description
FROM duckdb_columns() c
JOIN (
  SELECT schema_name, view_name AS name, comment FROM duckdb_views() WHERE database_name = '{CATALOG}' AND NOT internal
  UNION ALL
  SELECT schema_name, table_name, comment FROM duckdb_tables() WHERE database_name = '{CATALOG}'
) r ON r.schema_name = c.schema_name AND r.name = c.table_name
WHERE c.database_name = '{CATALOG}' AND (c.schema_name = 'main' OR (c.schema_name = 'internal' AND r.comment IS NOT NULL))
ORDER BY c.schema_name = 'internal', c.table_name, c.column_index
"""


def write(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    *,
    form: str,
    limit: int,
    path: Path | None,
    parameters: Mapping[str, str] | None,
) -> None:
    """Write the result of a query to a file, or to standard output.

    The form is parquet (with a path that the connection's limits name), or one of :func:`writer_of`. Raises QueryError for
    anything but a single read-only statement and for DuckDB's errors, and OverLimitError.
    """
    with explained():
        if form == "parquet":
            checked(connection, sql)
            # Not COPY: the query is never embedded in our own SQL.
            result = connection.sql(_without_end(sql), params=parameters or None)
            result.write_parquet(str(path), compression="zstd")
            return
        columns, rows = run(connection, sql, parameters)
        if path is None:
            writer_of(form, limit)(sys.stdout, columns, rows)
            return
        with path.open("w", encoding="utf-8", newline="") as out:
            writer_of(form, limit)(out, columns, rows)


def run(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Mapping[str, Any] | None = None
) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
    """Run SQL on an open mart; returns the column names and a stream of rows.

    Parameters are the values of ``$name`` in the query. Raises QueryError for anything but a single read-only statement.
    """
    checked(connection, sql)
    connection.execute(sql, parameters or None)
    return [column[0] for column in connection.description or ()], _rows(connection)


@contextmanager
def explained() -> Iterator[None]:
    """Raise DuckDB's errors of the block, and a lack of memory, with a message of one sentence: QueryError, OverLimitError."""
    try:
        yield
    except (duckdb.OutOfMemoryException, MemoryError) as error:
        raise OverLimitError(out_of_memory()) from error
    except duckdb.Error as error:
        raise QueryError(_sentence(error)) from error


def checked(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Raise QueryError unless the text is a single read-only statement.

    The connection is read-only even without this check. The check gives a clear message, and rejects statements whose effect
    would be lost silently: the result of a second statement, or a temporary view, which lives only as long as the command.
    """
    statements = connection.extract_statements(sql)
    if not statements:
        raise QueryError('there is no SQL to run: give a SELECT, as in kmsledger sql "SELECT * FROM keys"')
    if len(statements) > 1:
        raise QueryError(f"there are {len(statements)} statements in the text: run one at a time")
    kind = statement_kind(statements[0])
    if kind not in _ANSWERS:
        raise QueryError(
            f"{kind} is not a query, and the mart is read-only: give a SELECT (or WITH, FROM, VALUES, PIVOT, DESCRIBE, SHOW, "
            "SUMMARIZE, EXPLAIN)"
        )


def statement_kind(statement: duckdb.Statement) -> str:
    """DuckDB's name for the kind of a statement; its Python client has no name for some, such as UPDATE EXTENSIONS."""
    try:
        return statement.type.name
    except ValueError:
        return "this statement"


def described(path: Path) -> tuple[list[str], list[tuple[Any, ...]]]:
    """All views with their columns, as rows of view, about, column, type, description."""
    with connect(path) as connection:
        return describe(connection)


def describe(connection: duckdb.DuckDBPyConnection) -> tuple[list[str], list[tuple[Any, ...]]]:
    """As :func:`described`, of an open mart."""
    columns, rows = run(connection, _TABLES)
    return columns, list(rows)


def _rows(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    while rows := connection.fetchmany(_FETCH):
        yield from rows


def _without_end(sql: str) -> str:
    """A statement up to its semicolon, which DuckDB rejects in a relation."""
    text = sql.encode()
    ends = (at for at, kind in duckdb.tokenize(sql) if kind == duckdb.token_type.operator and text[at : at + 1] == b";")
    return text[: next(ends, None)].decode()


def _sentence(error: duckdb.Error) -> str:
    """DuckDB's error message on one line, without its excerpt of the query."""
    text = str(error)
    words, _, drawing = text.partition("LINE ")
    line = re.match(r"(\d+):", drawing)
    sentence = " ".join(words.split())
    return f"{sentence} (line {line[1]} of the query)" if line else sentence

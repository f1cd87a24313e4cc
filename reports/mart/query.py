"""Runs queries on the mart: one SELECT at a time, streamed, within limits of time and memory."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from reports.mart.connection import CATALOG, connect
from reports.mart.errors import MartError, QueryError

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


class OverLimitError(MartError):
    """A query exceeded its time or memory limit (exit code 4)."""


@dataclass(slots=True)
class Clock:
    """The time limit of a query; time that the consumer takes (a pager, a slow pipe) does not count."""

    seconds: float | None = None
    """None: no limit."""
    spent: float = 0.0

    @contextmanager
    def running(self, connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
        """Interrupt the connection at the time limit, and raise DuckDB's errors with a message of one sentence."""
        timer = None
        if self.seconds is not None:
            timer = threading.Timer(max(self.seconds - self.spent, 0.001), connection.interrupt)
            timer.daemon = True
            timer.start()
        began = time.monotonic()
        try:
            yield
        except duckdb.InterruptException as error:
            raise OverLimitError(
                f"the query was stopped after {self.seconds:g} seconds: select less, or allow more time with --timeout"
            ) from error
        except duckdb.OutOfMemoryException as error:
            raise OverLimitError(
                "the query needs more memory than its limit: select less (fewer columns, a WHERE), allow more with "
                "--memory-limit, or let it spill to disk with --temp-directory"
            ) from error
        except duckdb.Error as error:
            raise QueryError(_sentence(error)) from error
        finally:
            self.spent += time.monotonic() - began
            if timer:
                timer.cancel()


def ask(
    path: Path,
    sql: str,
    connection: duckdb.DuckDBPyConnection | None = None,
    timeout: float | None = None,
    parameters: Mapping[str, str] | None = None,
) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
    """Run SQL on the mart, read-only; returns the column names and a stream of rows.

    If ``connection`` is given (with limits, or as of an earlier run), it is used instead of a new one, and closed after the
    last row. Parameters are the values of ``$name`` in the query.
    Raises MartError, QueryError (not a single read-only statement, or an error from DuckDB) or OverLimitError (the query needs
    more than ``timeout`` seconds, or more memory than the connection may use).
    """
    connection = connection or connect(path)
    clock = Clock(timeout)
    try:
        checked(connection, sql)
        with clock.running(connection):
            connection.execute(sql, parameters or None)
            columns = [column[0] for column in connection.description or ()]
    except BaseException:
        connection.close()
        raise
    return columns, _rows(connection, clock)


def checked(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Raise QueryError unless the text is a single read-only statement.

    The connection is read-only even without this check. The check gives a clear message, and rejects statements whose effect
    would be lost silently: the result of a second statement, or a temporary view, which lives only as long as the command.
    """
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise QueryError(_sentence(error)) from error
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


def write_parquet(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    path: Path,
    timeout: float | None = None,
    parameters: Mapping[str, str] | None = None,
) -> None:
    """Write the result as a Parquet file: the output named in the connection's limits, which must not exist yet.

    Closes the connection. Raises what :func:`ask` raises.
    """
    try:
        checked(connection, sql)
        with Clock(timeout).running(connection):
            # Not COPY: the query is never embedded in our own SQL.
            connection.sql(_without_end(sql), params=parameters or None).write_parquet(str(path), compression="zstd")
    finally:
        connection.close()


def described(
    path: Path, connection: duckdb.DuckDBPyConnection | None = None
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """All views with their columns, as rows of view, about, column, type, description; a given connection is closed."""
    columns, rows = ask(path, _TABLES, connection)
    return columns, list(rows)


def _rows(connection: duckdb.DuckDBPyConnection, clock: Clock) -> Iterator[tuple[Any, ...]]:
    try:
        while True:
            with clock.running(connection):
                rows = connection.fetchmany(_FETCH)
            if not rows:
                return
            yield from rows
    finally:
        connection.close()


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

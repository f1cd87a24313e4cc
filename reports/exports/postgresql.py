"""Publishes the views as tables of a PostgreSQL schema, for BI tools: streamed with COPY, swapped in one transaction."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import duckdb
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from models.store.engine import connect, translate_errors
from reports.mart.as_of import RunRef, moments, resolve_as_of
from reports.mart.connection import Limits, fetch_one, quoted
from reports.mart.connection import connect as open_mart
from reports.mart.errors import MartError, QueryError
from reports.mart.query import describe

_SCHEMA = re.compile(r"[a-z][a-z0-9_]{0,39}")
_PIPES = Path("/dev/fd")
_CHUNK = 1 << 20
_LOCK = 7262019
_MARK = "kmsledger: "
"""Comments of our schemas begin with it: no other schema is ever replaced or dropped."""
_DROP_TIMEOUT = "30s"
_NOT_ALLOWED, _LOCK_TIMEOUT, _DEPENDED_ON = "42501", "55P03", "2BP01"
_INDEXED = ("key_arn", "resource_arn")
_TYPES: dict[str, Any] = {
    "VARCHAR": sa.Text,
    "VARCHAR[]": sa.ARRAY(sa.Text),
    "INTEGER": sa.Integer,
    "BIGINT": sa.BigInteger,
    "BOOLEAN": sa.Boolean,
    "DATE": sa.Date,
    "TIMESTAMP": sa.DateTime,
    "MAP(VARCHAR, VARCHAR)": JSONB,
    "MAP(VARCHAR, VARCHAR[])": JSONB,
}
_NUL, _REPLACEMENT = b"\0", "\N{REPLACEMENT CHARACTER}".encode()
"""PostgreSQL stores no NUL character. As in the ledger, U+FFFD replaces it (:func:`models.hashing.storable`)."""
_EXPRESSIONS = {
    # An array as PostgreSQL writes it. Every item is quoted, so that none is read as NULL.
    "VARCHAR[]": r"""'{{' || array_to_string(list_transform({0}, lambda item: coalesce(
        '"' || replace(replace(item, '\', '\\'), '"', '\"') || '"', 'NULL')), ',') || '}}'""",
    # In JSON, a NUL character is an escape sequence. An escaped backslash in front of u0000 must not look like one.
    "MAP": r"replace(replace(CAST(to_json({0}) AS VARCHAR), '\\', '\u005c'), '\u0000', '\ufffd')",
}


@dataclass(frozen=True, slots=True)
class Published:
    """The result of a publication."""

    run: RunRef
    tables: int
    rows: int
    kept: Sequence[str]
    """Earlier schemas that somebody still reads; the next publication drops them."""


def publish(
    mart: Path, url: str, schema: str = "kmsledger", readers: Sequence[str] = (), *, limits: Limits | None = None
) -> Published:
    """Replace the schema with the views of a mart; roles in ``readers`` may read it.

    One transaction creates, fills and renames the new schema: until it commits, everybody sees the old one, and after a failure
    nothing is left. Readers are never blocked: the old tables are dropped afterwards, when nobody reads them. Raises MartError,
    or DatabaseError if the database cannot be reached.
    """
    if not url.startswith("postgresql://"):
        raise QueryError("expected a database in PostgreSQL: use --database postgresql://USER@HOST/DATABASE")
    if not _SCHEMA.fullmatch(schema):
        raise QueryError(f"{schema!r} cannot name the schema: write lower-case letters, digits and _, at most 40")
    engine = connect(url)
    duck = open_mart(mart, replace(limits or Limits(), folder=_PIPES))
    try:
        run = resolve_as_of(moments(duck), *fetch_one(duck, "SELECT max(run_id) FROM runs"))
        suffix = secrets.token_hex(4)
        with _transaction(engine) as connection:
            replaced = _find_own(connection, schema)
            if replaced is None:
                raise MartError(
                    f"the schema {schema} was not created by this command: drop or rename it, or choose another --schema"
                )
            comment = f"{_MARK}the views as of {run}"
            connection.exec_driver_sql(f'CREATE SCHEMA "{schema}_new_{suffix}"')
            connection.exec_driver_sql(f'COMMENT ON SCHEMA "{schema}_new_{suffix}" IS {quoted(comment)}')
            _, columns = describe(duck.cursor())
            tables = _create(connection, f"{schema}_new_{suffix}", columns, readers)
            rows = sum(_fill(connection, duck, table) for table in tables)
            for name in replaced:
                connection.exec_driver_sql(f'ALTER SCHEMA "{name}" RENAME TO "{name}_old_{suffix}"')
            connection.exec_driver_sql(f'ALTER SCHEMA "{schema}_new_{suffix}" RENAME TO "{schema}"')
        return Published(run, len(tables), rows, _drop_old(engine, schema))
    except duckdb.OutOfMemoryException as error:
        raise MartError("a view exceeds the memory limit: raise it with --memory-limit") from error
    except duckdb.Error as error:
        raise MartError(f"the views cannot be read: {str(error).splitlines()[0]}") from error
    finally:
        duck.close()
        engine.dispose()


class _RejectedError(MartError):
    def __init__(self, message: str, code: str | None, detail: str) -> None:
        super().__init__(message)
        self.code = code
        self.detail = detail


@contextmanager
def _transaction(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that excludes other publications. Raises _RejectedError for errors of PostgreSQL."""
    from psycopg import Error

    with translate_errors(engine), engine.begin() as connection:
        if not connection.exec_driver_sql(f"SELECT pg_try_advisory_xact_lock({_LOCK})").scalar():
            raise MartError("another process publishes to this database: wait for it to end")
        try:
            yield connection
        except (Error, sa.exc.DBAPIError) as error:
            cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
            if not isinstance(cause, Error):
                raise
            text = (cause.diag.message_primary or str(cause)).strip().splitlines()[0]
            fix = "; publishing needs CREATE on the database" if cause.sqlstate == _NOT_ALLOWED else ""
            detail = (cause.diag.message_detail or "").partition("\n")[0]
            raise _RejectedError(f"PostgreSQL rejects the publication: {text}{fix}", cause.sqlstate, detail) from error


def _find_own(connection: sa.Connection, pattern: str) -> list[str] | None:
    """The schemas of this command with names LIKE a pattern; None if another one has such a name."""
    query = "SELECT nspname, obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname LIKE %s"
    found = connection.exec_driver_sql(query, (pattern.replace("_", r"\_").replace("?", "_"),)).all()
    own = [name for name, comment in found if (comment or "").startswith(_MARK)]
    return own if len(own) == len(found) else None


def _create(
    connection: sa.Connection, schema: str, columns: Iterable[tuple[str, ...]], readers: Sequence[str]
) -> list[sa.Table]:
    """The empty tables of the new schema, with comments and privileges; columns as in :func:`described`."""
    metadata = sa.MetaData(schema=schema)
    for name, group in groupby((row for row in columns if "." not in row[0]), lambda row: row[0]):
        rows = list(group)
        made = [
            sa.Column(column, _TYPES[kind], comment=about, info={"type": kind}) for _, _, column, kind, about in rows
        ]
        sa.Table(name, metadata, *made, comment=rows[0][1])
    metadata.create_all(connection, checkfirst=False)
    for role in map(connection.dialect.identifier_preparer.quote_identifier, readers):
        connection.exec_driver_sql(f'GRANT USAGE ON SCHEMA "{schema}" TO {role}')
        connection.exec_driver_sql(f'GRANT SELECT ON ALL TABLES IN SCHEMA "{schema}" TO {role}')
    return list(metadata.tables.values())


def _fill(connection: sa.Connection, duck: duckdb.DuckDBPyConnection, table: sa.Table) -> int:
    """Copy the rows of a view, then index the table; returns the number of rows.

    The rows are frozen: a transaction that began before the swap sees them too, instead of an empty table.
    """
    selected = ", ".join(
        _EXPRESSIONS.get(column.info["type"].partition("(")[0], "{0}").format(f'"{column.name}"')
        for column in table.columns
    )
    cursor: Any = connection.connection.cursor()
    with (
        _csv(duck, f'SELECT {selected} FROM "{table.name}"') as output,
        cursor.copy(f'COPY "{table.schema}"."{table.name}" FROM STDIN (FORMAT csv, FREEZE)') as copy,
    ):
        while chunk := os.read(output, _CHUNK):
            copy.write(chunk.replace(_NUL, _REPLACEMENT))
    for column in _INDEXED:
        if column in table.columns:
            # Unlike a B-tree, a hash index accepts a text of any length.
            sa.Index(None, table.columns[column], postgresql_using="hash").create(connection)
    connection.exec_driver_sql(f'ANALYZE "{table.schema}"."{table.name}"')
    return int(cursor.rowcount)


@contextmanager
def _csv(duck: duckdb.DuckDBPyConnection, query: str) -> Iterator[int]:
    """A file descriptor from which the rows of a query can be read as CSV, while DuckDB computes them."""
    reading, writing = os.pipe()
    copied = f"COPY ({query}) TO '{_PIPES / str(writing)}' (FORMAT csv, HEADER false, USE_TMP_FILE false)"
    with ThreadPoolExecutor(1) as executor:
        done = executor.submit(duck.execute, copied)
        done.add_done_callback(lambda _: os.close(writing))
        try:
            yield reading
        except BaseException:  # Ctrl-C too: nobody reads the pipe any more, and the query would wait for a reader
            duck.interrupt()
            raise
        finally:
            os.close(reading)
        done.result()


def _drop_old(engine: sa.Engine, schema: str) -> list[str]:
    """Drop the schemas that publications replaced; returns those that somebody still reads."""
    kept = []
    with _transaction(engine) as connection:
        replaced = _find_own(connection, f"{schema}_old_????????") or []
    for name in replaced:
        try:
            with _transaction(engine) as connection:
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_DROP_TIMEOUT}'")
                query = "SELECT string_agg(format('%%I.%%I', schemaname, tablename), ', ') FROM pg_tables WHERE schemaname = %s"
                tables = connection.exec_driver_sql(query, (name,)).scalar()
                connection.exec_driver_sql(f"DROP TABLE {tables}")
                connection.exec_driver_sql(f'DROP SCHEMA "{name}"')
        except _RejectedError as error:
            if error.code == _DEPENDED_ON:
                raise MartError(
                    f"the schema {schema} is published, but {name} with the previous tables cannot be dropped, because "
                    f"{error.detail}: drop that object, which shows outdated rows, and query {schema} directly"
                ) from error
            if error.code != _LOCK_TIMEOUT:
                raise
            kept.append(name)
    return kept

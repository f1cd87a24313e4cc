"""The store's tables into the mart's schema ``ledger``, in full and typed, over ADBC and Arrow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import quote

import adbc_driver_manager
import duckdb
from sqlalchemy import Boolean, Column, Integer, LargeBinary, Table, make_url

from models.tables import (
    AccessAnalysis,
    AccessPolicy,
    AccessVerdict,
    AnalysisWatermark,
    Base,
    Delivery,
    KeyLastUsePoll,
    PolicyDocument,
    PolicyLint,
    Run,
    ScopeCoverage,
    versioned_tables,
)
from models.types import UtcDateTime
from reports.mart.errors import MartError

_BESIDE_FACETS: tuple[type[Base], ...] = (
    Run,
    ScopeCoverage,
    PolicyDocument,
    Delivery,
    KeyLastUsePoll,
    AccessPolicy,
    AccessAnalysis,
    AccessVerdict,
    PolicyLint,
    AnalysisWatermark,
)
_BOOKKEEPING = frozenset({"content_hash"})


def tables() -> list[Table]:
    """What the mart takes over from the store."""
    found = [mapped.__table__ for mapped in (*versioned_tables().values(), *_BESIDE_FACETS)]
    return [table for table in found if isinstance(table, Table)]


@dataclass(frozen=True, slots=True)
class Part:
    """Some columns and rows of a table; ``where`` is SQL of both engines."""

    table: Table
    columns: tuple[str, ...]
    where: str = "true"
    target: str = ""
    """The table it becomes; by default the one of the same name in schema ``ledger``."""


@dataclass(frozen=True, slots=True)
class Query:
    """A SELECT of both engines whose columns hold no NULL, and the table that it becomes."""

    text: str
    target: str


def load(duck: duckdb.DuckDBPyConnection, engine_url: str, wanted: list[Table]) -> None:
    """Copy tables, all as of one moment; a table that is there is replaced."""
    load_parts(duck, engine_url, [Part(table, columns(table)) for table in wanted])


def columns(table: Table) -> tuple[str, ...]:
    """The columns that the mart takes over."""
    return tuple(column.name for column in table.columns if column.name not in _BOOKKEEPING)


def load_parts(duck: duckdb.DuckDBPyConnection, engine_url: str, wanted: Iterable[Part | Query]) -> None:
    """Copy parts of tables, all as of one moment; a table that is there is replaced.

    Each is asked for when the one before it has arrived, so that what is wanted next may depend on that.
    """
    postgresql = make_url(engine_url).get_backend_name() == "postgresql"
    with _source(engine_url) as source:
        if postgresql:
            _run(source, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        for part in wanted:
            if isinstance(part, Query):
                _copy(
                    duck,
                    source,
                    part.text,
                    f"CREATE OR REPLACE TABLE {part.target} AS SELECT * FROM arriving",
                    "the ledger",
                )
                continue
            table, chosen = part.table, [part.table.columns[name] for name in part.columns]
            query = _postgresql_query(table, chosen) if postgresql else _sqlite_query(table, chosen)
            typed = ", ".join(f'{_cast(column)} AS "{column.name}"' for column in chosen)
            where = "" if postgresql else " WHERE _first = 0"
            target = part.target or f'internal."{table.name}"'
            statement = f"CREATE OR REPLACE TABLE {target} AS SELECT {typed} FROM arriving{where}"
            _copy(duck, source, f"{query} WHERE {part.where}", statement, f"table {table.name} of the ledger")


def _copy(
    duck: duckdb.DuckDBPyConnection, source: adbc_driver_manager.AdbcConnection, query: str, create: str, what: str
) -> None:
    statement = adbc_driver_manager.AdbcStatement(source)
    try:
        statement.set_sql_query(query)
        stream, _ = statement.execute_query()
        duck.register("arriving", stream)
        try:
            duck.execute(create)
        finally:
            duck.unregister("arriving")
    except adbc_driver_manager.Error as error:
        raise MartError(f"{what} cannot be read: {error}") from error
    finally:
        statement.close()


def _sqlite_query(table: Table, columns: list[Column[object]]) -> str:
    """The driver takes a column's type from the first rows and fails when a later one differs (NULLs, then a text).

    So a made-up row comes first that has every column's type; it is left out again on arrival.
    """
    first = ", ".join(f'{_example(column)} AS "{column.name}"' for column in columns)
    names = ", ".join(f'"{column.name}"' for column in columns)
    return f'SELECT 1 AS _first, {first} UNION ALL SELECT 0, {names} FROM "{table.name}"'


def _postgresql_query(table: Table, columns: list[Column[object]]) -> str:
    names = ", ".join(
        f'"{column.name}" AT TIME ZONE \'UTC\' AS "{column.name}"'
        if isinstance(column.type, UtcDateTime)
        else f'"{column.name}"'
        for column in columns
    )
    return f'SELECT {names} FROM "{table.name}"'


def _example(column: Column[object]) -> str:
    if isinstance(column.type, UtcDateTime):
        return "'1970-01-01 00:00:00'"
    if isinstance(column.type, Boolean | Integer):
        return "0"
    return "x'00'" if isinstance(column.type, LargeBinary) else "''"


def _cast(column: Column[object]) -> str:
    if isinstance(column.type, UtcDateTime):
        return f'CAST("{column.name}" AS TIMESTAMP)'
    if isinstance(column.type, Boolean):
        return f'CAST("{column.name}" AS BOOLEAN)'
    if isinstance(column.type, Integer):
        return f'CAST("{column.name}" AS INTEGER)'
    if isinstance(column.type, LargeBinary):
        return f'lower(hex("{column.name}"))'
    return f'CAST("{column.name}" AS VARCHAR)'


@contextmanager
def _source(engine_url: str) -> Iterator[adbc_driver_manager.AdbcConnection]:
    url = make_url(engine_url)
    if url.get_backend_name() == "postgresql":
        try:
            import adbc_driver_postgresql
        except ModuleNotFoundError as error:
            raise MartError("PostgreSQL needs the extra `postgres`: pip install 'kmsledger[postgres]'") from error
        driver = adbc_driver_postgresql._driver_path()  # noqa: SLF001 - the public entry points need pyarrow or a DB-API
        uri = url.set(drivername="postgresql").render_as_string(hide_password=False)
    else:
        import adbc_driver_sqlite

        driver = adbc_driver_sqlite._driver_path()  # noqa: SLF001 - as above
        uri = f"file:{quote(url.database or '')}?mode=ro"
    try:
        database = adbc_driver_manager.AdbcDatabase(driver=driver, uri=uri)
        connection = adbc_driver_manager.AdbcConnection(database)
    except adbc_driver_manager.Error as error:
        where = url.render_as_string(hide_password=True)
        cause = type(error).__name__ if url.password else str(error)  # libpq's messages may repeat the URL
        raise MartError(f"the ledger {where} cannot be opened for the mart: {cause}") from error
    try:
        connection.set_autocommit(False)
        yield connection
    finally:
        connection.close()
        database.close()


def _run(connection: adbc_driver_manager.AdbcConnection, statement_text: str) -> None:
    statement = adbc_driver_manager.AdbcStatement(connection)
    statement.set_sql_query(statement_text)
    statement.execute_update()
    statement.close()

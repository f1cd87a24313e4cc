"""Copies tables of the ledger into DuckDB, typed, over ADBC and Arrow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import quote

import adbc_driver_manager
import duckdb
from sqlalchemy import Boolean, Column, Integer, LargeBinary, Table, make_url

from models.errors import UserError
from models.store.engine import passwords, shown
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


class LedgerReadError(UserError):
    """The ledger cannot be opened or read."""


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
    """The ledger's tables that the mart copies."""
    return [mapped.table() for mapped in (*versioned_tables().values(), *_BESIDE_FACETS)]


@dataclass(frozen=True, slots=True)
class TableSlice:
    """Some rows and columns (by default, those that the mart copies) of a table.

    ``where`` is SQL that SQLite and PostgreSQL both accept.
    """

    table: Table
    columns: tuple[str, ...] = ()
    where: str = "true"
    target: str = ""
    """The DuckDB table to create; by default the one of the same name in schema ``internal``."""


@dataclass(frozen=True, slots=True)
class Query:
    """A SELECT that SQLite and PostgreSQL both accept, whose columns hold no NULL, and the DuckDB table to create."""

    text: str
    target: str


def copy_all(duck: duckdb.DuckDBPyConnection, engine_url: str) -> None:
    """Copy all tables from one snapshot of the ledger into schema ``internal``; existing tables must be empty."""
    copy_slices(duck, engine_url, _all_slices(duck))


def _all_slices(duck: duckdb.DuckDBPyConnection) -> Iterator[TableSlice | Query]:
    """The tables with rows: most are empty in a small ledger, and copying nothing costs as much as copying a row."""
    duck.execute("; ".join(create_table(table, f'internal."{table.name}"') for table in tables()))
    filled = (f"SELECT '{table.name}' AS name WHERE EXISTS (SELECT 1 FROM \"{table.name}\")" for table in tables())
    yield Query(" UNION ALL ".join(filled), "memory.main.filled")
    names = {name for (name,) in duck.execute("FROM memory.main.filled").fetchall()}
    yield from (TableSlice(table) for table in tables() if table.name in names)


def columns(table: Table) -> tuple[str, ...]:
    """The columns that the mart copies."""
    return tuple(column.name for column in table.columns if column.name not in _BOOKKEEPING)


def create_table(table: Table, target: str) -> str:
    """The statement that creates an empty DuckDB table for the rows of a ledger table, if it does not exist."""
    typed = ", ".join(f'"{name}" {_type(table.columns[name])}' for name in columns(table))
    return f"CREATE TABLE IF NOT EXISTS {target} ({typed})"


def copy_slices(duck: duckdb.DuckDBPyConnection, engine_url: str, wanted: Iterable[TableSlice | Query]) -> None:
    """Copy slices of tables from one snapshot of the ledger; existing tables are replaced.

    ``wanted`` is consumed lazily: each slice is copied before the next is requested, so a slice may depend on earlier ones.
    """
    postgresql = make_url(engine_url).get_backend_name() == "postgresql"
    with _source(engine_url) as source:
        if postgresql:
            _run(source, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        for item in wanted:
            if isinstance(item, Query):
                create = f"CREATE OR REPLACE TABLE {item.target} AS FROM arriving"
                _copy(duck, source, item.text, create, "the ledger")
                continue
            table = item.table
            chosen = [table.columns[name] for name in item.columns or columns(table)]
            query = _postgresql_query(table, chosen) if postgresql else _sqlite_query(table, chosen)
            typed = ", ".join(f'{_cast(column)} AS "{column.name}"' for column in chosen)
            where = "" if postgresql else " WHERE _first = 0"
            target = item.target or f'internal."{table.name}"'
            create = f"CREATE OR REPLACE TABLE {target} AS SELECT {typed} FROM arriving{where}"
            _copy(duck, source, f"{query} WHERE {item.where}", create, f"table {table.name} of the ledger")


def _copy(
    duck: duckdb.DuckDBPyConnection, source: adbc_driver_manager.AdbcConnection, query: str, create: str, what: str
) -> None:
    try:
        with adbc_driver_manager.AdbcStatement(source) as statement:
            statement.set_sql_query(query)
            stream, _ = statement.execute_query()
            duck.register("arriving", stream)
            try:
                duck.execute(create)
            finally:
                duck.unregister("arriving")
    except adbc_driver_manager.Error as error:
        raise LedgerReadError(f"{what} cannot be read: {error}") from error


def _sqlite_query(table: Table, columns: list[Column[object]]) -> str:
    """The driver infers a column's type from the first rows and fails when a later row differs (NULLs, then a text).

    So the query starts with a dummy row that has every column's type; the copy filters it out.
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


def _type(column: Column[object]) -> str:
    if isinstance(column.type, UtcDateTime):
        return "TIMESTAMP"
    if isinstance(column.type, Boolean):
        return "BOOLEAN"
    return "INTEGER" if isinstance(column.type, Integer) else "VARCHAR"


_EXAMPLES = {"TIMESTAMP": "'1970-01-01 00:00:00'", "BOOLEAN": "0", "INTEGER": "0", "VARCHAR": "''"}


def _example(column: Column[object]) -> str:
    return "x'00'" if isinstance(column.type, LargeBinary) else _EXAMPLES[_type(column)]


def _cast(column: Column[object]) -> str:
    if isinstance(column.type, LargeBinary):
        return f'lower(hex("{column.name}"))'
    return f'CAST("{column.name}" AS {_type(column)})'


@contextmanager
def _source(engine_url: str) -> Iterator[adbc_driver_manager.AdbcConnection]:
    url = make_url(engine_url)
    if url.get_backend_name() == "postgresql":
        try:
            import adbc_driver_postgresql
        except ModuleNotFoundError as error:
            raise LedgerReadError("PostgreSQL needs the extra `postgres`: pip install 'kmsledger[postgres]'") from error
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
        cause = type(error).__name__ if passwords(url) else str(error)  # libpq's messages can repeat the URL
        raise LedgerReadError(f"the ledger {shown(url)} cannot be opened: {cause}") from error
    try:
        connection.set_autocommit(False)
        yield connection
    finally:
        connection.close()
        database.close()


def _run(connection: adbc_driver_manager.AdbcConnection, statement_text: str) -> None:
    with adbc_driver_manager.AdbcStatement(connection) as statement:
        statement.set_sql_query(statement_text)
        statement.execute_update()

"""Opens the mart as of an earlier run: the same views, over an in-memory catalog that filters the ledger tables.

Nothing is rebuilt: versions that begin later are omitted, and versions that end later are open again. Each query computes
the views that it names (about a second for a million keys), whereas the mart's file stores the costly ones.
"""

from __future__ import annotations

from pathlib import Path

import duckdb

from models.tables import versioned_tables
from reports.mart import change_log, view_loader
from reports.mart.as_of import RunRef, moments, resolve_as_of
from reports.mart.build_manifest import built_by_this_program
from reports.mart.connection import CATALOG, Limits, attached, locked
from reports.mart.errors import MartError
from reports.mart.internal_schema import create_schema
from reports.mart.rows import of_this_version

WHOLE = "whole"
"""The catalog of the mart's file."""
_OF_A_RUN = frozenset({"scope_coverage", "change_event", "delivery", "key_last_use_poll"})


def connect(
    path: Path, as_of: str | int, *, stored: bool = False, limits: Limits | None = None
) -> tuple[duckdb.DuckDBPyConnection, RunRef]:
    """Open a mart as of a run or date (see :func:`reports.mart.as_of.resolve_as_of`), for reading.

    With ``stored``, the costly views are computed once, for callers with many queries. Raises MartError or QueryError.
    """
    connection = opened(path)
    try:
        moment = resolve_as_of(moments(connection), as_of)
        selects = {table: _until(table, moment.run_id) for table in _tables(connection)}
        schema = built_by_this_program(connection, WHOLE)
        ledger(connection, selects, schema=schema)
        connection.execute(change_log.VIEW)
        with of_this_version():  # the tables of an earlier version lack columns
            view_loader.create(connection, moment.run_id, schema=schema, stored=stored)
        if stored:
            connection.execute(f"CHECKPOINT {CATALOG}")  # compresses what was computed, to a quarter or less
        locked(connection, limits)
    except BaseException:
        connection.close()
        raise
    return connection, moment


def opened(path: Path) -> duckdb.DuckDBPyConnection:
    """A connection that uses the mart's file as catalog ``whole``, with an empty in-memory catalog ``mart``."""
    connection = attached(path, WHOLE)
    connection.execute(f"ATTACH ':memory:' AS {CATALOG} (COMPRESS)")
    connection.execute(f"USE {WHOLE}")
    if not set(versioned_tables()) <= set(_tables(connection)):
        connection.close()
        raise MartError(f"{path} is not a mart of this version: rebuild it with `kmsledger mart`")
    return connection


def ledger(
    connection: duckdb.DuckDBPyConnection, selects: dict[str, str], *, tables: bool = False, schema: bool = False
) -> None:
    """Fill the catalog ``mart`` with ledger tables from SELECTs by table name, and use it.

    The SELECTs name tables with their catalog (``whole.internal``). As views they cost nothing until they are read. With
    ``schema``, the views and macros of the mart's file are copied.
    """
    connection.execute(f"USE {CATALOG}")
    if schema:
        connection.execute(f"COPY FROM DATABASE {WHOLE} TO {CATALOG} (SCHEMA)")
        tables_query = f"SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = '{CATALOG}'"
        for schema_name, table in connection.execute(tables_query).fetchall():
            connection.execute(f'DROP TABLE {schema_name}."{table}"')
    else:
        create_schema(connection)
    for table, select in selects.items():
        kind = "TABLE" if tables and table in versioned_tables() else "VIEW"
        connection.execute(f'CREATE {kind} internal."{table}" AS {select}')


def _tables(connection: duckdb.DuckDBPyConnection) -> list[str]:
    query = f"SELECT table_name FROM duckdb_tables() WHERE database_name = '{WHOLE}' AND schema_name = 'internal'"
    derived = {view.name for view in view_loader.views() if view.internal}
    return [name for (name,) in connection.execute(query).fetchall() if name not in derived]


def _until(table: str, run_id: int) -> str:
    """The SELECT of a ledger table as of a run. Later runs stay, so that views can count them."""
    source = f'SELECT * FROM {WHOLE}.internal."{table}"'
    if table in versioned_tables():
        known_end = f"CASE WHEN valid_to <= {run_id:d} THEN valid_to END AS valid_to"
        return f"{source.replace('*', f'* REPLACE ({known_end})', 1)} WHERE valid_from <= {run_id:d}"
    return f"{source} WHERE run_id <= {run_id:d}" if table in _OF_A_RUN else source

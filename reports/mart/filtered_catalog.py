"""A part of the mart's ledger as a catalog of its own: what is computed in it is computed of that part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import duckdb

from models.tables import versioned_tables
from reports.mart.connection import CATALOG
from reports.mart.macros import MACROS


@contextmanager
def sliced(
    duck: duckdb.DuckDBPyConnection, chosen: Callable[[str], str], *, without: str = ""
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection whose schema ``ledger`` has the mart's tables, all but one, as views.

    ``chosen`` is the condition on the rows of a facet; other tables are whole. Temporary tables are gone with the connection.
    """
    duck.execute("ATTACH ':memory:' AS slice (COMPRESS)")
    cursor = duck.cursor()
    try:
        cursor.execute("USE slice")
        cursor.execute("CREATE SCHEMA ledger")
        for macro in MACROS:
            cursor.execute(macro)
        query = f"SELECT table_name FROM duckdb_tables() WHERE database_name = '{CATALOG}' AND schema_name = 'ledger'"
        for (name,) in cursor.execute(query).fetchall():
            if name != without:
                where = chosen(name) if name in versioned_tables() else "true"
                cursor.execute(f'CREATE VIEW ledger."{name}" AS SELECT * FROM {CATALOG}.ledger."{name}" WHERE {where}')
        yield cursor
    finally:
        cursor.close()
        duck.execute("DETACH slice")

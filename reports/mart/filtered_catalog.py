"""A catalog with a filtered view of each ledger table: queries in it see only the selected facts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import duckdb

from models.tables import versioned_tables
from reports.connections import new_cursor
from reports.mart.connection import CATALOG
from reports.mart.macros import create_schema


@contextmanager
def filtered_catalog(
    duck: duckdb.DuckDBPyConnection, table_filter: Callable[[str], str], *, without: str = ""
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection whose schema ``internal`` has the mart's tables as views, except the table ``without``.

    ``table_filter`` returns the condition on the rows of a fact table; other tables are complete. Closing the connection drops
    its temporary tables.
    """
    duck.execute("ATTACH ':memory:' AS filtered (COMPRESS)")
    cursor = new_cursor(duck)
    try:
        cursor.execute("USE filtered")
        create_schema(cursor)
        query = f"SELECT table_name FROM duckdb_tables() WHERE database_name = '{CATALOG}' AND schema_name = 'internal'"
        for (name,) in cursor.execute(query).fetchall():
            if name != without:
                where = table_filter(name) if name in versioned_tables() else "true"
                cursor.execute(
                    f'CREATE VIEW internal."{name}" AS SELECT * FROM {CATALOG}.internal."{name}" WHERE {where}'
                )
        yield cursor
    finally:
        cursor.close()
        duck.execute("DETACH filtered")

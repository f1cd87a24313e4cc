"""The stored view of ways to keys: of all keys some at a time, and after a night of those that something happened to.

For a million keys at once memory does not suffice. A way depends on its key's own facts, and on whose accounts are whose; it
tells nothing that grows older by itself.
"""

from __future__ import annotations

import duckdb

from models.tables import facets
from reports.mart import views
from reports.mart.delta import Delta
from reports.mart.macros import MACROS
from reports.mart.reader import CATALOG
from reports.mart.rows import one
from reports.mart.state import Made

VIEW = "access_paths"
_OF_A_KEY = ("key", "key_metadata", "key_policy", "key_analysis", "key_grant")
_PART = "part"
MANY = 0.5
"""From this share of the keys on all ways are computed again."""
AT_ONCE = 100_000
"""Keys whose ways are computed together."""


def fill(duck: duckdb.DuckDBPyConnection, run_id: int) -> None:
    """Make the table of the ways to all keys."""
    duck.execute(
        "CREATE OR REPLACE TABLE memory.main.every_key AS SELECT key_arn, "
        f"CAST((row_number() OVER (ORDER BY key_arn) - 1) // {AT_ONCE:d} AS INTEGER) AS portion "
        "FROM (SELECT DISTINCT key_arn FROM ledger.key) AS named"
    )
    last = one(duck, "SELECT coalesce(max(portion), 0) FROM memory.main.every_key")[0]
    for portion in range(last + 1):
        touched = f"SELECT key_arn FROM memory.main.every_key WHERE portion = {portion:d}"
        duck.execute(f"CREATE OR REPLACE TABLE memory.main.touched AS {touched}")
        _take(duck, run_id, new=portion == 0)
    duck.execute("DROP TABLE memory.main.every_key")


def renew(duck: duckdb.DuckDBPyConnection, made: Made, delta: Delta, run_id: int) -> bool:
    """Bring the table up to date for a run; False when it has to be computed as a whole."""
    estate = "SELECT identity FROM {} WHERE name = 'estate'"
    known, now = (
        duck.execute(estate.format(source)).fetchall() for source in ("memory.main.state_before", "ledger.access_state")
    )
    if known != now or "account" in delta.changed:
        return False
    touched = [
        f"SELECT key_arn FROM ledger.{name} WHERE valid_from > {made.as_of:d} OR valid_to > {made.as_of:d}"
        for name in _OF_A_KEY
    ]
    touched.append(
        f"SELECT subject FROM ledger.gap WHERE (valid_from > {made.as_of:d} OR valid_to > {made.as_of:d}) AND subject <> ''"
    )
    for name, column in (*((facet, "key_arn") for facet in _OF_A_KEY), ("gap", "subject")):
        touched += [f'SELECT {column} FROM memory.arriving."{name} {what}"' for what in ("gone", "new")]
        touched.append(
            f'SELECT {column} FROM ledger.{name} WHERE version_id IN (SELECT version_id FROM memory.arriving."{name} ended")'
        )
    duck.execute(
        f"CREATE OR REPLACE TABLE memory.main.touched AS SELECT DISTINCT key_arn FROM ({' UNION ALL '.join(touched)})"
    )
    share = "SELECT (SELECT count(*) FROM memory.main.touched) / greatest((SELECT count(*) FROM ledger.key), 1)"
    if one(duck, share)[0] > MANY:
        return False
    duck.execute(f"DELETE FROM {VIEW} WHERE key_arn IN (SELECT key_arn FROM memory.main.touched)")
    _take(duck, run_id)
    return True


def _take(duck: duckdb.DuckDBPyConnection, run_id: int, *, new: bool = False) -> None:
    """Compute the ways to the keys in ``memory.main.touched`` in a catalog that has these only, and add them to the table."""
    duck.execute(f"ATTACH ':memory:' AS {_PART}")
    cursor = duck.cursor()
    try:
        cursor.execute(f"USE {_PART}")
        cursor.execute("CREATE SCHEMA ledger")
        for macro in MACROS:
            cursor.execute(macro)
        query = f"SELECT table_name FROM duckdb_tables() WHERE database_name = '{CATALOG}' AND schema_name = 'ledger'"
        for (name,) in cursor.execute(query).fetchall():
            cursor.execute(
                f'CREATE VIEW ledger."{name}" AS SELECT * FROM {CATALOG}.ledger."{name}" WHERE {_where(name)}'
            )
        select = next(view for view in views.views() if view.name == VIEW).select
        table = f"{CATALOG}.{VIEW}"
        into = f"CREATE OR REPLACE TABLE {table} AS" if new else f"INSERT INTO {table} BY NAME"
        cursor.execute(f"{into} {views.fixed(select, run_id)}")
    finally:
        cursor.close()
        duck.execute(f"DETACH {_PART}")


def _where(name: str) -> str:
    if name not in facets():
        return "true"
    column = {"gap": "subject"}.get(name, "key_arn")
    if name in {*_OF_A_KEY, "gap"}:
        return f"{column} IN (SELECT key_arn FROM memory.main.touched)"
    return "true"

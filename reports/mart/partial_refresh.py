"""Stored views of which a night changes little: only the rows of what something happened to are computed again.

The rows of such a view depend on their own key's (or finding's) versions, and on whose accounts are whose; nothing in them grows
older by itself. Of a million keys the ways are computed for some keys at a time, else memory does not suffice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import duckdb

from reports.mart import view_loader
from reports.mart.build_manifest import Made
from reports.mart.connection import CATALOG
from reports.mart.filtered_catalog import sliced
from reports.mart.incremental_load import Delta
from reports.mart.rows import one

_TOUCHED = "memory.main.touched"
MANY = 0.5
"""From this share of the rows on all are computed again."""
AT_ONCE = 100_000
"""Keys whose ways are computed together."""


@dataclass(frozen=True, slots=True)
class Part:
    """A stored view, and of which rows of facets its rows are made."""

    view: str
    columns: tuple[str, ...]
    """The columns of the view that tell whose a row is."""
    facets: Mapping[str, tuple[str, ...]]
    """The columns that tell the same of a facet's rows; other facets are read whole."""
    every: str
    """The facet that has all of which there can be rows."""

    def chosen(self, name: str) -> str:
        """A condition on a table of the ledger: what belongs to those in the table of touched ones."""
        if name not in self.facets:
            return "true"
        return f"({', '.join(self.facets[name])}) IN (SELECT ({', '.join(self.columns)}) FROM {_TOUCHED})"


PATHS = Part(
    "internal.access_paths",
    ("key_arn",),
    dict.fromkeys(("key", "key_metadata", "key_policy", "key_analysis", "key_grant"), ("key_arn",))
    | {"gap": ("subject",)},
    "key",
)
TURNS = Part(
    "internal.finding_episodes", ("rule_id", "resource_arn"), {"finding": ("rule_id", "resource_arn")}, "finding"
)


def fill_paths(duck: duckdb.DuckDBPyConnection, run_id: int) -> None:
    """Make the table of the ways to all keys."""
    duck.execute(
        "CREATE OR REPLACE TABLE memory.main.every_key AS SELECT key_arn, "
        f"CAST((row_number() OVER (ORDER BY key_arn) - 1) // {AT_ONCE:d} AS INTEGER) AS portion "
        "FROM (SELECT DISTINCT key_arn FROM internal.key) AS named"
    )
    last = one(duck, "SELECT coalesce(max(portion), 0) FROM memory.main.every_key")[0]
    for portion in range(last + 1):
        touched = f"SELECT key_arn FROM memory.main.every_key WHERE portion = {portion:d}"
        duck.execute(f"CREATE OR REPLACE TABLE {_TOUCHED} AS {touched}")
        _take(duck, PATHS, run_id, new=portion == 0)
    duck.execute("DROP TABLE memory.main.every_key")


def renew_paths(duck: duckdb.DuckDBPyConnection, made: Made, delta: Delta, run_id: int) -> None:
    """Bring the ways to keys up to date for a run."""
    organization = "SELECT identity FROM {} WHERE name = 'organization'"
    known, now = (
        duck.execute(organization.format(source)).fetchall()
        for source in ("memory.main.state_before", "internal.analysis_watermark")
    )
    if known != now or "account" in delta.changed or not renew(duck, PATHS, run_id, made.as_of):
        fill_paths(duck, run_id)


def renew(duck: duckdb.DuckDBPyConnection, part: Part, run_id: int, since: int | None = None) -> bool:
    """Bring the table up to date for a run, after the ledger's copy was; False when it has to be computed as a whole.

    What began or ended after run ``since`` is new to the table, also where it is not new to the copy.
    """
    touched = []
    for name, columns in part.facets.items():
        listed = ", ".join(f"{column} AS {called}" for column, called in zip(columns, part.columns, strict=True))
        if since is not None:
            touched.append(f"SELECT {listed} FROM internal.{name} WHERE valid_from > {since:d} OR valid_to > {since:d}")
        touched += [f'SELECT {listed} FROM memory.arriving."{name} {what}"' for what in ("gone", "new")]
        ended = f'SELECT version_id FROM memory.arriving."{name} ended"'
        touched.append(f"SELECT {listed} FROM internal.{name} WHERE version_id IN ({ended})")
    duck.execute(f"CREATE OR REPLACE TABLE {_TOUCHED} AS SELECT DISTINCT * FROM ({' UNION ALL '.join(touched)})")
    share = f"SELECT (SELECT count(*) FROM {_TOUCHED}) / greatest((SELECT count(*) FROM internal.{part.every}), 1)"
    if one(duck, share)[0] > MANY:
        return False
    mine = ", ".join(part.columns)
    duck.execute(f"DELETE FROM {part.view} WHERE ({mine}) IN (SELECT ({mine}) FROM {_TOUCHED})")
    _take(duck, part, run_id)
    return True


def _take(duck: duckdb.DuckDBPyConnection, part: Part, run_id: int, *, new: bool = False) -> None:
    """Compute rows in a catalog that has only what belongs to the touched ones, and add them to the table."""
    select = next(view for view in view_loader.views() if view.qualified == part.view).select
    table = f"{CATALOG}.{part.view}"
    into = f"CREATE OR REPLACE TABLE {table} AS" if new else f"INSERT INTO {table} BY NAME"
    with sliced(duck, part.chosen) as cursor:
        cursor.execute(f"{into} {view_loader.fixed(select, run_id)}")

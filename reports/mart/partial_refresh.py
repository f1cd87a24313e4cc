"""Incremental refresh of stored views: recomputes only the rows whose facts changed.

The rows of such a view depend on the versions of their own key (or finding) and on the organization's accounts; no row depends
on the current time. With a million keys, access paths are computed in chunks of keys to fit into memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import duckdb

from reports.mart import view_loader
from reports.mart.build_manifest import Manifest
from reports.mart.connection import CATALOG, fetch_one
from reports.mart.incremental_load import Delta
from reports.mart.internal_schema import filtered_catalog

_AFFECTED = "memory.main.affected"
MAX_REFRESH_RATIO = 0.5
"""The share of affected rows above which the whole view is recomputed."""
CHUNK_KEYS = 100_000
"""Keys whose access paths are computed together, at most."""
_BYTES_PER_KEY = 25_000
"""Memory for the access paths of a key and what they are computed from."""


@dataclass(frozen=True, slots=True)
class IncrementalView:
    """A stored view, and the fact rows from which each of its rows is computed."""

    view: str
    columns: tuple[str, ...]
    """The columns of the view that identify the key or finding."""
    tables: Mapping[str, tuple[str, ...]]
    """The same columns in each fact table; other fact tables are read completely."""
    universe: str
    """The fact table that lists every key or finding."""

    def filter(self, name: str) -> str:
        """The condition that limits a fact table to the affected keys or findings."""
        if name not in self.tables:
            return "true"
        return f"({', '.join(self.tables[name])}) IN (SELECT ({', '.join(self.columns)}) FROM {_AFFECTED})"


ACCESS_PATHS = IncrementalView(
    "internal.access_paths",
    ("key_arn",),
    dict.fromkeys(("key", "key_metadata", "key_policy", "key_analysis", "key_grant"), ("key_arn",))
    | {"gap": ("subject",)},
    "key",
)
FINDING_EPISODES = IncrementalView(
    "internal.finding_episodes", ("rule_id", "resource_arn"), {"finding": ("rule_id", "resource_arn")}, "finding"
)


def full_refresh(duck: duckdb.DuckDBPyConnection, run_id: int, memory: int | None) -> None:
    """Compute the access paths of all keys, in chunks for which this memory (bytes) suffices; None: there is plenty."""
    keys = CHUNK_KEYS if memory is None else min(CHUNK_KEYS, max(1, memory // _BYTES_PER_KEY))
    duck.execute(
        "CREATE OR REPLACE TABLE memory.main.every_key AS SELECT key_arn, "
        f"CAST((row_number() OVER (ORDER BY key_arn) - 1) // {keys:d} AS INTEGER) AS chunk "
        "FROM (SELECT DISTINCT key_arn FROM internal.key) AS named"
    )
    last = fetch_one(duck, "SELECT coalesce(max(chunk), 0) FROM memory.main.every_key")[0]
    for chunk in range(last + 1):
        affected = f"SELECT key_arn FROM memory.main.every_key WHERE chunk = {chunk:d}"
        duck.execute(f"CREATE OR REPLACE TABLE {_AFFECTED} AS {affected}")
        _insert(duck, ACCESS_PATHS, run_id, new=chunk == 0)
    duck.execute("DROP TABLE memory.main.every_key")


def refresh_access_paths(
    duck: duckdb.DuckDBPyConnection, published: Manifest, delta: Delta, run_id: int, memory: int | None
) -> None:
    """Update the access paths for a run, within this memory (see :func:`full_refresh`)."""
    organization = "SELECT identity FROM {} WHERE name = 'organization'"
    before, after = (
        duck.execute(organization.format(source)).fetchall()
        for source in ("memory.main.state_before", "internal.analysis_watermark")
    )
    if before != after or "account" in delta.changed or not refresh(duck, ACCESS_PATHS, delta, run_id, published.as_of):
        full_refresh(duck, run_id, memory)


def refresh(
    duck: duckdb.DuckDBPyConnection, view: IncrementalView, delta: Delta, run_id: int, since: int | None = None
) -> bool:
    """Update a stored view for a run, after an incremental load; False if it has to be recomputed completely.

    Includes versions that begin or end after run ``since``: the view has not seen them, even if the copy already has them.
    """
    affected = []
    for name, columns in view.tables.items():
        listed = ", ".join(f"{column} AS {alias}" for column, alias in zip(columns, view.columns, strict=True))
        if since is not None:
            affected.append(
                f"SELECT {listed} FROM internal.{name} WHERE valid_from > {since:d} OR valid_to > {since:d}"
            )
        affected += [f"SELECT {listed} FROM {rows}" for rows in (delta.rows(name, "gone"), delta.rows(name))]
        ended = f"SELECT version_id FROM {delta.rows(name, 'ended')}"
        affected.append(f"SELECT {listed} FROM internal.{name} WHERE version_id IN ({ended})")
    return _refresh(duck, view, " UNION ALL ".join(affected), run_id)


def refresh_findings(duck: duckdb.DuckDBPyConnection, run_id: int) -> bool:
    """Update the finding episodes after the rules ran; False if they have to be recomputed completely."""
    identity = ", ".join(FINDING_EPISODES.columns)
    tables = ("memory.main.changed_finding", "memory.main.deleted_finding")
    return _refresh(duck, FINDING_EPISODES, " UNION ALL ".join(f"SELECT {identity} FROM {t}" for t in tables), run_id)


def _refresh(duck: duckdb.DuckDBPyConnection, view: IncrementalView, affected: str, run_id: int) -> bool:
    duck.execute(f"CREATE OR REPLACE TABLE {_AFFECTED} AS SELECT DISTINCT * FROM ({affected})")
    count, total = fetch_one(
        duck, f"SELECT (SELECT count(*) FROM {_AFFECTED}), (SELECT count(*) FROM internal.{view.universe})"
    )
    if count > MAX_REFRESH_RATIO * max(total, 1):
        return False
    if not count:
        return True
    identity = ", ".join(view.columns)
    duck.execute(f"DELETE FROM {view.view} WHERE ({identity}) IN (SELECT ({identity}) FROM {_AFFECTED})")
    _insert(duck, view, run_id)
    return True


def _insert(duck: duckdb.DuckDBPyConnection, view: IncrementalView, run_id: int, *, new: bool = False) -> None:
    """Compute the rows of the affected keys or findings in a filtered catalog, and insert them into the table."""
    select = next(declared for declared in view_loader.views() if declared.qualified == view.view).select
    table = f"{CATALOG}.{view.view}"
    into = f"CREATE OR REPLACE TABLE {table} AS" if new else f"INSERT INTO {table} BY NAME"
    query = view_loader.fixed(select, run_id)
    with filtered_catalog(duck, view.filter, query) as cursor:
        cursor.execute(f"{into} {query}")

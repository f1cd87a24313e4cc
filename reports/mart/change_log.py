"""Computes the change events of runs from the versions that end or begin in each run; set-based, many runs at once.

A version that ends and a version of the same fact that begins in the same run are a change; either alone is a removal or an
addition. A fact that is read for the first time is not an addition: the first crawl of an account-region, and facts whose
request was denied since the key was first seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import resources

import duckdb

from models.tables import versioned_tables
from reports.mart import change_text_compression
from reports.mart.connection import CATALOG, fetch_one
from reports.mart.filtered_catalog import filtered_catalog

CHUNK_VERSIONS = 2_000_000
"""Versions that begin or end in the runs of one chunk: a year of a large organization does not fit into memory."""
_READ_COMPLETELY = frozenset({"account", "alias", "gap", "key", "resource"})
"""Fact tables that are read completely: when a fact was first seen, and its name, are older than the change itself."""
_OF_RESOURCES = frozenset({"resource", "key_reference", "resource_key", "tag"})


def create(duck: duckdb.DuckDBPyConnection, only: str = "true") -> None:
    """Compute ``internal.change`` from the history in schema ``internal`` of the catalog in use.

    ``only`` is a condition on the run and the resource that limits the changes.
    """
    folder = resources.files("reports.mart").joinpath("change_queries")
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    *queries, messages = files
    for file in queries:
        duck.execute(file.read_text(encoding="utf-8"))
    duck.execute(f"DELETE FROM stage WHERE NOT ({only})")
    duck.execute(messages.read_text(encoding="utf-8"))


def rebuild(duck: duckdb.DuckDBPyConnection) -> None:
    """Compute the stored changes of a mart from its history, in chunks of runs, and create the view ``internal.change``."""
    for number, (start, end) in enumerate(_run_chunks(duck)):
        _insert(
            duck,
            _Slice(partial(_runs_filter, start=start, end=end), f"run_id BETWEEN {start:d} AND {end:d}"),
            new=not number,
        )
    duck.execute(change_text_compression.DECODE_VIEW)


def update(duck: duckdb.DuckDBPyConnection, since: int, renamed: str) -> None:
    """Recompute the changes since a run, and all changes of renamed resources, after an incremental load.

    ``renamed`` is a SELECT of the resources: a change names a resource by its latest name, however old the change is.
    """
    duck.execute(f"DELETE FROM internal.{change_text_compression.TABLE} WHERE run_id >= {since:d}")
    for start, end in _run_chunks(duck, since):
        for name, select in _affected(start, end).items():
            duck.execute(f"CREATE OR REPLACE TABLE memory.main.{name} AS {select}")
        _insert(duck, _Slice(partial(_affected_filter, start=start, end=end), f"run_id BETWEEN {start:d} AND {end:d}"))
    duck.execute(f"CREATE OR REPLACE TABLE memory.main.renamed AS {renamed}")
    if fetch_one(duck, "SELECT count(*) FROM memory.main.renamed") != (0,):
        of_renamed = "coalesce(resource_arn, '') IN (SELECT resource_arn FROM memory.main.renamed)"
        duck.execute(f"DELETE FROM internal.{change_text_compression.TABLE} WHERE {of_renamed}")
        _insert(duck, _Slice(_renamed_filter, of_renamed))


@dataclass(frozen=True, slots=True)
class _Slice:
    """Some of the changes: the rows of each fact table that they follow from, and the condition that selects them."""

    table_filter: Callable[[str], str]
    condition: str


def _insert(duck: duckdb.DuckDBPyConnection, changes: _Slice, *, new: bool = False) -> None:
    """Compute some changes in a filtered catalog, and insert them into the mart."""
    with filtered_catalog(duck, changes.table_filter, without=change_text_compression.TABLE) as cursor:
        create(cursor, changes.condition)
        table = f"{CATALOG}.internal.{change_text_compression.TABLE}"
        into = f"CREATE OR REPLACE TABLE {table} AS" if new else f"INSERT INTO {table}"
        cursor.execute(f"{into} {change_text_compression.encode('internal.change', f'{CATALOG}.internal.key')}")


def _run_chunks(duck: duckdb.DuckDBPyConnection, since: int = 0) -> list[tuple[int, int]]:
    """The first and last run of each chunk: consecutive runs, together all since a run; at least one chunk."""
    counted = " UNION ALL ".join(
        f'SELECT {edge} AS run_id, count(*) AS n FROM internal."{name}" WHERE {edge} >= {since:d} GROUP BY {edge}'
        for name in versioned_tables()
        for edge in ("valid_from", "valid_to")
    )
    rows = duck.execute(f"SELECT run_id, sum(n) FROM ({counted}) GROUP BY run_id ORDER BY run_id").fetchall()
    chunks: list[tuple[int, int]] = []
    total = 0
    for run_id, versions in rows:
        total += versions
        if not chunks or total > CHUNK_VERSIONS:
            chunks.append((run_id, run_id))
            total = versions
        else:
            chunks[-1] = (chunks[-1][0], run_id)
    return chunks or [(since, since)]


def _runs_filter(name: str, start: int, end: int) -> str:
    if name == "alias":
        return f"valid_from <= {end:d} AND (valid_to IS NULL OR valid_to >= {start:d})"
    if name in _READ_COMPLETELY:
        return "true"
    return f"valid_from BETWEEN {start:d} AND {end:d} OR valid_to BETWEEN {start:d} AND {end:d}"


def _affected(start: int, end: int) -> dict[str, str]:
    """SELECTs of the keys and resources whose facts changed in some runs, and of all keys that their changes name."""
    within = f"(valid_from BETWEEN {start:d} AND {end:d} OR valid_to BETWEEN {start:d} AND {end:d})"

    def arns(column: str, *names: str) -> list[str]:
        return [f'SELECT {column} AS arn FROM internal."{name}" WHERE {within}' for name in names]

    keys = arns("key_arn", "key", "key_metadata", "key_policy", "key_rotation", "key_grant")
    tags = arns("resource_arn", "tag")
    used = arns("key_arn", "resource_key")
    # The oldest resource of each type shows since when the type is listed.
    oldest = "SELECT min_by(version_id, valid_from) FROM internal.resource GROUP BY resource_type"
    return {
        "affected_keys": " UNION ".join(keys + tags),
        "named_keys": " UNION ".join(keys + tags + used + arns("target_key_arn", "alias")),
        "affected_resources": " UNION ".join(
            [
                *arns("resource_arn", "resource", "resource_key", "tag"),
                f"SELECT resource_arn FROM internal.resource WHERE version_id IN ({oldest})",
            ]
        ),
    }


def _affected_filter(name: str, start: int, end: int) -> str:
    """Like :func:`_runs_filter`, without unaffected keys and resources; see :func:`_affected`."""
    where = _runs_filter(name, start, end)
    within = f"valid_from BETWEEN {start:d} AND {end:d} OR valid_to BETWEEN {start:d} AND {end:d}"
    if name == "key":
        return "key_arn IN (SELECT arn FROM memory.main.affected_keys)"
    if name == "resource":
        return "resource_arn IN (SELECT arn FROM memory.main.affected_resources)"
    if name == "alias":
        named = "target_key_arn IN (SELECT arn FROM memory.main.named_keys)"
        return f"({where}) AND ({within} OR {named})"
    return where


def _renamed_filter(name: str) -> str:
    if name in _OF_RESOURCES:
        return "resource_arn IN (SELECT resource_arn FROM memory.main.renamed)"
    return "true" if name in _READ_COMPLETELY else "false"

"""Computes the change events of runs from the versions that end or begin in each run; set-based, many runs at once.

A version that ends and a version of the same fact that begins in the same run are a change; either alone is a removal or an
addition. A fact that is read for the first time is not an addition: the first crawl of an account-region, and facts whose
request was denied since the key was first seen.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from importlib import resources

import duckdb

from reports.mart.connection import CATALOG, fetch_one
from reports.mart.internal_schema import filtered_catalog

CHUNK_VERSIONS = 2_000_000
"""Versions that begin or end in the runs of one chunk: a year of a large organization does not fit into memory."""
_READ_COMPLETELY = frozenset({"account", "alias", "gap", "key", "resource"})
"""Fact tables that are read completely: when a fact was first seen, and its name, are older than the change itself."""
_OF_RESOURCES = frozenset({"resource", "key_reference", "resource_key", "tag"})


TABLE = "internal.change_event"
VIEW = f"""
CREATE OR REPLACE VIEW internal.change AS
SELECT run_id, occurred_at, account_id, account_name, region, key_arn, resource_arn, subject, event_type, severity,
  head || subject
    || CASE WHEN located THEN ' in ' || coalesce(account_name || ' (', '') || account_id || coalesce(', ' || region, '')
      || CASE WHEN account_name IS NULL THEN '' ELSE ')' END ELSE '' END
    || tail AS message, before, after
FROM {TABLE}
"""
"""Creates ``internal.change``, the events with their messages, in a catalog that has the events."""


_EVENT_TABLE = f"""
CREATE TABLE IF NOT EXISTS {TABLE} (
  run_id INTEGER, occurred_at TIMESTAMP, account_id VARCHAR, account_name VARCHAR, region VARCHAR, key_arn VARCHAR,
  resource_arn VARCHAR, subject VARCHAR, event_type VARCHAR, severity VARCHAR, head VARCHAR, located BOOLEAN, tail VARCHAR,
  before VARCHAR, after VARCHAR
)
"""
_FACTS = {
    "10_keys.sql": ("key", "key_metadata", "key_rotation", "alias"),
    "20_policies.sql": ("key_policy", "key_grant"),
    "30_resources.sql": ("resource", "resource_key", "tag"),
    "40_accounts.sql": ("account", "custom_key_store"),
}
"""The fact tables whose changes a file of queries finds; without new or closed versions it need not run."""


@cache
def _queries() -> dict[str, str]:
    """The text of each file, in the order in which they run."""
    folder = resources.files("reports.mart").joinpath("change_queries")
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    return {file.name: file.read_text(encoding="utf-8") for file in files}


def find_first_reads(duck: duckdb.DuckDBPyConnection) -> None:
    """Create the temporary tables ``first_read`` and ``first_listed`` from the history of the catalog in use.

    They name the calls whose first result is not a change, because they had been denied until that run.
    """
    duck.execute(_queries()["00_first_reads.sql"])


def create(duck: duckdb.DuckDBPyConnection) -> None:
    """Compute the change events from the history in schema ``internal`` of the catalog in use, which has none yet."""
    duck.execute(";\n".join(_queries().values()))
    duck.execute(f"CREATE TABLE {TABLE} AS FROM event")
    duck.execute(VIEW)


def rebuild(duck: duckdb.DuckDBPyConnection) -> None:
    """Compute the change events of a mart from its history, in chunks of runs."""
    duck.execute(_EVENT_TABLE)
    (first,) = fetch_one(duck, "SELECT coalesce(min(run_id), 0) FROM internal.run")
    for start, end, facts in _run_chunks(duck, first + 1):
        _insert(duck, facts, partial(_runs_filter, start=start, end=end), _within(start, end))
    duck.execute(VIEW)


def update(duck: duckdb.DuckDBPyConnection, since: int, renamed: str) -> None:
    """Recompute the changes since a run, and all changes of renamed resources, after an incremental load.

    ``renamed`` is a SELECT of the resources: a change names a resource by its latest name, however old the change is.
    """
    duck.execute(f"DELETE FROM {TABLE} WHERE run_id >= {since:d}")
    for start, end, facts in _run_chunks(duck, since):
        for name, select in _affected(start, end).items():
            duck.execute(f"CREATE OR REPLACE TABLE memory.main.{name} AS {select}")
        _insert(duck, facts, partial(_affected_filter, start=start, end=end), _within(start, end))
    duck.execute(f"CREATE OR REPLACE TABLE memory.main.renamed AS {renamed}")
    if fetch_one(duck, "SELECT count(*) FROM memory.main.renamed") != (0,):
        of_renamed = "coalesce(resource_arn, '') IN (SELECT resource_arn FROM memory.main.renamed)"
        duck.execute(f"DELETE FROM {TABLE} WHERE {of_renamed}")
        _insert(duck, {"resource"}, _renamed_filter, of_renamed)


def _within(start: int, end: int) -> str:
    return f"run_id BETWEEN {start:d} AND {end:d}"


def _insert(
    duck: duckdb.DuckDBPyConnection, facts: set[str], table_filter: Callable[[str], str], condition: str
) -> None:
    """Compute the events that a condition on run and resource selects, from some rows of each fact table; store them.

    ``facts`` are the fact tables whose changes are to be found.
    """
    queries = ";\n".join(text for name, text in _queries().items() if facts.intersection(_FACTS.get(name, facts)))
    with filtered_catalog(duck, table_filter, queries) as cursor:
        cursor.execute(queries)
        cursor.execute(f"INSERT INTO {CATALOG}.{TABLE} BY NAME FROM event WHERE {condition}")


def _run_chunks(duck: duckdb.DuckDBPyConnection, since: int) -> list[tuple[int, int, set[str]]]:
    """The first and last run of each chunk, and the fact tables with changes in it: all runs with changes since a run."""
    counted = " UNION ALL ".join(
        f"SELECT {edge} AS run_id, count(*) AS n, '{name}' AS fact FROM internal.\"{name}\" "
        f"WHERE {edge} >= {since:d} GROUP BY {edge}"
        for names in _FACTS.values()
        for name in names
        for edge in ("valid_from", "valid_to")
    )
    rows = duck.execute(
        f"SELECT run_id, sum(n), list(fact) FROM ({counted}) GROUP BY run_id ORDER BY run_id"
    ).fetchall()
    chunks: list[tuple[int, int, set[str]]] = []
    total = 0
    for run_id, versions, facts in rows:
        total += versions
        if not chunks or total > CHUNK_VERSIONS:
            chunks.append((run_id, run_id, set(facts)))
            total = versions
        else:
            start, _, before = chunks[-1]
            chunks[-1] = (start, run_id, before | set(facts))
    return chunks


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

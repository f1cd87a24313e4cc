"""The changes from run to run, from the versions that ended or began in each run; set-based, for many runs at once.

A version that ended and another of the same fact that began in the same run are a change; one alone is a removal or an
addition. What is learned for the first time is not an addition: the first crawl of an account and region, and what had been
refused since the key was first seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import resources

import duckdb

from models.tables import versioned_tables
from reports.mart import change_text_compression
from reports.mart.connection import CATALOG
from reports.mart.filtered_catalog import sliced
from reports.mart.rows import one

AT_ONCE = 2_000_000
"""Versions that begin or end in the runs that are compared at once: a year of a large organization is too much for memory."""
_WHOLE = frozenset({"account", "alias", "gap", "key", "resource"})
"""Facets that are read whole: since when something is known, and what it is called, is older than the change itself."""
_OF_RESOURCES = frozenset({"resource", "key_reference", "key_usage", "tag"})


def create(duck: duckdb.DuckDBPyConnection, only: str = "true") -> None:
    """Fill ``ledger.change`` from the history in schema ``ledger`` of the catalog in use.

    ``only`` limits it to some changes: a condition on the run and the resource.
    """
    folder = resources.files("reports.mart").joinpath("change_queries")
    *parts, sentences = sorted((one for one in folder.iterdir() if one.name.endswith(".sql")), key=lambda one: one.name)
    for file in parts:
        duck.execute(file.read_text(encoding="utf-8"))
    duck.execute(f"DELETE FROM stage WHERE NOT ({only})")
    duck.execute(sentences.read_text(encoding="utf-8"))


def create_all(duck: duckdb.DuckDBPyConnection) -> None:
    """Fill ``ledger.told`` of a mart from its history, some runs at a time, and put ``ledger.change`` over it."""
    for number, (start, end) in enumerate(_portions(duck)):
        _take(
            duck,
            _Part(partial(_of_runs, start=start, end=end), f"run_id BETWEEN {start:d} AND {end:d}"),
            new=not number,
        )
    duck.execute(change_text_compression.VIEW)


def renew(duck: duckdb.DuckDBPyConnection, since: int, renamed: str) -> None:
    """Compute the changes since a run again, and all those of some resources, after the history became longer.

    ``renamed`` is a SELECT of the resources: a change calls a resource by its last name, however old the change is.
    """
    duck.execute(f"DELETE FROM ledger.{change_text_compression.TABLE} WHERE run_id >= {since:d}")
    for start, end in _portions(duck, since):
        for name, select in _concerned(start, end).items():
            duck.execute(f"CREATE OR REPLACE TABLE memory.main.{name} AS {select}")
        _take(duck, _Part(partial(_of_few, start=start, end=end), f"run_id BETWEEN {start:d} AND {end:d}"))
    duck.execute(f"CREATE OR REPLACE TABLE memory.main.renamed AS {renamed}")
    if one(duck, "SELECT count(*) FROM memory.main.renamed") != (0,):
        mine = "coalesce(resource_arn, '') IN (SELECT resource_arn FROM memory.main.renamed)"
        duck.execute(f"DELETE FROM ledger.{change_text_compression.TABLE} WHERE {mine}")
        _take(duck, _Part(_of_renamed, mine))


@dataclass(frozen=True, slots=True)
class _Part:
    """Some changes: what of each facet they follow from, and which of those that follow are meant."""

    facet: Callable[[str], str]
    wanted: str


def _take(duck: duckdb.DuckDBPyConnection, part: _Part, *, new: bool = False) -> None:
    """Compute some changes in a catalog whose ledger is a part of the mart's, and add them to the mart's."""
    with sliced(duck, part.facet, without=change_text_compression.TABLE) as cursor:
        create(cursor, part.wanted)
        table = f"{CATALOG}.ledger.{change_text_compression.TABLE}"
        into = f"CREATE OR REPLACE TABLE {table} AS" if new else f"INSERT INTO {table}"
        cursor.execute(f"{into} {change_text_compression.packed('ledger.change', f'{CATALOG}.ledger.key')}")


def _portions(duck: duckdb.DuckDBPyConnection, since: int = 0) -> list[tuple[int, int]]:
    """Neighbouring runs that are compared at once; together all since a run, at least one portion."""
    counted = " UNION ALL ".join(
        f'SELECT {edge} AS run_id, count(*) AS n FROM ledger."{name}" WHERE {edge} >= {since:d} GROUP BY {edge}'
        for name in versioned_tables()
        for edge in ("valid_from", "valid_to")
    )
    rows = duck.execute(f"SELECT run_id, sum(n) FROM ({counted}) GROUP BY run_id ORDER BY run_id").fetchall()
    portions: list[tuple[int, int]] = []
    held = 0
    for run_id, versions in rows:
        held += versions
        if not portions or held > AT_ONCE:
            portions.append((run_id, run_id))
            held = versions
        else:
            portions[-1] = (portions[-1][0], run_id)
    return portions or [(since, since)]


def _of_runs(name: str, start: int, end: int) -> str:
    if name == "alias":
        return f"valid_from <= {end:d} AND (valid_to IS NULL OR valid_to >= {start:d})"
    if name in _WHOLE:
        return "true"
    return f"valid_from BETWEEN {start:d} AND {end:d} OR valid_to BETWEEN {start:d} AND {end:d}"


def _concerned(start: int, end: int) -> dict[str, str]:
    """SELECTs of the keys and resources that something happened to in some runs, and of all keys that are named with them."""
    within = f"(valid_from BETWEEN {start:d} AND {end:d} OR valid_to BETWEEN {start:d} AND {end:d})"

    def arns(column: str, *names: str) -> list[str]:
        return [f'SELECT {column} AS arn FROM ledger."{name}" WHERE {within}' for name in names]

    keys = arns("key_arn", "key", "key_metadata", "key_policy", "key_rotation", "key_grant")
    tags = arns("resource_arn", "tag")
    used = arns("key_arn", "key_usage")
    # The oldest resource of each type tells since when the type is listed.
    oldest = "SELECT min_by(version_id, valid_from) FROM ledger.resource GROUP BY resource_type"
    return {
        "concerned_keys": " UNION ".join(keys + tags),
        "named_keys": " UNION ".join(keys + tags + used + arns("target_key_arn", "alias")),
        "concerned_resources": " UNION ".join(
            [
                *arns("resource_arn", "resource", "key_usage", "tag"),
                f"SELECT resource_arn FROM ledger.resource WHERE version_id IN ({oldest})",
            ]
        ),
    }


def _of_few(name: str, start: int, end: int) -> str:
    """Like :func:`_of_runs`, without the keys and resources that nothing happened to; see :func:`_concerned`."""
    where = _of_runs(name, start, end)
    within = f"valid_from BETWEEN {start:d} AND {end:d} OR valid_to BETWEEN {start:d} AND {end:d}"
    if name == "key":
        return "key_arn IN (SELECT arn FROM memory.main.concerned_keys)"
    if name == "resource":
        return "resource_arn IN (SELECT arn FROM memory.main.concerned_resources)"
    if name == "alias":
        named = "target_key_arn IN (SELECT arn FROM memory.main.named_keys)"
        return f"({where}) AND ({within} OR {named})"
    return where


def _of_renamed(name: str) -> str:
    if name in _OF_RESOURCES:
        return "resource_arn IN (SELECT resource_arn FROM memory.main.renamed)"
    return "true" if name in _WHOLE else "false"

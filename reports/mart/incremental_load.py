"""What a ledger has that a mart of it has not: versions that began or ended since, found by ids and an index, and applied.

Everything from the last known run on is compared with what the mart has of it: a resumed run, or rules that ran again, may
have taken versions back and given their ids out again. What is older changes by pruning only, which is noticed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import duckdb
from sqlalchemy import Table, make_url

from models.store.retention import PRUNED
from models.tables import versioned_tables
from reports.mart import load
from reports.mart.build_manifest import DoubtError, Made, compare_runs
from reports.mart.rows import one

_NEW = "memory.arriving"
_SMALL = ("run", "delivery", "access_policy", "access_analysis", "access_state")
"""Taken over whole."""
_BY_ANALYSIS = ("access_verdict", "access_hygiene")
_REPORTED = ("finding", "rule_result", "key_analysis")
"""Facets that are written after the crawl, perhaps for an older run or from the beginning: they are counted."""
_IDS_AT_ONCE = 2000


RENAMED = f"""
SELECT resource_arn FROM ledger.resource
WHERE resource_arn IN (SELECT resource_arn FROM {_NEW}."resource new" UNION SELECT resource_arn FROM {_NEW}."resource gone")
GROUP BY resource_arn
HAVING count(DISTINCT concat_ws('|', name, resource_type, account_id, region, listed_in)) > 1
"""
"""Resources with a new version and, over all versions, more than one name or place."""


@dataclass(slots=True)
class Delta:
    """What was applied."""

    since: int
    """The first run that something new began or ended in."""
    taken_back: set[str] = field(default_factory=set)
    """Tables that lost rows."""
    changed: dict[str, int] = field(default_factory=dict)
    """Rows that are new, gone or ended, by facet."""

    def told(self) -> str:
        """For the log."""
        return f"{sum(self.changed.values()):,} rows of {len(self.changed)} tables are new, or ended, since run {self.since}"


def came(name: str) -> str:
    """The table of the rows that came to one of the ledger's, after an update."""
    return f'{_NEW}."{name} new"' if name in versioned_tables() else f"{_NEW}.{name}"


def update(duck: duckdb.DuckDBPyConnection, engine_url: str, made: Made) -> Delta:
    """Bring the ledger's copy in the mart in use up to date. Raises DoubtError when that cannot be done for sure.

    Leaves tables in ``memory.arriving``: for each facet ``x new`` (versions), ``x gone`` (versions taken back) and ``x ended``
    (ids with their end), and ``policy_document`` with the texts that came.
    """
    duck.execute(f"CREATE SCHEMA {_NEW}")
    first = {name: _first_id(duck, name, made.since()) for name in versioned_tables()}
    load.load_parts(duck, engine_url, _wanted(duck, engine_url, made, first))
    _check(duck, made, first)
    delta = Delta(made.last_run + 1)
    for name in versioned_tables():
        _apply(duck, name, first[name], delta)
    _replace(duck, made, delta)
    return delta


def reload(duck: duckdb.DuckDBPyConnection, engine_url: str, names: tuple[str, ...], since: int) -> None:
    """Take over again what facets have from a run on."""
    parts: list[load.Part] = []
    first: dict[str, int] = {}
    for table in load.tables():
        if table.name in names:
            first[table.name] = _first_id(duck, table.name, since)
            parts += _versions(table, first[table.name], since)
    duck.execute(f"CREATE SCHEMA IF NOT EXISTS {_NEW}")
    load.load_parts(duck, engine_url, parts)
    for name, number in first.items():
        _apply(duck, name, number, Delta(since))


def _first_id(duck: duckdb.DuckDBPyConnection, name: str, since: int) -> int:
    """Of the versions that may have been written since a run."""
    query = f'SELECT coalesce(min(version_id) FILTER (valid_from >= {since:d}), max(version_id) + 1, 0) FROM ledger."{name}"'
    return int(one(duck, query)[0])


def _wanted(
    duck: duckdb.DuckDBPyConnection, engine_url: str, made: Made, first: dict[str, int]
) -> Iterator[load.Part | load.Query]:
    """All of it in one transaction of the ledger; what is asked later depends on what came before."""
    tables = {table.name: table for table in load.tables()}
    for name in _SMALL:
        yield _part(tables[name], "true", f'{_NEW}."{name}"')
    compare_runs(duck, "ledger.run", f"{_NEW}.run", made.last_run)  # again: this is the moment that is taken over
    since = made.since()
    for name, number in first.items():
        yield from _versions(tables[name], number, since)
        until = str(since) if name in _REPORTED else _WHOLE.format("run")
        yield load.Query(f'SELECT count(*) AS n FROM "{name}" WHERE valid_to < {until}', f'{_NEW}."{name} old"')
    for name in ("scope_run", "key_last_use_asked"):
        yield _part(tables[name], f"run_id >= {since:d}", f'{_NEW}."{name}"')
    yield load.Query(f"SELECT count(*) AS n FROM scope_run WHERE run_id < {since:d}", f'{_NEW}."scope_run old"')
    yield load.Query("SELECT count(*) AS n FROM key_last_use_asked", f'{_NEW}."asked"')
    documents = tables["policy_document"]
    yield load.Part(documents, ("policy_hash",), target=f"{_NEW}.document_ids")
    literal = "decode('{}', 'hex')" if make_url(engine_url).get_backend_name() == "postgresql" else "x'{}'"
    yield from _by_id(duck, documents, "policy_hash", "document_ids", literal)
    for name in _BY_ANALYSIS:
        yield from _by_id(duck, tables[name], "analysis_id", "access_analysis", literal)


_WHOLE = f"(SELECT coalesce(min(run_id), 0) FROM {{}} WHERE status <> '{PRUNED}')"
"""The oldest run that is not pruned."""


def _versions(table: Table, first: int, since: int) -> list[load.Part]:
    return [
        _part(table, f"version_id >= {first:d}", f'{_NEW}."{table.name} now"'),
        load.Part(
            table,
            ("version_id", "valid_to"),
            # The sign keeps the engines from going through all ids, where the other index has a handful.
            f"valid_to >= {since:d} AND +version_id < {first:d}",
            f'{_NEW}."{table.name} closed"',
        ),
    ]


def _part(table: Table, where: str, target: str) -> load.Part:
    return load.Part(table, load.columns(table), where, target)


def _by_id(
    duck: duckdb.DuckDBPyConnection, table: Table, column: str, listed: str, literal: str
) -> Iterator[load.Part]:
    """The rows whose ids the mart has not; neither a text nor an analysis changes under its id."""
    owner = "access_analysis" if column == "analysis_id" else table.name
    query = f"SELECT {column} FROM {_NEW}.{listed} EXCEPT SELECT {column} FROM ledger.{owner}"
    new = [row[0] for row in duck.execute(query).fetchall()]
    duck.execute(f"CREATE TABLE {_NEW}.{table.name} AS FROM ledger.{table.name} LIMIT 0")
    for start in range(0, len(new), _IDS_AT_ONCE):
        some = ", ".join(literal.format(one) for one in new[start : start + _IDS_AT_ONCE])
        yield _part(table, f"{column} IN ({some})", f"{_NEW}.some")
        duck.execute(f"INSERT INTO {_NEW}.{table.name} FROM {_NEW}.some")


def _check(duck: duckdb.DuckDBPyConnection, made: Made, first: dict[str, int]) -> None:
    """Compare what must not have changed. Raises DoubtError."""
    since = made.since()
    for name, number in first.items():
        until = str(since) if name in _REPORTED else _WHOLE.format(f"{_NEW}.run")
        old = f'SELECT count(*) FROM ledger."{name}" WHERE valid_to < {until}'
        _expect_same(duck, f'SELECT n FROM {_NEW}."{name} old"', old, name)
        closed = f'SELECT count(*) FROM {_NEW}."{name} closed"'
        found = f'{closed} WHERE version_id IN (SELECT version_id FROM ledger."{name}" WHERE version_id < {number:d})'
        _expect_same(duck, closed, found, name)
    old = f"SELECT count(*) FROM ledger.scope_run WHERE run_id < {since:d}"
    _expect_same(duck, f'SELECT n FROM {_NEW}."scope_run old"', old, "scope_run")
    remade = "SELECT max(identity) FROM {}.access_state WHERE name = 'made'"
    _expect_same(duck, remade.format(_NEW), remade.format("ledger"), "access_state")


def _expect_same(duck: duckdb.DuckDBPyConnection, one: str, other: str, name: str) -> None:
    if duck.execute(one).fetchall() != duck.execute(other).fetchall():
        raise DoubtError(f"older rows of table {name} were deleted or written anew")


def _apply(duck: duckdb.DuckDBPyConnection, name: str, first: int, delta: Delta) -> None:
    """Take versions back, add new ones, end those that ended."""
    known, now = f'ledger."{name}"', f'{_NEW}."{name} now"'
    gone, new, ended = (f'{_NEW}."{name} {what}"' for what in ("gone", "new", "ended"))
    # Rows are compared by hashes of 64 bits: after rules ran for the first time they are millions of texts.
    values = ", ".join(
        f'"{column}"' for column in load.columns(versioned_tables()[name].table()) if column != "valid_to"
    )
    mine, theirs = (
        f"SELECT version_id, hash({values}) AS row_hash FROM {source} WHERE version_id >= {first:d}"
        for source in (known, now)
    )
    same = f"SELECT version_id FROM ({mine}) AS m JOIN ({theirs}) AS t USING (version_id, row_hash)"
    duck.execute(f"CREATE OR REPLACE TABLE {_NEW}.same AS {same}")
    other = f"version_id NOT IN (SELECT version_id FROM {_NEW}.same)"
    duck.execute(f"CREATE OR REPLACE TABLE {gone} AS SELECT * FROM {known} WHERE version_id >= {first:d} AND {other}")
    duck.execute(f"CREATE OR REPLACE TABLE {new} AS SELECT * FROM {now} WHERE {other}")
    told = f'(SELECT version_id, valid_to FROM {_NEW}."{name} closed" UNION ALL SELECT version_id, valid_to FROM {now})'
    duck.execute(
        f"CREATE OR REPLACE TABLE {ended} AS SELECT k.version_id, t.valid_to, k.valid_to AS before FROM {known} k "
        f"JOIN {told} t ON t.version_id = k.version_id WHERE t.valid_to IS DISTINCT FROM k.valid_to "
        f"AND k.version_id NOT IN (SELECT version_id FROM {gone})"
    )
    counts = one(
        duck,
        f"SELECT (SELECT count(*) FROM {gone}), (SELECT count(*) FROM {new}), (SELECT count(*) FROM {ended}), "
        f"least((SELECT min(least(valid_from, valid_to)) FROM {gone}), (SELECT min(least(valid_from, valid_to)) FROM {new}), "
        f"(SELECT min(least(valid_to, before)) FROM {ended}))",
    )
    if not any(counts[:3]):
        return
    delta.changed[name] = sum(counts[:3])
    delta.since = min(delta.since, counts[3])
    if counts[0]:
        delta.taken_back.add(name)
        duck.execute(f"DELETE FROM {known} WHERE version_id IN (SELECT version_id FROM {gone})")
    if counts[2]:
        # In place: of all columns only this one is written again.
        duck.execute(f"UPDATE {known} SET valid_to = e.valid_to FROM {ended} e WHERE "
                     f'"{name}".version_id = e.version_id')  # fmt: skip
    duck.execute(f"INSERT INTO {known} BY NAME SELECT * FROM {new} ORDER BY version_id")


def _replace(duck: duckdb.DuckDBPyConnection, made: Made, delta: Delta) -> None:
    """The tables that are no facets."""
    for name in _SMALL:
        duck.execute(f"CREATE OR REPLACE TABLE ledger.{name} AS FROM {_NEW}.{name}")
    since = made.since()
    duck.execute(f"DELETE FROM ledger.scope_run WHERE run_id >= {since:d}")
    duck.execute(f"INSERT INTO ledger.scope_run BY NAME SELECT * FROM {_NEW}.scope_run ORDER BY run_id")
    duck.execute(
        "UPDATE ledger.key_last_use_asked SET asked_at = n.asked_at, run_id = n.run_id, account_id = n.account_id, "
        f"region = n.region FROM {_NEW}.key_last_use_asked n WHERE key_last_use_asked.key_arn = n.key_arn"
    )
    duck.execute(
        f"INSERT INTO ledger.key_last_use_asked BY NAME SELECT * FROM {_NEW}.key_last_use_asked n "
        "WHERE n.key_arn NOT IN (SELECT key_arn FROM ledger.key_last_use_asked)"
    )
    _expect_same(
        duck, f"SELECT n FROM {_NEW}.asked", "SELECT count(*) FROM ledger.key_last_use_asked", "key_last_use_asked"
    )
    for name, column, listed in (
        ("policy_document", "policy_hash", "document_ids"),
        *((name, "analysis_id", "access_analysis") for name in _BY_ANALYSIS),
    ):
        lost = one(duck, f"DELETE FROM ledger.{name} WHERE {column} NOT IN (SELECT {column} FROM {_NEW}.{listed})")
        if lost[0]:
            delta.taken_back.add(name)
        duck.execute(f"INSERT INTO ledger.{name} BY NAME FROM {_NEW}.{name}")

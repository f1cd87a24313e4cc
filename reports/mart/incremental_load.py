"""Incremental load: finds the versions that were inserted, closed or deleted since the last build, and applies them.

Versions are found by their ids and an index. Everything from the last known run on is compared with the mart: a resumed run,
or rules that ran again, may have deleted versions and reused their ids. Older rows change by pruning only, which is detected.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import duckdb
from sqlalchemy import Table, make_url

from models.store.retention import PRUNED
from models.tables import versioned_tables
from reports import ledger_reader
from reports.ledger_reader import Query, TableSlice
from reports.mart.build_manifest import Manifest, RebuildRequired, compare_runs
from reports.mart.connection import fetch_one

_NEW = "memory.arriving"
_SMALL = ("run", "delivery", "access_policy", "access_analysis", "analysis_watermark")
"""Small tables, copied completely."""
_BY_ANALYSIS = ("access_verdict", "policy_lint")
_REPORTED = ("finding", "rule_result", "key_analysis")
"""Fact tables that are written after the crawl, possibly for an older run or from scratch: their rows are counted."""
_IDS_AT_ONCE = 2000


RENAMED = f"""
SELECT resource_arn FROM internal.resource
WHERE resource_arn IN (SELECT resource_arn FROM {_NEW}."resource new" UNION SELECT resource_arn FROM {_NEW}."resource gone")
GROUP BY resource_arn
HAVING count(DISTINCT concat_ws('|', name, resource_type, account_id, region, listing_region)) > 1
"""
"""Resources with a new version and, over all versions, more than one name, type or account-region."""


@dataclass(slots=True)
class Delta:
    """What an incremental load applied."""

    since: int
    """The first run in which an applied version begins or ends."""
    tables_with_deletes: set[str] = field(default_factory=set)
    changed: dict[str, int] = field(default_factory=dict)
    """The number of inserted, deleted and closed rows, by fact table."""

    def summary(self) -> str:
        """One clause for the log."""
        return f"{sum(self.changed.values()):,} rows of {len(self.changed)} tables inserted or closed since run {self.since}"


def inserted_table(name: str) -> str:
    """The table of the rows that an update inserted into a ledger table."""
    return f'{_NEW}."{name} new"' if name in versioned_tables() else f"{_NEW}.{name}"


def update(duck: duckdb.DuckDBPyConnection, engine_url: str, manifest: Manifest) -> Delta:
    """Update the copy of the ledger in the mart in use. Raises RebuildRequired where the result might be wrong.

    Leaves tables in ``memory.arriving``: for each fact table ``x new`` (inserted versions), ``x gone`` (deleted versions) and
    ``x ended`` (ids of closed versions with their end), and ``policy_document`` with the inserted documents.
    """
    duck.execute(f"CREATE SCHEMA {_NEW}")
    first = {name: _first_id(duck, name, manifest.since()) for name in versioned_tables()}
    ledger_reader.copy_slices(duck, engine_url, _slices(duck, engine_url, manifest, first))
    _check_unchanged(duck, manifest, first)
    delta = Delta(manifest.last_run + 1)
    for name in versioned_tables():
        _apply(duck, name, first[name], delta)
    _replace_unversioned(duck, manifest, delta)
    return delta


def reload(duck: duckdb.DuckDBPyConnection, engine_url: str, names: tuple[str, ...], since: int) -> None:
    """Reload the versions of some fact tables that may have been written since a run."""
    slices: list[TableSlice] = []
    first: dict[str, int] = {}
    for table in ledger_reader.tables():
        if table.name in names:
            first[table.name] = _first_id(duck, table.name, since)
            slices += _versions(table, first[table.name], since)
    duck.execute(f"CREATE SCHEMA IF NOT EXISTS {_NEW}")
    ledger_reader.copy_slices(duck, engine_url, slices)
    for name, number in first.items():
        _apply(duck, name, number, Delta(since))


def _first_id(duck: duckdb.DuckDBPyConnection, name: str, since: int) -> int:
    """The first id of the versions that may have been written since a run."""
    query = f'SELECT coalesce(min(version_id) FILTER (valid_from >= {since:d}), max(version_id) + 1, 0) FROM internal."{name}"'
    return int(fetch_one(duck, query)[0])


def _slices(
    duck: duckdb.DuckDBPyConnection, engine_url: str, manifest: Manifest, first: dict[str, int]
) -> Iterator[TableSlice | Query]:
    """The slices to copy, all in one transaction of the ledger; later ones depend on what earlier ones returned."""
    tables = {table.name: table for table in ledger_reader.tables()}
    for name in _SMALL:
        yield _slice(tables[name], "true", f'{_NEW}."{name}"')
    compare_runs(duck, "internal.run", f"{_NEW}.run", manifest.last_run)  # repeated in the snapshot that is copied
    since = manifest.since()
    for name, number in first.items():
        yield from _versions(tables[name], number, since)
        until = str(since) if name in _REPORTED else _WHOLE.format("run")
        yield Query(f'SELECT count(*) AS n FROM "{name}" WHERE valid_to < {until}', f'{_NEW}."{name} old"')
    for name in ("scope_coverage", "key_last_use_poll"):
        yield _slice(tables[name], f"run_id >= {since:d}", f'{_NEW}."{name}"')
    yield Query(f"SELECT count(*) AS n FROM scope_coverage WHERE run_id < {since:d}", f'{_NEW}."scope_coverage old"')
    yield Query("SELECT count(*) AS n FROM key_last_use_poll", f'{_NEW}."polls"')
    documents = tables["policy_document"]
    yield TableSlice(documents, ("policy_hash",), target=f"{_NEW}.document_ids")
    literal = "decode('{}', 'hex')" if make_url(engine_url).get_backend_name() == "postgresql" else "x'{}'"
    yield from _by_id(duck, documents, "policy_hash", "document_ids", literal)
    for name in _BY_ANALYSIS:
        yield from _by_id(duck, tables[name], "analysis_id", "access_analysis", literal)


_WHOLE = f"(SELECT coalesce(min(run_id), 0) FROM {{}} WHERE status <> '{PRUNED}')"
"""The oldest run that is not pruned."""


def _versions(table: Table, first: int, since: int) -> list[TableSlice]:
    return [
        _slice(table, f"version_id >= {first:d}", f'{_NEW}."{table.name} now"'),
        TableSlice(
            table,
            ("version_id", "valid_to"),
            # The plus sign keeps the database from scanning all ids, where the index on valid_to finds a few rows.
            f"valid_to >= {since:d} AND +version_id < {first:d}",
            f'{_NEW}."{table.name} closed"',
        ),
    ]


def _slice(table: Table, where: str, target: str) -> TableSlice:
    return TableSlice(table, ledger_reader.columns(table), where, target)


def _by_id(
    duck: duckdb.DuckDBPyConnection, table: Table, column: str, listed: str, literal: str
) -> Iterator[TableSlice]:
    """The rows whose ids the mart lacks; neither a document nor an analysis changes under its id."""
    owner = "access_analysis" if column == "analysis_id" else table.name
    query = f"SELECT {column} FROM {_NEW}.{listed} EXCEPT SELECT {column} FROM internal.{owner}"
    new = [row[0] for row in duck.execute(query).fetchall()]
    duck.execute(f"CREATE TABLE {_NEW}.{table.name} AS FROM internal.{table.name} LIMIT 0")
    for start in range(0, len(new), _IDS_AT_ONCE):
        some = ", ".join(literal.format(row_id) for row_id in new[start : start + _IDS_AT_ONCE])
        yield _slice(table, f"{column} IN ({some})", f"{_NEW}.some")
        duck.execute(f"INSERT INTO {_NEW}.{table.name} FROM {_NEW}.some")


def _check_unchanged(duck: duckdb.DuckDBPyConnection, manifest: Manifest, first: dict[str, int]) -> None:
    """Compare counts of rows that must not have changed. Raises RebuildRequired."""
    since = manifest.since()
    for name, number in first.items():
        until = str(since) if name in _REPORTED else _WHOLE.format(f"{_NEW}.run")
        old = f'SELECT count(*) FROM internal."{name}" WHERE valid_to < {until}'
        _expect_same(duck, f'SELECT n FROM {_NEW}."{name} old"', old, name)
        closed = f'SELECT count(*) FROM {_NEW}."{name} closed"'
        found = f'{closed} WHERE version_id IN (SELECT version_id FROM internal."{name}" WHERE version_id < {number:d})'
        _expect_same(duck, closed, found, name)
    old = f"SELECT count(*) FROM internal.scope_coverage WHERE run_id < {since:d}"
    _expect_same(duck, f'SELECT n FROM {_NEW}."scope_coverage old"', old, "scope_coverage")
    rebuilt = "SELECT max(identity) FROM {}.analysis_watermark WHERE name = 'rebuilt'"
    _expect_same(duck, rebuilt.format(_NEW), rebuilt.format("internal"), "analysis_watermark")


def _expect_same(duck: duckdb.DuckDBPyConnection, left: str, right: str, name: str) -> None:
    if duck.execute(left).fetchall() != duck.execute(right).fetchall():
        raise RebuildRequired(f"older rows of table {name} were deleted or rewritten")


def _apply(duck: duckdb.DuckDBPyConnection, name: str, first: int, delta: Delta) -> None:
    """Delete, insert and close versions of one fact table."""
    known, now = f'internal."{name}"', f'{_NEW}."{name} now"'
    gone, new, ended = (f'{_NEW}."{name} {what}"' for what in ("gone", "new", "ended"))
    # Rows are compared by 64-bit hashes: after the rules' first run they are millions of texts.
    values = ", ".join(
        f'"{column}"' for column in ledger_reader.columns(versioned_tables()[name].table()) if column != "valid_to"
    )
    mart_rows, ledger_rows = (
        f"SELECT version_id, hash({values}) AS row_hash FROM {source} WHERE version_id >= {first:d}"
        for source in (known, now)
    )
    same = f"SELECT version_id FROM ({mart_rows}) AS m JOIN ({ledger_rows}) AS t USING (version_id, row_hash)"
    duck.execute(f"CREATE OR REPLACE TABLE {_NEW}.same AS {same}")
    other = f"version_id NOT IN (SELECT version_id FROM {_NEW}.same)"
    duck.execute(f"CREATE OR REPLACE TABLE {gone} AS SELECT * FROM {known} WHERE version_id >= {first:d} AND {other}")
    duck.execute(f"CREATE OR REPLACE TABLE {new} AS SELECT * FROM {now} WHERE {other}")
    ends = f'(SELECT version_id, valid_to FROM {_NEW}."{name} closed" UNION ALL SELECT version_id, valid_to FROM {now})'
    duck.execute(
        f"CREATE OR REPLACE TABLE {ended} AS SELECT k.version_id, t.valid_to, k.valid_to AS before FROM {known} k "
        f"JOIN {ends} t ON t.version_id = k.version_id WHERE t.valid_to IS DISTINCT FROM k.valid_to "
        f"AND k.version_id NOT IN (SELECT version_id FROM {gone})"
    )
    counts = fetch_one(
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
        delta.tables_with_deletes.add(name)
        duck.execute(f"DELETE FROM {known} WHERE version_id IN (SELECT version_id FROM {gone})")
    if counts[2]:
        # In place, which rewrites only this column.
        duck.execute(f"UPDATE {known} SET valid_to = e.valid_to FROM {ended} e WHERE "
                     f'"{name}".version_id = e.version_id')  # fmt: skip
    duck.execute(f"INSERT INTO {known} BY NAME SELECT * FROM {new} ORDER BY version_id")


def _replace_unversioned(duck: duckdb.DuckDBPyConnection, manifest: Manifest, delta: Delta) -> None:
    """Update the tables without history."""
    for name in _SMALL:
        duck.execute(f"CREATE OR REPLACE TABLE internal.{name} AS FROM {_NEW}.{name}")
    since = manifest.since()
    duck.execute(f"DELETE FROM internal.scope_coverage WHERE run_id >= {since:d}")
    duck.execute(f"INSERT INTO internal.scope_coverage BY NAME SELECT * FROM {_NEW}.scope_coverage ORDER BY run_id")
    duck.execute(
        "UPDATE internal.key_last_use_poll SET polled_at = n.polled_at, run_id = n.run_id, account_id = n.account_id, "
        f"region = n.region FROM {_NEW}.key_last_use_poll n WHERE key_last_use_poll.key_arn = n.key_arn"
    )
    duck.execute(
        f"INSERT INTO internal.key_last_use_poll BY NAME SELECT * FROM {_NEW}.key_last_use_poll n "
        "WHERE n.key_arn NOT IN (SELECT key_arn FROM internal.key_last_use_poll)"
    )
    _expect_same(
        duck, f"SELECT n FROM {_NEW}.polls", "SELECT count(*) FROM internal.key_last_use_poll", "key_last_use_poll"
    )
    for name, column, listed in (
        ("policy_document", "policy_hash", "document_ids"),
        *((name, "analysis_id", "access_analysis") for name in _BY_ANALYSIS),
    ):
        deleted = fetch_one(
            duck, f"DELETE FROM internal.{name} WHERE {column} NOT IN (SELECT {column} FROM {_NEW}.{listed})"
        )
        if deleted[0]:
            delta.tables_with_deletes.add(name)
        duck.execute(f"INSERT INTO internal.{name} BY NAME FROM {_NEW}.{name}")

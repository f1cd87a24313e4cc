"""Incremental load: finds the versions that were inserted, closed or deleted since the last build, and applies them.

Versions are found by their ids and an index. Everything from the last known run on is compared with the mart: a resumed run,
or rules that ran again, may have deleted versions and reused their ids. Older rows change by pruning only, which is detected.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import duckdb
from sqlalchemy import Table, make_url

from models.run_status import RunStatus
from models.tables import versioned_tables
from reports import ledger_reader
from reports.ledger_reader import Query, TableSlice
from reports.mart.as_of import moments, resolve_as_of
from reports.mart.build_manifest import Manifest, RebuildRequired, compare_runs
from reports.mart.connection import fetch_one

_NEW = "memory.arriving"
_SMALL = ("run", "delivery", "access_policy", "access_analysis", "analysis_watermark")
"""Small tables, copied completely."""
_BY_ANALYSIS = ("access_verdict", "policy_lint")
RESULTS = ("finding", "rule_result")
"""The fact tables with the results of the rules."""
_REPORTED = (*RESULTS, "key_analysis")
"""Fact tables that are written after the crawl, possibly for an older run or from scratch: their rows are counted."""
_IDS_AT_ONCE = 2000


@dataclass(slots=True)
class Delta:
    """What an incremental load applied."""

    since: int
    """The first run in which an applied version begins or ends, results of the crawl only."""
    tables_with_deletes: set[str] = field(default_factory=set)
    changed: dict[str, int] = field(default_factory=dict)
    """The number of inserted, deleted and closed rows, by fact table."""

    def summary(self) -> str:
        """One clause for the log."""
        return f"{sum(self.changed.values()):,} rows of {len(self.changed)} tables inserted, deleted or closed"

    def rows(self, name: str, change: Literal["new", "gone", "ended"] = "new") -> str:
        """The table of the rows that were inserted into a table of the ledger, deleted from it or closed.

        Rows of ``ended`` have the version's id and its end; only fact tables have deleted and closed rows.
        """
        if name not in versioned_tables():
            return f"{_NEW}.{name}"
        return f'{_NEW}."{name} {change}"' if name in self.changed else f'(FROM internal."{name}" LIMIT 0)'

    def renamed(self) -> str:
        """The SELECT of the resources with a new version and, over all versions, more than one name, type or account-region."""
        return f"""
            SELECT resource_arn FROM internal.resource
            WHERE resource_arn IN (
              SELECT resource_arn FROM {self.rows("resource")} UNION SELECT resource_arn FROM {self.rows("resource", "gone")}
            )
            GROUP BY resource_arn
            HAVING count(DISTINCT concat_ws('|', name, resource_type, account_id, region, listing_region)) > 1
            """


def update(duck: duckdb.DuckDBPyConnection, engine_url: str, manifest: Manifest, as_of: int | str | None) -> Delta:
    """Update the copy of the ledger in the mart in use. Raises RebuildRequired where the result might be wrong."""
    duck.execute(f"CREATE SCHEMA {_NEW}")
    since = manifest.since()
    for name in RESULTS:
        duck.execute(f"DELETE FROM internal.{name} WHERE version_id IS NULL")  # see apply_results
    first = _first_ids(duck, versioned_tables(), since)
    ledger_reader.copy_slices(duck, engine_url, _slices(duck, engine_url, manifest, first, as_of))
    _check_unchanged(duck, since)
    delta = Delta(manifest.last_run + 1)
    _apply_versions(duck, first, delta)
    _replace_unversioned(duck, since, delta)
    return delta


def apply_results(duck: duckdb.DuckDBPyConnection, run_id: int) -> None:
    """Merge the changed results of the rules, which the ledger has merged, into the mart's copies in the same way.

    The ledger's ids of the new rows are not read back: they are NULL until the next build, which loads these rows again.
    """
    models = versioned_tables()
    for name in RESULTS:
        known, keys = f"internal.{name}", ", ".join(models[name].natural_key)
        changed, deleted = f"memory.main.changed_{name}", f"memory.main.deleted_{name}"
        closed = f"valid_to IS NULL AND ({keys}) IN (SELECT ({keys}) FROM {changed} UNION ALL SELECT ({keys}) FROM {deleted})"
        duck.execute(f"DELETE FROM {known} WHERE {closed} AND valid_from = {run_id:d}")
        duck.execute(f"UPDATE {known} SET valid_to = {run_id:d} WHERE {closed}")
        duck.execute(f"INSERT INTO {known} BY NAME SELECT *, {run_id:d} AS valid_from FROM {changed}")


def _first_ids(duck: duckdb.DuckDBPyConnection, names: Iterable[str], since: int) -> dict[str, int]:
    """The first id of the versions that may have been written since a run, by fact table."""
    query = (
        "SELECT '{0}', coalesce(min(version_id) FILTER (valid_from >= {1:d}), max(version_id) + 1, 0) "
        'FROM internal."{0}"'
    )
    return dict(duck.execute(" UNION ALL ".join(query.format(name, since) for name in names)).fetchall())


def _slices(
    duck: duckdb.DuckDBPyConnection, engine_url: str, manifest: Manifest, first: dict[str, int], as_of: int | str | None
) -> Iterator[TableSlice | Query]:
    """The slices to copy, all in one transaction of the ledger; later ones depend on what earlier ones returned."""
    tables = {table.name: table for table in ledger_reader.tables()}
    for name in _SMALL:
        yield TableSlice(tables[name], target=f"{_NEW}.{name}")
    compare_runs(duck, "internal.run", f"{_NEW}.run", manifest.last_run)
    runs = moments(duck, f"{_NEW}.run")
    if resolve_as_of(runs, as_of) != resolve_as_of(runs):
        raise RebuildRequired("an earlier run is requested")
    since = manifest.since()
    yield from _versions(duck, first, since)
    for name in ("scope_coverage", "key_last_use_poll"):
        yield TableSlice(tables[name], where=f"run_id >= {since:d}", target=f"{_NEW}.{name}")
    yield Query(_count_old(duck, since), f"{_NEW}.old")
    yield Query("SELECT count(*) AS n FROM key_last_use_poll", f"{_NEW}.polls")
    documents = tables["policy_document"]
    yield TableSlice(documents, target=f"{_NEW}.document_ids", columns=("policy_hash",))
    literal = "decode('{}', 'hex')" if make_url(engine_url).get_backend_name() == "postgresql" else "x'{}'"
    yield from _by_id(duck, documents, "policy_hash", "document_ids", literal)
    for name in _BY_ANALYSIS:
        yield from _by_id(duck, tables[name], "analysis_id", "access_analysis", literal)


def _versions(duck: duckdb.DuckDBPyConnection, first: dict[str, int], since: int) -> Iterator[TableSlice | Query]:
    """All versions from the first ids on, of the tables that have any, and the ends since a run of older versions."""
    models = versioned_tables()
    from_first = {name: f"version_id >= {number:d}" for name, number in first.items()}
    written = (
        f"SELECT '{name}' AS name WHERE EXISTS (SELECT 1 FROM \"{name}\" WHERE {where})"
        for name, where in from_first.items()
    )
    yield Query(" UNION ALL ".join(["SELECT '' AS name", *written]), f"{_NEW}.written")
    for name in _names(duck, "written"):
        yield TableSlice(models[name].table(), where=from_first[name], target=f'{_NEW}."{name} now"')
    # The plus sign keeps the database from scanning all ids, where the index on valid_to finds a few rows.
    closed = (
        f"SELECT '{name}', version_id, valid_to FROM \"{name}\" WHERE valid_to >= {since:d} AND +version_id < {number:d}"
        for name, number in first.items()
    )
    typed = "SELECT '' AS name, 0 AS version_id, 0 AS valid_to"
    yield Query(" UNION ALL ".join([typed, *closed]), f"{_NEW}.closed")


def _names(duck: duckdb.DuckDBPyConnection, listed: str) -> set[str]:
    """The fact tables that a query of the ledger has listed."""
    return {name for (name,) in duck.execute(f"SELECT DISTINCT name FROM {_NEW}.{listed} WHERE name <> ''").fetchall()}


def _count_old(duck: duckdb.DuckDBPyConnection, since: int, schema: str = "") -> str:
    """The SELECT that counts rows that only pruning may change, by table, in the ledger or in a schema of the mart."""
    oldest = fetch_one(duck, f"SELECT coalesce(min(run_id), 0) FROM {_NEW}.run WHERE status <> '{RunStatus.PRUNED}'")[0]
    counts = [
        f"SELECT '{name}' AS name, count(*) AS n FROM {schema}\"{name}\" "
        f"WHERE valid_to < {since if name in _REPORTED else oldest:d}"
        for name in versioned_tables()
    ]
    counts.append(f"SELECT 'scope_coverage', count(*) FROM {schema}scope_coverage WHERE run_id < {since:d}")
    return " UNION ALL ".join(counts)


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
        yield TableSlice(table, where=f"{column} IN ({some})", target=f"{_NEW}.some")
        duck.execute(f"INSERT INTO {_NEW}.{table.name} FROM {_NEW}.some")


def _check_unchanged(duck: duckdb.DuckDBPyConnection, since: int) -> None:
    """Compare rows that must not have changed. Raises RebuildRequired."""
    counts = _count_old(duck, since, "internal.")
    different = f"SELECT name FROM {_NEW}.old JOIN ({counts}) AS known USING (name) WHERE old.n <> known.n"
    missing = [
        f'SELECT name FROM {_NEW}.closed c ANTI JOIN internal."{name}" k ON k.version_id = c.version_id '
        f"WHERE c.name = '{name}'"
        for name in _names(duck, "closed")
    ]
    other_analyses = "SELECT 'analysis_watermark' WHERE ({}) IS DISTINCT FROM ({})".format(
        *(
            f"SELECT max(identity) FROM {schema}.analysis_watermark WHERE name = 'rebuilt'"
            for schema in (_NEW, "internal")
        )
    )
    for (name,) in duck.execute(" UNION ALL ".join([different, *missing, other_analyses])).fetchall():
        raise _rewritten(name)


def _rewritten(name: str) -> RebuildRequired:
    return RebuildRequired(f"older rows of table {name} were deleted or rewritten")


def _apply_versions(duck: duckdb.DuckDBPyConnection, first: dict[str, int], delta: Delta) -> None:
    """Delete, insert and close versions of the fact tables; most tables are the same after most runs."""
    models = versioned_tables()
    last = (f"SELECT '{name}' AS name, max(version_id) AS n FROM internal.\"{name}\"" for name in first)
    ids = dict(duck.execute(" UNION ALL ".join(last)).fetchall())
    candidates = {name for name, number in first.items() if (ids[name] or 0) >= number > 0}
    candidates |= _names(duck, "written") | _names(duck, "closed")
    queries = []
    for name in sorted(candidates):
        table, known, now = models[name].table(), f'internal."{name}"', f'{_NEW}."{name} now"'
        duck.execute(ledger_reader.create_table(table, now))
        values = ", ".join(f'"{column}"' for column in ledger_reader.columns(table))
        content = f"SELECT sum(hash({values})) FROM {{}} WHERE version_id >= {first[name]:d}"
        queries.append(
            f"SELECT '{name}' WHERE ({content.format(known)}) IS DISTINCT FROM ({content.format(now)}) OR EXISTS ("
            f"FROM {_NEW}.closed c JOIN {known} k USING (version_id) "
            f"WHERE c.name = '{name}' AND c.valid_to IS DISTINCT FROM k.valid_to)"
        )
    if queries:
        for (name,) in duck.execute(" UNION ALL ".join(queries)).fetchall():
            _apply(duck, models[name].table(), first[name], delta)


def _apply(duck: duckdb.DuckDBPyConnection, table: Table, first: int, delta: Delta) -> None:
    """Delete, insert and close versions of one fact table."""
    name = table.name
    known, now = f'internal."{name}"', f'{_NEW}."{name} now"'
    gone, new, ended = (f'{_NEW}."{name} {what}"' for what in ("gone", "new", "ended"))
    # Rows are compared by 64-bit hashes: after the rules' first run they are millions of texts.
    values = ", ".join(f'"{column}"' for column in ledger_reader.columns(table) if column != "valid_to")
    mart_rows, ledger_rows = (
        f"SELECT version_id, hash({values}) AS row_hash FROM {source} WHERE version_id >= {first:d}"
        for source in (known, now)
    )
    same = f"SELECT version_id FROM ({mart_rows}) AS m JOIN ({ledger_rows}) AS t USING (version_id, row_hash)"
    duck.execute(f"CREATE OR REPLACE TABLE {_NEW}.same AS {same}")
    other = f"version_id NOT IN (SELECT version_id FROM {_NEW}.same)"
    duck.execute(f"CREATE OR REPLACE TABLE {gone} AS SELECT * FROM {known} WHERE version_id >= {first:d} AND {other}")
    duck.execute(f"CREATE OR REPLACE TABLE {new} AS SELECT * FROM {now} WHERE {other}")
    closed = f"SELECT version_id, valid_to FROM {_NEW}.closed WHERE name = '{name}'"
    ends = f"{closed} UNION ALL SELECT version_id, valid_to FROM {now}"
    duck.execute(
        f"CREATE OR REPLACE TABLE {ended} AS SELECT k.version_id, t.valid_to, k.valid_to AS before FROM {known} k "
        f"JOIN ({ends}) t ON t.version_id = k.version_id WHERE t.valid_to IS DISTINCT FROM k.valid_to "
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
    if name not in _REPORTED:
        delta.since = min(delta.since, counts[3])
    if counts[0]:
        delta.tables_with_deletes.add(name)
        duck.execute(f"DELETE FROM {known} WHERE version_id IN (SELECT version_id FROM {gone})")
    if counts[2]:
        # In place, which rewrites only this column.
        duck.execute(f"UPDATE {known} SET valid_to = e.valid_to FROM {ended} e WHERE "
                     f'"{name}".version_id = e.version_id')  # fmt: skip
    duck.execute(f"INSERT INTO {known} BY NAME SELECT * FROM {new} ORDER BY version_id")


def _replace_unversioned(duck: duckdb.DuckDBPyConnection, since: int, delta: Delta) -> None:
    """Update the tables without history."""
    for name in _SMALL:
        duck.execute(f"CREATE OR REPLACE TABLE internal.{name} AS FROM {_NEW}.{name}")
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
    if fetch_one(duck, f"FROM {_NEW}.polls") != fetch_one(duck, "SELECT count(*) FROM internal.key_last_use_poll"):
        raise _rewritten("key_last_use_poll")
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

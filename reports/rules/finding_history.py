"""Records in the ledger the results that changed since the last run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import duckdb
from sqlalchemy import Connection

from models.store.prefetch import prefetch_pages
from models.store.scd2_merge import Batch, Merged, merge
from models.tables.findings import Finding, RuleResult
from models.versioned import VersionedTable

_CHUNK_ROWS = 50_000
"""Rows in memory at a time."""
_PREFETCHED_CHUNKS = 10
"""Chunks whose rows are prefetched from the ledger."""

# The columns of a finding in the ledger, as expressions over the mart's results.
_COLUMNS = {
    "rule_id": "j.rule_id",
    "resource_arn": "coalesce(s.resource_arn, v.unlisted ->> 'resource_arn')",
    "account_id": "coalesce(l.account_id, v.unlisted ->> 'account_id')",
    "region": "coalesce(l.region, v.unlisted ->> 'region')",
    "key_arn": "coalesce(k.resource_arn, v.unlisted ->> 'key_arn')",
    "severity": "j.severity",
    "status": "CAST(v.status AS VARCHAR)",
    "unwaived_status": "CAST(v.unwaived_status AS VARCHAR)",
    "waiver": "v.waiver",
    "reason": "v.reason",
}
# Texts that many results share are hashed once.
_HASHED = {
    "resource_arn": "coalesce(s.hashed, hash(v.unlisted ->> 'resource_arn'))",
    "key_arn": "coalesce(k.hashed, hash(v.unlisted ->> 'key_arn'))",
}
_RESULTS = """
FROM internal.verdict v
JOIN internal.rule_run j ON j.rule = v.rule
LEFT JOIN {named} s ON s.subject = v.subject
LEFT JOIN {named} k ON k.subject = v.key_subject
LEFT JOIN internal.account_region_dim l ON l.account_region = v.account_region
"""
_COUNT_STATUSES = {
    "passed": "pass",
    "failed": "fail",
    "unknown": "unknown",
    "not_applicable": "not_applicable",
    "waived": "waived",
}


def _hash(columns: Iterable[str]) -> str:
    return f"hash({', '.join(_HASHED.get(column, _COLUMNS[column]) for column in columns)})"


def _hash_in_ledger(columns: Iterable[str]) -> str:
    return f"hash({', '.join(f'hash({column})' if column in _HASHED else column for column in columns)})"


def _values(model: type[VersionedTable]) -> list[str]:
    return [column for column in model.value_columns() if column not in model.natural_key]


# The ledger keeps only current problems and resources that were a problem before. These can be millions of texts, and few of
# them change in a run, so they are compared with the ledger's rows by 64-bit hashes.
_CURRENT = f"""
CREATE OR REPLACE TEMP TABLE current_finding AS
SELECT v.rowid AS position, {_hash(Finding.natural_key)} AS pair, {_hash(_values(Finding))} AS content
{_RESULTS.format(named="(SELECT subject, hash(resource_arn) AS hashed FROM internal.resource_dim)")}
WHERE v.unwaived_status IN ('fail', 'unknown') OR v.was_problem
"""
_CHANGED = f"""
CREATE OR REPLACE TEMP TABLE changed_finding AS
SELECT n.position FROM current_finding n
ANTI JOIN (
  SELECT {_hash_in_ledger(Finding.natural_key)} AS pair, {_hash_in_ledger(_values(Finding))} AS content
  FROM internal.finding WHERE valid_to IS NULL
) o ON o.pair = n.pair AND o.content = n.content
"""
_CHANGED_ROWS = f"""
SELECT {", ".join(f"{_COLUMNS[column]} AS {column}" for column in Finding.value_columns())}
{_RESULTS.format(named="internal.resource_dim")}
JOIN changed_finding c ON c.position = v.rowid
"""
_RESOLVED = f"""
SELECT {", ".join(Finding.natural_key)} FROM internal.finding
WHERE valid_to IS NULL AND {_hash_in_ledger(Finding.natural_key)} NOT IN (SELECT pair FROM current_finding)
"""
_COUNTS = f"""
CREATE OR REPLACE TEMP TABLE current_rule_result AS
SELECT j.rule_id, coalesce(l.account_id, v.account_id, '') AS account_id, coalesce(l.region, v.region, '') AS region,
  {", ".join(f"CAST(sum(v.{name}) AS INTEGER) AS {name}" for name in _COUNT_STATUSES)}
FROM (
  SELECT rule, account_region, unlisted ->> 'account_id' AS account_id, unlisted ->> 'region' AS region,
    {", ".join(f"count(*) FILTER (status = '{status}') AS {name}" for name, status in _COUNT_STATUSES.items())}
  FROM internal.verdict GROUP BY rule, account_region, account_id, region
) v
JOIN internal.rule_run j ON j.rule = v.rule
LEFT JOIN internal.account_region_dim l ON l.account_region = v.account_region
GROUP BY ALL
"""


def record(duck: duckdb.DuckDBPyConnection, connection: Connection, run_id: int) -> Merged:
    """Merge the changes into the fact tables ``finding`` and ``rule_result``; returns the rows written.

    A finding whose resource or rule no longer exists is closed. The caller must reload the mart's copies of both tables.
    """
    duck.execute(_CURRENT)
    duck.execute(_CHANGED)
    total = _merge(duck, connection, run_id, Finding, (_CHANGED_ROWS, _RESOLVED))
    duck.execute("DROP TABLE current_finding")
    duck.execute("DROP TABLE changed_finding")
    duck.execute(_COUNTS)
    total += _merge(duck, connection, run_id, RuleResult, _differences(RuleResult, "current_rule_result"))
    duck.execute("DROP TABLE current_rule_result")
    return total


def _differences(model: type[VersionedTable], current: str) -> tuple[str, str]:
    """Two SELECTs: the rows of a table that the ledger lacks, and the natural keys of ledger rows that the table lacks."""
    same = " AND ".join(f"o.{column} = n.{column}" for column in model.natural_key)
    differs = " OR ".join(f"o.{column} IS DISTINCT FROM n.{column}" for column in _values(model))
    stored = f"(SELECT * FROM internal.{model.table().name} WHERE valid_to IS NULL)"
    columns = ", ".join(f"n.{column}" for column in model.value_columns())
    is_new = f"o.{model.natural_key[0]} IS NULL"
    changed = f"SELECT {columns} FROM {current} n LEFT JOIN {stored} o ON {same} WHERE {is_new} OR {differs}"
    deleted = f"SELECT {', '.join(f'o.{column}' for column in model.natural_key)} FROM {stored} o ANTI JOIN {current} n ON {same}"
    return changed, deleted


def _merge(
    duck: duckdb.DuckDBPyConnection,
    connection: Connection,
    run_id: int,
    model: type[VersionedTable],
    queries: tuple[str, str],
) -> Merged:
    """Merge the rows of two SELECTs: facts, and natural keys of deleted facts."""
    changed, deleted = queries
    columns = model.value_columns()
    key_indexes = [columns.index(column) for column in model.natural_key]
    total = Merged()
    for number, rows in enumerate(_chunks(duck, changed)):
        # Prefetching pays for the first chunks only: in larger sets, neighbouring rows share pages that are read once anyway.
        if number < _PREFETCHED_CHUNKS:
            prefetch_pages(connection, model, [tuple(row[index] for index in key_indexes) for row in rows])
        batch = Batch()
        for row in rows:
            batch.add(model, **dict(zip(columns, row, strict=True)))
        total += merge(connection, run_id, batch)
    for rows in _chunks(duck, deleted):
        prefetch_pages(connection, model, rows)
        batch = Batch()
        for row in rows:
            batch.mark_complete(model, *row)
        total += merge(connection, run_id, batch)
    return total


def _chunks(duck: duckdb.DuckDBPyConnection, query: str) -> Iterator[list[tuple[Any, ...]]]:
    cursor = duck.execute(query)
    while rows := cursor.fetchmany(_CHUNK_ROWS):
        yield rows

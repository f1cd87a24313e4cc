"""Records in the ledger the results that changed since the last run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb
from sqlalchemy import Connection

from models.store.prefetch import prefetch_pages
from models.store.scd2_merge import Batch, Merged, Row, merge
from models.tables.findings import Finding, RuleResult
from models.versioned import VersionedTable

_CHUNK_ROWS = 5_000
"""Rows in memory at a time."""
_PREFETCHED_CHUNKS = 100
"""Chunks whose rows are prefetched from the ledger."""

_COUNTED = {
    "passed": "pass",
    "failed": "fail",
    "unknown": "unknown",
    "not_applicable": "not_applicable",
    "waived": "waived",
}
_SUMS = ", ".join(
    f"CAST(coalesce(sum(resources) FILTER (status = '{status}'), 0) AS INTEGER) AS {name}"
    for name, status in _COUNTED.items()
)
_COUNTS = f"""
CREATE OR REPLACE TABLE memory.main.current_rule_result AS
SELECT rule_id, coalesce(account_id, '') AS account_id, coalesce(region, '') AS region,
  {_SUMS}
FROM memory.main.result
GROUP BY ALL
"""


def record(duck: duckdb.DuckDBPyConnection, connection: Connection, run_id: int) -> Merged:
    """Merge the changes into the fact tables ``finding`` and ``rule_result``; returns the rows written.

    A finding whose resource or rule no longer exists is closed. The changes stay in ``memory.main.changed_TABLE`` and
    ``deleted_TABLE`` (natural keys), from which the mart updates its copies of both tables.
    """
    duck.execute(_COUNTS)
    total = Merged()
    for model in (Finding, RuleResult):
        tables = tuple(f"memory.main.{kind}_{model.table().name}" for kind in ("changed", "deleted"))
        # In the order of the ledger's index: a chunk then changes neighbouring pages and not all of them.
        order = ", ".join(model.natural_key)
        for table, query in zip(tables, _differences(model), strict=True):
            duck.execute(f"CREATE OR REPLACE TABLE {table} AS {query} ORDER BY {order}")
        total += _merge(duck, connection, run_id, model, tables)
    duck.execute(
        "DROP VIEW memory.main.current_finding; DROP TABLE memory.main.result; DROP TABLE memory.main.current_rule_result"
    )
    return total


def _differences(model: type[VersionedTable]) -> tuple[str, str]:
    """Two SELECTs: the current rows that the ledger lacks, and the natural keys of ledger rows that no longer exist."""
    current = f"memory.main.current_{model.table().name}"
    values = [column for column in model.value_columns() if column not in model.natural_key]
    same = " AND ".join(f"o.{column} = n.{column}" for column in model.natural_key)
    differs = " OR ".join(f"o.{column} IS DISTINCT FROM n.{column}" for column in values)
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
    tables: tuple[str, ...],
) -> Merged:
    """Merge the rows of two tables: facts, and natural keys of deleted facts."""
    changed, deleted = tables
    columns = model.value_columns()
    key_indexes = [columns.index(column) for column in model.natural_key]
    total = Merged()
    for number, rows in enumerate(_chunks(duck, changed)):
        # Prefetching pays for the first chunks only: in larger sets, neighbouring rows share pages that are read once anyway.
        if number < _PREFETCHED_CHUNKS:
            prefetch_pages(connection, model, [tuple(row[index] for index in key_indexes) for row in rows])
        facts: list[Row] = [dict(zip(columns, row, strict=True)) for row in rows]
        total += merge(connection, run_id, Batch({model: facts}))
    for rows in _chunks(duck, deleted):
        prefetch_pages(connection, model, rows)
        total += merge(connection, run_id, Batch(complete_listings={model: set(rows)}))
    return total


def _chunks(duck: duckdb.DuckDBPyConnection, table: str) -> Iterator[list[tuple[Any, ...]]]:
    cursor = duck.execute(f"FROM {table}")
    while rows := cursor.fetchmany(_CHUNK_ROWS):
        yield rows

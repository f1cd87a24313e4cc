"""From the mart's verdicts to the ledger: what changed since the last run, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb
from sqlalchemy import Connection

from models.base import Facet
from models.findings import Finding, RuleResult
from models.history import Batch, Merged, merge

_PORTION = 50_000
"""Rows that are in Python at a time."""

# What is a problem now, or was one before this run: the only rows that the ledger keeps.
_NOW = """
CREATE OR REPLACE TEMP TABLE finding_now AS
SELECT j.rule_id, coalesce(s.resource_arn, v.resource_arn) AS resource_arn, v.account_id, v.region,
  CASE WHEN v.key_subject IS NULL THEN v.key_arn ELSE k.resource_arn END AS key_arn, j.severity, v.status, v.verdict,
  v.waiver, v.reason
FROM ledger.verdict v
JOIN ledger.judged j ON j.rule = v.rule
LEFT JOIN ledger.subject s ON s.subject = v.subject
LEFT JOIN ledger.subject k ON k.subject = v.key_subject
WHERE v.verdict IN ('fail', 'unknown') OR v.story
"""
_COUNTED = """
CREATE OR REPLACE TEMP TABLE rule_result_now AS
SELECT j.rule_id, coalesce(v.account_id, '') AS account_id, coalesce(v.region, '') AS region,
  CAST(count(*) FILTER (v.status = 'pass') AS INTEGER) AS passed,
  CAST(count(*) FILTER (v.status = 'fail') AS INTEGER) AS failed,
  CAST(count(*) FILTER (v.status = 'unknown') AS INTEGER) AS unknown,
  CAST(count(*) FILTER (v.status = 'not_applicable') AS INTEGER) AS not_applicable,
  CAST(count(*) FILTER (v.status = 'waived') AS INTEGER) AS waived
FROM ledger.verdict v
JOIN ledger.judged j ON j.rule = v.rule
GROUP BY ALL
"""


def record(duck: duckdb.DuckDBPyConnection, connection: Connection, run_id: int) -> Merged:
    """Merge what changed into the facets ``finding`` and ``rule_result``; the rows written.

    A finding whose resource or rule is gone ends. The mart's own copies of both facets are to be loaded again afterwards.
    """
    total = Merged()
    for facet, query in ((Finding, _NOW), (RuleResult, _COUNTED)):
        duck.execute(query)
        total += _merge(duck, connection, run_id, facet)
        duck.execute(f"DROP TABLE {facet.table().name}_now")
    return total


def _merge(duck: duckdb.DuckDBPyConnection, connection: Connection, run_id: int, facet: type[Facet]) -> Merged:
    name, columns = facet.table().name, facet.value_columns()
    values = [column for column in columns if column not in facet.natural]
    same = " AND ".join(f"o.{column} = n.{column}" for column in facet.natural)
    differs = " OR ".join(f"o.{column} IS DISTINCT FROM n.{column}" for column in values)
    known = f"(SELECT * FROM ledger.{name} WHERE valid_to IS NULL)"
    changed = (
        f"SELECT {', '.join(f'n.{column}' for column in columns)} FROM {name}_now n LEFT JOIN {known} o ON {same} "
        f"WHERE o.{facet.natural[0]} IS NULL OR {differs}"
    )
    gone = (
        f"SELECT {', '.join(f'o.{column}' for column in facet.natural)} FROM {known} o ANTI JOIN {name}_now n ON {same}"
    )
    total = Merged()
    for rows in _portions(duck, changed):
        batch = Batch()
        for row in rows:
            batch.add(facet, **dict(zip(columns, row, strict=True)))
        total += merge(connection, run_id, batch)
    for rows in _portions(duck, gone):
        batch = Batch()
        for row in rows:
            batch.complete(facet, *row)
        total += merge(connection, run_id, batch)
    return total


def _portions(duck: duckdb.DuckDBPyConnection, query: str) -> Iterator[list[tuple[Any, ...]]]:
    cursor = duck.execute(query)
    while rows := cursor.fetchmany(_PORTION):
        yield rows

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

# What is a problem now, or was one before this run: the only rows that the ledger keeps. They are compared with those that it
# has by hashes of 64 bits, for they are millions of texts; in a night all but a few are as they were.
_NOW = """
CREATE OR REPLACE TEMP TABLE finding_now AS
SELECT n.position, hash(n.rule_id, n.resource_arn) AS pair, {content} AS content FROM ({said}) n
"""
_SAID = """
SELECT v.rowid AS position, j.rule_id, coalesce(s.resource_arn, v.resource_arn) AS resource_arn,
  coalesce(l.account_id, v.account_id) AS account_id, coalesce(l.region, v.region) AS region,
  CASE WHEN v.key_subject IS NULL THEN v.key_arn ELSE k.resource_arn END AS key_arn, j.severity,
  CAST(v.status AS VARCHAR) AS status, CAST(v.verdict AS VARCHAR) AS verdict, v.waiver, v.reason
FROM ledger.verdict v
JOIN ledger.judged j ON j.rule = v.rule
LEFT JOIN ledger.subject s ON s.subject = v.subject
LEFT JOIN ledger.subject k ON k.subject = v.key_subject
LEFT JOIN ledger.place l ON l.place = v.place
WHERE (v.verdict IN ('fail', 'unknown') OR v.story)
"""
_CHANGED = """
SELECT {columns} FROM ({said} AND v.rowid IN (
  SELECT n.position FROM finding_now n
  ANTI JOIN (
    SELECT hash(rule_id, resource_arn) AS pair, {content} AS content FROM ledger.finding WHERE valid_to IS NULL
  ) o ON o.pair = n.pair AND o.content = n.content
))
"""
_GONE = """
SELECT rule_id, resource_arn FROM ledger.finding
WHERE valid_to IS NULL AND hash(rule_id, resource_arn) NOT IN (SELECT pair FROM finding_now)
"""
_COUNTED = """
CREATE OR REPLACE TEMP TABLE rule_result_now AS
SELECT j.rule_id, coalesce(l.account_id, v.account_id, '') AS account_id, coalesce(l.region, v.region, '') AS region,
  CAST(count(*) FILTER (v.status = 'pass') AS INTEGER) AS passed,
  CAST(count(*) FILTER (v.status = 'fail') AS INTEGER) AS failed,
  CAST(count(*) FILTER (v.status = 'unknown') AS INTEGER) AS unknown,
  CAST(count(*) FILTER (v.status = 'not_applicable') AS INTEGER) AS not_applicable,
  CAST(count(*) FILTER (v.status = 'waived') AS INTEGER) AS waived
FROM ledger.verdict v
JOIN ledger.judged j ON j.rule = v.rule
LEFT JOIN ledger.place l ON l.place = v.place
GROUP BY ALL
"""


def record(duck: duckdb.DuckDBPyConnection, connection: Connection, run_id: int) -> Merged:
    """Merge what changed into the facets ``finding`` and ``rule_result``; the rows written.

    A finding whose resource or rule is gone ends. The mart's own copies of both facets are to be loaded again afterwards.
    """
    content = f"hash({', '.join(_values(Finding))})"
    duck.execute(_NOW.format(content=content, said=_SAID))
    changed = _CHANGED.format(columns=", ".join(Finding.value_columns()), said=_SAID, content=content)
    total = _merge(duck, connection, run_id, Finding, (changed, _GONE))
    duck.execute("DROP TABLE finding_now")
    duck.execute(_COUNTED)
    total += _merge(duck, connection, run_id, RuleResult, _differences(RuleResult, "rule_result_now"))
    duck.execute("DROP TABLE rule_result_now")
    return total


def _values(facet: type[Facet]) -> list[str]:
    return [column for column in facet.value_columns() if column not in facet.natural]


def _differences(facet: type[Facet], now: str) -> tuple[str, str]:
    """SELECTs of a table's rows that the ledger has not, and of what identifies those that the ledger has beyond it."""
    same = " AND ".join(f"o.{column} = n.{column}" for column in facet.natural)
    differs = " OR ".join(f"o.{column} IS DISTINCT FROM n.{column}" for column in _values(facet))
    known = f"(SELECT * FROM ledger.{facet.table().name} WHERE valid_to IS NULL)"
    columns = ", ".join(f"n.{column}" for column in facet.value_columns())
    changed = (
        f"SELECT {columns} FROM {now} n LEFT JOIN {known} o ON {same} WHERE o.{facet.natural[0]} IS NULL OR {differs}"
    )
    gone = f"SELECT {', '.join(f'o.{column}' for column in facet.natural)} FROM {known} o ANTI JOIN {now} n ON {same}"
    return changed, gone


def _merge(
    duck: duckdb.DuckDBPyConnection, connection: Connection, run_id: int, facet: type[Facet], queries: tuple[str, str]
) -> Merged:
    changed, gone = queries
    columns = facet.value_columns()
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

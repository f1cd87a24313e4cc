"""From the mart's verdicts to the ledger: what changed since the last run, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import duckdb
from sqlalchemy import Connection

from models.store.prefetch import prefetch_pages
from models.store.scd2_merge import Batch, Merged, merge
from models.tables.findings import Finding, RuleResult
from models.versioned import VersionedTable

_PORTION = 50_000
"""Rows that are in Python at a time."""
_AHEAD = 10
"""Portions of them that are read ahead."""

# What the ledger keeps of a verdict, by its column.
_WORDS = {
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
# Texts of which there are fewer than verdicts are hashed once.
_HASHED = {
    "resource_arn": "coalesce(s.hashed, hash(v.unlisted ->> 'resource_arn'))",
    "key_arn": "coalesce(k.hashed, hash(v.unlisted ->> 'key_arn'))",
}
_VERDICTS = """
FROM internal.verdict v
JOIN internal.rule_run j ON j.rule = v.rule
LEFT JOIN {named} s ON s.subject = v.subject
LEFT JOIN {named} k ON k.subject = v.key_subject
LEFT JOIN internal.account_region_dim l ON l.account_region = v.account_region
"""
_COUNTS = {
    "passed": "pass",
    "failed": "fail",
    "unknown": "unknown",
    "not_applicable": "not_applicable",
    "waived": "waived",
}


def _hashed(columns: Iterable[str]) -> str:
    return f"hash({', '.join(_HASHED.get(column, _WORDS[column]) for column in columns)})"


def _hashed_in_ledger(columns: Iterable[str]) -> str:
    return f"hash({', '.join(f'hash({column})' if column in _HASHED else column for column in columns)})"


def _values(model: type[VersionedTable]) -> list[str]:
    return [column for column in model.value_columns() if column not in model.natural_key]


# What is a problem now, or was one before this run: the only rows that the ledger keeps. They are compared with those that it
# has by hashes of 64 bits, for they are millions of texts; in a night all but a few are as they were.
_NOW = f"""
CREATE OR REPLACE TEMP TABLE finding_now AS
SELECT v.rowid AS position, {_hashed(Finding.natural_key)} AS pair, {_hashed(_values(Finding))} AS content
{_VERDICTS.format(named="(SELECT subject, hash(resource_arn) AS hashed FROM internal.resource_dim)")}
WHERE v.unwaived_status IN ('fail', 'unknown') OR v.was_problem
"""
_CHANGED = f"""
CREATE OR REPLACE TEMP TABLE finding_changed AS
SELECT n.position FROM finding_now n
ANTI JOIN (
  SELECT {_hashed_in_ledger(Finding.natural_key)} AS pair, {_hashed_in_ledger(_values(Finding))} AS content
  FROM internal.finding WHERE valid_to IS NULL
) o ON o.pair = n.pair AND o.content = n.content
"""
_SAID = f"""
SELECT {", ".join(f"{_WORDS[column]} AS {column}" for column in Finding.value_columns())}
{_VERDICTS.format(named="internal.resource_dim")}
JOIN finding_changed c ON c.position = v.rowid
"""
_GONE = f"""
SELECT {", ".join(Finding.natural_key)} FROM internal.finding
WHERE valid_to IS NULL AND {_hashed_in_ledger(Finding.natural_key)} NOT IN (SELECT pair FROM finding_now)
"""
_COUNTED = f"""
CREATE OR REPLACE TEMP TABLE rule_result_now AS
SELECT j.rule_id, coalesce(l.account_id, v.account_id, '') AS account_id, coalesce(l.region, v.region, '') AS region,
  {", ".join(f"CAST(sum(v.{name}) AS INTEGER) AS {name}" for name in _COUNTS)}
FROM (
  SELECT rule, account_region, unlisted ->> 'account_id' AS account_id, unlisted ->> 'region' AS region,
    {", ".join(f"count(*) FILTER (status = '{status}') AS {name}" for name, status in _COUNTS.items())}
  FROM internal.verdict GROUP BY rule, account_region, account_id, region
) v
JOIN internal.rule_run j ON j.rule = v.rule
LEFT JOIN internal.account_region_dim l ON l.account_region = v.account_region
GROUP BY ALL
"""


def record(duck: duckdb.DuckDBPyConnection, connection: Connection, run_id: int) -> Merged:
    """Merge what changed into the facets ``finding`` and ``rule_result``; the rows written.

    A finding whose resource or rule is gone ends. The mart's own copies of both facets are to be loaded again afterwards.
    """
    duck.execute(_NOW)
    duck.execute(_CHANGED)
    total = _merge(duck, connection, run_id, Finding, (_SAID, _GONE))
    duck.execute("DROP TABLE finding_now")
    duck.execute("DROP TABLE finding_changed")
    duck.execute(_COUNTED)
    total += _merge(duck, connection, run_id, RuleResult, _differences(RuleResult, "rule_result_now"))
    duck.execute("DROP TABLE rule_result_now")
    return total


def _differences(model: type[VersionedTable], now: str) -> tuple[str, str]:
    """SELECTs of a table's rows that the ledger has not, and of what identifies those that the ledger has beyond it."""
    same = " AND ".join(f"o.{column} = n.{column}" for column in model.natural_key)
    differs = " OR ".join(f"o.{column} IS DISTINCT FROM n.{column}" for column in _values(model))
    known = f"(SELECT * FROM internal.{model.table().name} WHERE valid_to IS NULL)"
    columns = ", ".join(f"n.{column}" for column in model.value_columns())
    changed = f"SELECT {columns} FROM {now} n LEFT JOIN {known} o ON {same} WHERE o.{model.natural_key[0]} IS NULL OR {differs}"
    gone = (
        f"SELECT {', '.join(f'o.{column}' for column in model.natural_key)} FROM {known} o ANTI JOIN {now} n ON {same}"
    )
    return changed, gone


def _merge(
    duck: duckdb.DuckDBPyConnection,
    connection: Connection,
    run_id: int,
    model: type[VersionedTable],
    queries: tuple[str, str],
) -> Merged:
    """Merge the rows of two SELECTs: facts, and natural keys of facts that are gone."""
    changed, gone = queries
    columns = model.value_columns()
    places = [columns.index(column) for column in model.natural_key]
    total = Merged()
    for number, rows in enumerate(_portions(duck, changed)):
        # What is new is looked up as well. Of very many rows neighbours come together, and are read once anyway.
        if number < _AHEAD:
            prefetch_pages(connection, model, [tuple(row[place] for place in places) for row in rows])
        batch = Batch()
        for row in rows:
            batch.add(model, **dict(zip(columns, row, strict=True)))
        total += merge(connection, run_id, batch)
    for rows in _portions(duck, gone):
        prefetch_pages(connection, model, rows)
        batch = Batch()
        for row in rows:
            batch.mark_complete(model, *row)
        total += merge(connection, run_id, batch)
    return total


def _portions(duck: duckdb.DuckDBPyConnection, query: str) -> Iterator[list[tuple[Any, ...]]]:
    cursor = duck.execute(query)
    while rows := cursor.fetchmany(_PORTION):
        yield rows

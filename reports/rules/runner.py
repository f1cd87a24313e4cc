"""Runs the rules inside DuckDB: no result passes through Python.

A million keys give some forty million results, nearly all of them passes. Only problems, and former problems, are kept as rows
(``memory.main.current_finding``); passes are counted. A rule's full population is its SELECT, run on demand.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import duckdb

from models.severities import SEVERITIES, STATUSES
from reports.connections import new_cursor
from reports.mart.connection import CATALOG
from reports.rules.loader import OLD_FORM, Rule, RuleError

COLUMNS = ("resource_arn", "account_id", "region", "key_arn", "status", "reason")
"""The columns of a result."""
_RETURNED = (*COLUMNS[:4], "verdict")
"""The columns of a rule's query."""
_OPTIONAL = ("note", "severity")
"""A text to append to every reason, and a severity that replaces the rule's for this resource, unless it is NULL."""
_VERDICT_TYPE = "STRUCT(status VARCHAR, reason VARCHAR)"
_UNFORESEEN = "coalesce(verdict, unknown('No condition of the rule applies to this resource.'))"
_THREADS = 2
_FETCHED_ROWS = 2_000
_UNCHECKED_ROWS = 100_000
"""Results that a thread collects before it checks and stores them: a small organization's in a few statements."""
_WAIVERS_VIEW = re.compile(r"\bwaivers\b", re.IGNORECASE)

_CREATE_FINDINGS = """
CREATE OR REPLACE TABLE memory.main.current_finding (rule_id VARCHAR, resource_arn VARCHAR, account_id VARCHAR, region VARCHAR,
  key_arn VARCHAR, severity VARCHAR, status VARCHAR, unwaived_status VARCHAR, waiver VARCHAR, reason VARCHAR)
"""
_CREATE_COUNTS = """
CREATE OR REPLACE TABLE memory.main.result_count (rule_id VARCHAR, account_id VARCHAR, region VARCHAR, status VARCHAR,
  resources BIGINT)
"""
_CREATE_RESULTS = f"""
CREATE OR REPLACE TEMP TABLE result (rule_id VARCHAR, rule_severity VARCHAR, resource_arn VARCHAR, account_id VARCHAR,
  region VARCHAR, key_arn VARCHAR, verdict {_VERDICT_TYPE}, note VARCHAR, severity VARCHAR)
"""
_INSERT_RESULTS = (
    f"INSERT INTO result BY NAME SELECT '{{rule_id}}' AS rule_id, '{{severity}}' AS rule_severity, "
    f"* REPLACE ({_UNFORESEEN} AS verdict) FROM ({{query}}\n)"
)
_CONTRACT_CHECKS = f"""
SELECT rule_id, count(resource_arn) - count(DISTINCT resource_arn) AS duplicates,
  count(*) FILTER (coalesce(resource_arn, '') = '') AS unnamed,
  count(*) FILTER (verdict.status IS NULL OR verdict.status NOT IN {STATUSES}) AS invalid_status,
  count(*) FILTER (severity NOT IN {SEVERITIES}) AS invalid_severity,
  count(*) FILTER (coalesce(verdict.reason, '') = '') AS without_reason
FROM result GROUP BY rule_id
HAVING duplicates + unnamed + invalid_status + invalid_severity + without_reason > 0
ORDER BY rule_id LIMIT 1
"""
_OFFENDING_ROW = (
    "SELECT resource_arn, min(verdict.status) FROM result WHERE rule_id = $rule GROUP BY 1 HAVING {} ORDER BY 1 LIMIT 1"
)
_FINDING = """
SELECT rule_id, resource_arn, account_id, region, key_arn, coalesce(severity, rule_severity), verdict.status, verdict.status,
  NULL, verdict.reason || coalesce(note, '')
FROM result
"""
# Two queries: with OR, the two columns would be compared as one struct, for every result.
_STORE_FINDINGS = f"""
INSERT INTO memory.main.current_finding
{_FINDING} WHERE verdict.status IN ('fail', 'unknown')
UNION ALL
{_FINDING} SEMI JOIN (
  SELECT rule_id, resource_arn FROM internal.finding WHERE valid_from < $run AND rule_id IN (SELECT DISTINCT rule_id FROM result)
) f USING (rule_id, resource_arn)
WHERE verdict.status NOT IN ('fail', 'unknown')
"""
_STORE_COUNTS = """
INSERT INTO memory.main.result_count
SELECT rule_id, account_id, region, verdict.status, count(*) FROM result WHERE verdict.status IN ('pass', 'not_applicable')
GROUP BY ALL
"""


def evaluate_rules(duck: duckdb.DuckDBPyConnection, run_id: int, rules: Iterable[Rule]) -> None:
    """Collect the findings and counts from the views as of a run. Raises RuleError, which names the rule's file.

    Waivers are applied after all other rules and before the rules about waivers, which read the effect of each waiver.
    """
    from reports.rules.waivers import apply

    # Rules are written by users too: from here on, the queries of this database reach no file, network or extension.
    duck.execute("SET enable_external_access = false")
    duck.execute(_CREATE_FINDINGS)
    duck.execute(_CREATE_COUNTS)
    ordered = sorted(rules, key=lambda rule: rule.rule_id)
    _run_rules(duck, run_id, [rule for rule in ordered if not _WAIVERS_VIEW.search(rule.query)])
    apply(duck, run_id, [rule.rule_id for rule in ordered])
    _run_rules(duck, run_id, [rule for rule in ordered if _WAIVERS_VIEW.search(rule.query)])


def _run_rules(duck: duckdb.DuckDBPyConnection, run_id: int, rules: Sequence[Rule]) -> None:
    """Run rules in parallel, as a single rule does not use all processors. Raises the RuleError of a rule that fails."""
    pending = iter(rules)

    def work(cursor: duckdb.DuckDBPyConnection) -> None:
        cursor.execute(f"USE {CATALOG}")
        cursor.execute(_CREATE_RESULTS)
        by_id: dict[str, Rule] = {}
        rows = 0
        try:
            for rule in pending:
                rows += _run_rule(cursor, rule)
                by_id[rule.rule_id] = rule
                if rows >= _UNCHECKED_ROWS:
                    _store(cursor, run_id, by_id)
                    by_id.clear()
                    rows = 0
            _store(cursor, run_id, by_id)
        finally:
            deque(pending, maxlen=0)  # after a failure, the other thread ends with its current rule
            cursor.close()

    with ThreadPoolExecutor(_THREADS) as threads:
        for _ in threads.map(work, [new_cursor(duck) for _ in range(_THREADS)]):
            pass


def _run_rule(duck: duckdb.DuckDBPyConnection, rule: Rule) -> int:
    """Add the results of one rule to the connection's table of results; returns their number."""
    try:
        if not rule.shipped:  # planning each query twice would take a quarter of the time of a small run
            check_columns(duck, rule)
        insert = _INSERT_RESULTS.format(rule_id=rule.rule_id, severity=rule.severity, query=_select(rule))
        row = duck.execute(insert, dict(rule.parameters) or None).fetchone()
    except duckdb.Error as error:
        raise _failed(rule, error) from error
    return row[0] if row else 0


def _store(duck: duckdb.DuckDBPyConnection, run_id: int, rules: dict[str, Rule]) -> None:
    """Check the collected results, and store problems and counts. Raises RuleError for results that break the contract."""
    broken = duck.execute(_CONTRACT_CHECKS).fetchone()
    if broken is not None:
        rule_id, duplicates, unnamed, invalid_status, invalid_severity, _ = broken
        rule = rules[rule_id]

        def offending(having: str) -> tuple[Any, ...]:
            return duck.execute(_OFFENDING_ROW.format(having), {"rule": rule_id}).fetchone() or ("a resource", None)

        if unnamed:
            raise RuleError(f"{rule.source}: a row has no resource_arn; every row needs one")
        if duplicates:
            resource, _ = offending("count(*) > 1")
            raise RuleError(f"{rule.source}: {resource} is returned twice; a rule returns each resource once")
        if invalid_status:
            raise _invalid_status(
                rule, *offending(f"bool_or(verdict.status IS NULL OR verdict.status NOT IN {STATUSES})")
            )
        if invalid_severity:
            resource, _ = offending(f"bool_or(severity NOT IN {SEVERITIES})")
            raise RuleError(f"{rule.source}: {resource} has a severity other than {', '.join(SEVERITIES)}")
        resource, _ = offending("bool_or(coalesce(verdict.reason, '') = '')")
        raise RuleError(f"{rule.source}: {resource} has no reason; every row needs one")
    duck.execute(_STORE_FINDINGS, {"run": run_id})
    duck.execute(_STORE_COUNTS)
    duck.execute("TRUNCATE result")


_POPULATION = f"""
SELECT * FROM (
  SELECT {", ".join(COLUMNS[:4])}, verdict.status AS status, verdict.reason || {{note}} AS reason
  FROM (SELECT * REPLACE ({_UNFORESEEN} AS verdict) FROM ({{query}}
  ))
)
WHERE (list_contains($contract_, status) IS NOT TRUE) OR list_contains($statuses_, status) AND (
  len($accounts_) = 0 OR list_contains($accounts_, account_id)
  OR account_id IN (SELECT a.account_id FROM accounts a WHERE list_contains($accounts_, a.name)))
ORDER BY list_contains($contract_, status) IS TRUE, list_position($statuses_, status), account_id, region, resource_arn
"""


def population(
    duck: duckdb.DuckDBPyConnection, rule: Rule, statuses: Sequence[str] = STATUSES, accounts: Sequence[str] = ()
) -> Iterator[tuple[Any, ...]]:
    """Yield every resource that a rule checks, with the columns of a result, as of the run of the connection's views.

    Statuses are those without waivers. ``accounts`` are IDs or names; none selects all. Raises RuleError.
    """
    selected = {"statuses_": list(statuses), "accounts_": list(accounts), "contract_": list(STATUSES)}
    try:
        note = "coalesce(note, '')" if "note" in check_columns(duck, rule) else "''"
        query = _POPULATION.format(note=note, query=_select(rule))
        cursor = duck.execute(query, {**rule.parameters, **selected})
        while rows := cursor.fetchmany(_FETCHED_ROWS):
            if rows[0][4] not in STATUSES:  # invalid ones come first
                raise _invalid_status(rule, rows[0][0], rows[0][4])
            yield from rows
    except duckdb.Error as error:
        raise _failed(rule, error) from error


def _failed(rule: Rule, error: duckdb.Error) -> RuleError:
    cause = " ".join(str(error).split("LINE ")[0].split())
    return RuleError(f"{rule.source}: rule {rule.rule_id} failed: {cause}")


def _invalid_status(rule: Rule, resource: str, status: str | None) -> RuleError:
    return RuleError(f"{rule.source}: {resource} has status {status!r}; expected {', '.join(sorted(STATUSES))}")


def check_columns(duck: duckdb.DuckDBPyConnection, rule: Rule) -> list[str]:
    """The columns that a rule's query returns. Raises RuleError unless they are the expected ones."""
    types = {
        row[0]: row[1] for row in duck.execute(f"DESCRIBE {_select(rule)}", dict(rule.parameters) or None).fetchall()
    }
    if set(types).difference(_OPTIONAL) != set(_RETURNED):
        old_form = f"; {OLD_FORM}" if {"status", "reason"} <= set(types) else ""
        expected = f"expected the columns {', '.join(_RETURNED)} and optionally {' and '.join(_OPTIONAL)}"
        raise RuleError(f"{rule.source}: {expected}, found {', '.join(types)}{old_form}")
    if types["verdict"].replace('"', "") not in {_VERDICT_TYPE, "NULL"}:
        raise RuleError(f"{rule.source}: expected a verdict such as fail('reason'), found {types['verdict']}")
    return list(types)


def _select(rule: Rule) -> str:
    return rule.query.rstrip().rstrip(";")

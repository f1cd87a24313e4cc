"""Runs the rules inside DuckDB: each rule's SELECT runs once and writes straight into the mart's table of results.

A million keys and seventy-five rules give some forty million results, nearly all of them passes. No row passes through Python.
The table stores resources as numbers (see ``internal.resource_dim``) and is ordered by rule, so its columns compress to a few
bytes per row.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import duckdb

from reports.connections import new_cursor
from reports.mart.connection import CATALOG, fetch_one
from reports.mart.extension import STATUS_TYPE, STATUSES, WAIVED, create_tables
from reports.rules.loader import Rule, RuleError

COLUMNS = ("resource_arn", "account_id", "region", "key_arn", "status", "reason")
_THREADS = 2
_FETCHED_ROWS = 2_000
_WAIVERS_VIEW = re.compile(r"\bwaivers\b", re.IGNORECASE)

_TABLES = ("rule_run", "resource_dim", "account_region_dim", "verdict")
_INSERT_RESOURCES = """
INSERT INTO internal.resource_dim
SELECT CAST(row_number() OVER () AS INTEGER), *
FROM (
  SELECT t.resource_arn, t.resource_type, t.resource_name, o.owner
  FROM (
    SELECT resource_arn, resource_type, name AS resource_name FROM resources
    UNION ALL SELECT key_arn, 'AWS::KMS::Key', coalesce(alias, key_id) FROM keys
    UNION ALL SELECT alias_arn, 'AWS::KMS::Alias', alias_name FROM aliases
    UNION ALL SELECT account_id, 'account', coalesce(name, account_id) FROM accounts
    UNION ALL SELECT DISTINCT account_id || '/' || region, 'account-region', account_id || '/' || region
      FROM internal.scope_coverage WHERE run_id = $run
  ) t
  LEFT JOIN (SELECT resource_arn, owner FROM owners UNION ALL
    SELECT DISTINCT s.account_id || '/' || s.region, w.owner FROM internal.scope_coverage s
    JOIN owners w ON w.resource_arn = s.account_id WHERE s.run_id = $run) o ON o.resource_arn = t.resource_arn
  -- A grant has no owner of its own.
  UNION ALL SELECT resource_arn, NULL, NULL, NULL FROM internal.customer_grants
)
"""
# Two texts in each of fifty million rows would take as long to compress as all other columns.
_INSERT_ACCOUNT_REGIONS = """
INSERT INTO internal.account_region_dim
SELECT CAST(row_number() OVER () AS INTEGER), *
FROM (
  SELECT account_id, region FROM resources
  UNION SELECT account_id, region FROM keys
  UNION SELECT account_id, region FROM aliases
  UNION SELECT account_id, region FROM internal.scope_coverage WHERE run_id = $run
  UNION SELECT account_id, NULL FROM accounts
)
"""
# Rules return resources as long texts, up to a million per rule; these are looked up by 64-bit hashes. Resources whose hashes
# collide are not in the table, and their results keep the texts.
_CREATE_RESOURCE_HASHES = """
CREATE OR REPLACE TABLE memory.main.resource_hash AS
SELECT hash(resource_arn) AS hashed, any_value(subject) AS subject,
  CAST(CASE coalesce(any_value(resource_type), '') WHEN 'AWS::KMS::Key' THEN 'key' WHEN 'AWS::KMS::Alias' THEN 'alias'
    WHEN '' THEN 'grant' ELSE 'other' END AS ENUM ('key', 'alias', 'grant', 'other')) AS resource_kind
FROM internal.resource_dim GROUP BY hash(resource_arn) HAVING count(*) = 1
"""
# A lookup among the resources of one kind is faster: the kind is guessed from the query, and the lookup repeated without it
# if the guess was wrong.
_SUBJECT_KIND_HINTS = (
    (re.compile(r"\bkey_arn AS resource_arn\b"), "resource_kind = 'key'"),
    (re.compile(r"\balias_arn AS resource_arn\b"), "resource_kind = 'alias'"),
    (re.compile(r"\bcustomer_grants\b"), "resource_kind IN ('grant', 'key')"),
    (re.compile(""), "resource_kind = 'other'"),
)
_ANY_KIND = "true"
_CREATE_PAST_PROBLEMS = """
CREATE OR REPLACE TABLE memory.main.past_problem AS
SELECT DISTINCT j.rule, hash(f.resource_arn) AS hashed
FROM internal.finding f JOIN internal.rule_run j ON j.rule_id = f.rule_id
WHERE f.valid_from < $run ORDER BY j.rule
"""
_INSERT_RESULTS = """
INSERT INTO internal.verdict
SELECT {number}, s.subject, l.account_region, CASE WHEN q.key_arn = q.resource_arn THEN s.subject ELSE k.subject END,
  q.status, q.status, NULL, p.hashed IS NOT NULL, q.reason,
  CASE WHEN s.subject IS NULL OR l.account_region IS NULL OR (k.subject IS NULL AND q.key_arn <> q.resource_arn) THEN to_json({{
    'resource_arn': CASE WHEN s.subject IS NULL THEN q.resource_arn END,
    'account_id': CASE WHEN l.account_region IS NULL THEN q.account_id END,
    'region': CASE WHEN l.account_region IS NULL THEN q.region END,
    'key_arn': CASE WHEN k.subject IS NULL THEN q.key_arn END
  }}) END
FROM (
  SELECT CAST(resource_arn AS VARCHAR) AS resource_arn, CAST(account_id AS VARCHAR) AS account_id,
    CAST(region AS VARCHAR) AS region, CAST(key_arn AS VARCHAR) AS key_arn,
    TRY_CAST(CAST(status AS VARCHAR) AS {status}) AS status, CAST(reason AS VARCHAR) AS reason
  FROM ({query}
  )
) q
LEFT JOIN (SELECT hashed, subject FROM memory.main.resource_hash WHERE {kind}) s ON s.hashed = hash(q.resource_arn)
LEFT JOIN (SELECT hashed, subject FROM memory.main.resource_hash WHERE resource_kind = 'key') k
  ON k.hashed = CASE WHEN q.key_arn <> q.resource_arn THEN hash(q.key_arn) END
LEFT JOIN (SELECT hashed FROM memory.main.past_problem WHERE rule = {number}) p ON p.hashed = hash(q.resource_arn)
LEFT JOIN internal.account_region_dim l ON l.account_id IS NOT DISTINCT FROM q.account_id
  AND l.region IS NOT DISTINCT FROM q.region
"""
# A bitmap of the resources: COUNT(DISTINCT) takes twice the time.
_CONTRACT_CHECKS = f"""
SELECT rule, count(subject) - coalesce(bit_count(bitstring_agg(subject, 1, {{subjects}})), 0)
    + count(name) - count(DISTINCT name) AS duplicates,
  count(*) FILTER (subject IS NULL AND coalesce(name, '') = '') AS unnamed,
  count(*) FILTER (status IS NULL OR status = '{WAIVED}') AS invalid_status,
  count(*) FILTER (coalesce(reason, '') = '') AS without_reason
FROM (SELECT *, unlisted ->> 'resource_arn' AS name FROM internal.verdict WHERE rule BETWEEN $first AND $last)
GROUP BY rule
HAVING duplicates + unnamed + invalid_status + without_reason > 0
ORDER BY rule LIMIT 1
"""
_OFFENDING_ROW = """
SELECT coalesce(s.resource_arn, v.unlisted ->> 'resource_arn') FROM internal.verdict v
LEFT JOIN internal.resource_dim s ON s.subject = v.subject
WHERE v.rule = {rule} GROUP BY 1 HAVING {having} ORDER BY 1 LIMIT 1
"""
_INVALID_STATUS = """
SELECT resource_arn, CAST(status AS VARCHAR) FROM ({query}
) WHERE status IS NULL OR CAST(status AS VARCHAR) NOT IN {statuses} ORDER BY 1 LIMIT 1
"""


def evaluate_rules(duck: duckdb.DuckDBPyConnection, run_id: int, rules: Iterable[Rule]) -> None:
    """Fill the tables of results from the views as of a run. Raises RuleError, which names the rule's file.

    Waivers are applied after all other rules and before the rules about waivers, which read the effect of each waiver.
    """
    from reports.rules.waivers import apply

    # Rules are written by users too: from here on, the queries of this database reach no file, network or extension.
    duck.execute("SET enable_external_access = false")
    create_tables(duck, _TABLES)
    duck.execute(_INSERT_RESOURCES, {"run": run_id})
    duck.execute(_INSERT_ACCOUNT_REGIONS, {"run": run_id})
    ordered = sorted(rules, key=lambda rule: (_is_about_waivers(rule), rule.rule_id))
    rows = [(number, rule.rule_id, rule.severity, run_id) for number, rule in enumerate(ordered)]
    if rows:
        duck.executemany("INSERT INTO internal.rule_run VALUES (?, ?, ?, ?)", rows)
    duck.execute(_CREATE_RESOURCE_HASHES)
    duck.execute(_CREATE_PAST_PROBLEMS, {"run": run_id})
    before_waivers = [rule for rule in ordered if not _is_about_waivers(rule)]
    subjects = fetch_one(duck, "SELECT greatest(count(*), 1) FROM internal.resource_dim")[0]
    _run_rules(duck, subjects, list(enumerate(before_waivers)))
    apply(duck, run_id)
    _run_rules(duck, subjects, list(enumerate(ordered))[len(before_waivers) :])
    for table in ("resource_hash", "past_problem"):
        duck.execute(f"DROP TABLE memory.main.{table}")


_POPULATION = """
SELECT {columns} FROM ({query}
) q
WHERE (list_contains($contract_, status) IS NOT TRUE) OR list_contains($statuses_, status) AND (
  len($accounts_) = 0 OR list_contains($accounts_, account_id)
  OR account_id IN (SELECT a.account_id FROM accounts a WHERE list_contains($accounts_, a.name)))
ORDER BY list_contains($contract_, status) IS TRUE, list_position($statuses_, status), account_id, region, resource_arn
"""


def population(
    duck: duckdb.DuckDBPyConnection, rule: Rule, statuses: Sequence[str], accounts: Sequence[str]
) -> Iterator[tuple[Any, ...]]:
    """Yield every resource that a rule checks, with the columns of the contract, as of the run of the connection's views.

    Statuses are those without waivers. ``accounts`` are IDs or names; none selects all. Raises RuleError.
    """
    query = _POPULATION.format(columns=", ".join(COLUMNS), query=_select(rule))
    selected = {"statuses_": list(statuses), "accounts_": list(accounts), "contract_": list(STATUSES)}
    try:
        check_columns(duck, rule)
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


def _run_rules(duck: duckdb.DuckDBPyConnection, subjects: int, rules: Sequence[tuple[int, Rule]]) -> None:
    """Run rules in parallel, as a single rule does not use all processors. Raises the RuleError of the first rule that fails."""
    local = threading.local()

    def run(numbered: tuple[int, Rule]) -> None:
        if not hasattr(local, "duck"):
            local.duck = new_cursor(duck)
            local.duck.execute(f"USE {CATALOG}")
        _run_rule(local.duck, *numbered)

    with ThreadPoolExecutor(_THREADS) as threads:
        for _ in threads.map(run, rules):
            pass
    _check_contract(duck, subjects, rules)


def _is_about_waivers(rule: Rule) -> bool:
    return _WAIVERS_VIEW.search(rule.query) is not None


def _run_rule(duck: duckdb.DuckDBPyConnection, number: int, rule: Rule) -> None:
    """Run one rule and insert its results."""
    query = _select(rule)
    parameters = dict(rule.parameters)
    insert = partial(_INSERT_RESULTS.format, number=number, query=query, status=STATUS_TYPE)
    try:
        if not rule.shipped:  # planning each query twice would take a quarter of the time of a small run
            check_columns(duck, rule)
        kind = next(hint for pattern, hint in _SUBJECT_KIND_HINTS if pattern.search(query))
        duck.execute(insert(kind=kind), parameters or None)
        if fetch_one(duck, f"SELECT count(*) - count(subject) FROM internal.verdict WHERE rule = {number:d}")[0]:
            duck.execute(f"DELETE FROM internal.verdict WHERE rule = {number:d}")
            duck.execute(insert(kind=_ANY_KIND), parameters or None)
    except duckdb.Error as error:
        raise _failed(rule, error) from error


def check_columns(duck: duckdb.DuckDBPyConnection, rule: Rule) -> None:
    """Raise RuleError unless a rule's query returns exactly the expected columns."""
    names = [row[0] for row in duck.execute(f"DESCRIBE {_select(rule)}", dict(rule.parameters) or None).fetchall()]
    if sorted(names) != sorted(COLUMNS):
        raise RuleError(f"{rule.source}: expected the columns {', '.join(COLUMNS)}, found {', '.join(names)}")


def _check_contract(duck: duckdb.DuckDBPyConnection, subjects: int, rules: Sequence[tuple[int, Rule]]) -> None:
    """Raise RuleError for the first of these rules, with consecutive numbers, whose results break the contract."""
    if not rules:
        return
    ends = {"first": rules[0][0], "last": rules[-1][0]}
    counts = duck.execute(_CONTRACT_CHECKS.format(subjects=subjects), ends).fetchone()
    if counts is None:
        return
    number, duplicates, unnamed, invalid_status, _ = counts
    rule = dict(rules)[number]
    if unnamed:
        raise RuleError(f"{rule.source}: a row has no resource_arn; every row needs one")

    def offending_resource(having: str) -> Any:
        return fetch_one(duck, _OFFENDING_ROW.format(having=having, rule=number))[0]

    if duplicates:
        resource = offending_resource("count(*) > 1")
        raise RuleError(f"{rule.source}: {resource} is returned twice; a rule returns each resource once")
    if invalid_status:
        query = _INVALID_STATUS.format(query=_select(rule), statuses=STATUSES)
        row = duck.execute(query, dict(rule.parameters) or None).fetchone()
        raise _invalid_status(rule, *(row or ("a resource", None)))
    resource = offending_resource("bool_or(coalesce(v.reason, '') = '')")
    raise RuleError(f"{rule.source}: {resource} has no reason; every row needs one")


def _select(rule: Rule) -> str:
    return rule.query.rstrip().rstrip(";")

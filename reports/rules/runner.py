"""The rules judged inside DuckDB: each one's SELECT once, straight into the mart's table of verdicts.

A million keys under seventy-five rules are some forty million verdicts, nearly all of them passes. No row of them comes to
Python. Resources are numbers in the table (see ```internal.resource_dim```), and rules follow each other, so that the columns
compress to a few bytes a row.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import duckdb

from reports.mart.connection import CATALOG, fetch_one
from reports.mart.extension import STATUS_TYPE, STATUSES, WAIVED, create_tables
from reports.rules.loader import Rule, RuleError

COLUMNS = ("resource_arn", "account_id", "region", "key_arn", "status", "reason")
_AT_ONCE = 2
_ABOUT_WAIVERS = re.compile(r"\bwaivers\b", re.IGNORECASE)

_TABLES = ("rule_run", "resource_dim", "account_region_dim", "verdict")
_SUBJECTS = """
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
  -- Nothing says whose a grant is.
  UNION ALL SELECT resource_arn, NULL, NULL, NULL FROM internal.customer_grants
)
"""
# Two texts in each of fifty million rows would take as long to pack as all the rest of them.
_PLACES = """
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
# Rules name resources by long texts, a million times each: they are found by hashes of 64 bits. Of two resources with the same
# hash neither is in the table, and their verdicts keep the texts.
_HASHED = """
CREATE OR REPLACE TABLE memory.main.subject_hash AS
SELECT hash(resource_arn) AS hashed, any_value(subject) AS subject,
  CAST(CASE coalesce(any_value(resource_type), '') WHEN 'AWS::KMS::Key' THEN 'key' WHEN 'AWS::KMS::Alias' THEN 'alias'
    WHEN '' THEN 'grant' ELSE 'other' END AS ENUM ('key', 'alias', 'grant', 'other')) AS resource_kind
FROM internal.resource_dim GROUP BY hash(resource_arn) HAVING count(*) = 1
"""
# Looking resources up among those of their kind only takes a part of the time: guessed, and done again where it was wrong.
_LIKELY = (
    (re.compile(r"\bkey_arn AS resource_arn\b"), "resource_kind = 'key'"),
    (re.compile(r"\balias_arn AS resource_arn\b"), "resource_kind = 'alias'"),
    (re.compile(r"\bcustomer_grants\b"), "resource_kind IN ('grant', 'key')"),
    (re.compile(""), "resource_kind = 'other'"),
)
_EVERY = "true"
_PAST = """
CREATE OR REPLACE TABLE memory.main.problem_before AS
SELECT DISTINCT j.rule, hash(f.resource_arn) AS hashed
FROM internal.finding f JOIN internal.rule_run j ON j.rule_id = f.rule_id
WHERE f.valid_from < $run ORDER BY j.rule
"""
_VERDICTS = """
INSERT INTO internal.verdict
SELECT {number}, s.subject, l.account_region, CASE WHEN q.key_arn = q.resource_arn THEN s.subject ELSE k.subject END,
  q.status, q.status, NULL, p.hashed IS NOT NULL, q.reason,
  CASE WHEN s.subject IS NULL OR l.account_region IS NULL OR (k.subject IS NULL AND q.key_arn <> q.resource_arn) THEN to_json({{
    'resource_arn': CASE WHEN s.subject IS NULL THEN q.resource_arn END,
    'account_id': CASE WHEN l.account_region IS NULL THEN q.account_id END, 'region': CASE WHEN l.account_region IS NULL THEN q.region END,
    'key_arn': CASE WHEN k.subject IS NULL THEN q.key_arn END
  }}) END
FROM (
  SELECT CAST(resource_arn AS VARCHAR) AS resource_arn, CAST(account_id AS VARCHAR) AS account_id,
    CAST(region AS VARCHAR) AS region, CAST(key_arn AS VARCHAR) AS key_arn,
    TRY_CAST(CAST(status AS VARCHAR) AS {status}) AS status, CAST(reason AS VARCHAR) AS reason
  FROM ({query}
  )
) q
LEFT JOIN (SELECT hashed, subject FROM memory.main.subject_hash WHERE {among}) s ON s.hashed = hash(q.resource_arn)
LEFT JOIN (SELECT hashed, subject FROM memory.main.subject_hash WHERE resource_kind = 'key') k
  ON k.hashed = CASE WHEN q.key_arn <> q.resource_arn THEN hash(q.key_arn) END
LEFT JOIN (SELECT hashed FROM memory.main.problem_before WHERE rule = {number}) p ON p.hashed = hash(q.resource_arn)
LEFT JOIN internal.account_region_dim l ON l.account_id IS NOT DISTINCT FROM q.account_id AND l.region IS NOT DISTINCT FROM q.region
"""
# A bit for each resource: counting different numbers in another way takes twice the time.
# A bit for each resource: counting different numbers in another way takes twice the time.
_BREACHES = f"""
SELECT count(subject) - coalesce(bit_count(bitstring_agg(subject, 1, {{subjects}})), 0)
    + count(name) - count(DISTINCT name) AS twice,
  count(*) FILTER (subject IS NULL AND coalesce(name, '') = '') AS nameless,
  count(*) FILTER (status IS NULL OR status = '{WAIVED}') AS odd,
  count(*) FILTER (coalesce(reason, '') = '') AS silent
FROM (SELECT *, unlisted ->> 'resource_arn' AS name FROM internal.verdict WHERE rule = $rule)
"""
_CULPRIT = """
SELECT coalesce(s.resource_arn, v.unlisted ->> 'resource_arn') FROM internal.verdict v
LEFT JOIN internal.resource_dim s ON s.subject = v.subject
WHERE v.rule = {rule} GROUP BY 1 HAVING {having} ORDER BY 1 LIMIT 1
"""
_ODD = """
SELECT resource_arn, CAST(status AS VARCHAR) FROM ({query}
) WHERE status IS NULL OR CAST(status AS VARCHAR) NOT IN {statuses} ORDER BY 1 LIMIT 1
"""


def judge(duck: duckdb.DuckDBPyConnection, run_id: int, rules: Iterable[Rule]) -> None:
    """Fill the tables for a run, from the views as they answer for it. Raises RuleError, which names the rule's file.

    Waivers are applied when all rules but those about waivers have spoken: these see what each waiver did.
    """
    from reports.rules.waivers import apply

    create_tables(duck, _TABLES)
    duck.execute(_SUBJECTS, {"run": run_id})
    duck.execute(_PLACES, {"run": run_id})
    ordered = sorted(rules, key=lambda rule: (_is_about_waivers(rule), rule.rule_id))
    rows = [(number, rule.rule_id, rule.severity, run_id) for number, rule in enumerate(ordered)]
    if rows:
        duck.executemany("INSERT INTO internal.rule_run VALUES (?, ?, ?, ?)", rows)
    duck.execute(_HASHED)
    duck.execute(_PAST, {"run": run_id})
    first = [rule for rule in ordered if not _is_about_waivers(rule)]
    subjects = fetch_one(duck, "SELECT greatest(count(*), 1) FROM internal.resource_dim")[0]
    _speak_all(duck, subjects, list(enumerate(first)))
    apply(duck, run_id)
    _speak_all(duck, subjects, list(enumerate(ordered))[len(first) :])
    for table in ("subject_hash", "problem_before"):
        duck.execute(f"DROP TABLE memory.main.{table}")


def _speak_all(duck: duckdb.DuckDBPyConnection, subjects: int, rules: Sequence[tuple[int, Rule]]) -> None:
    """Some rules at once, for none of them keeps all processors busy; of several mistakes the first rule's is raised."""
    mine = threading.local()

    def speak(numbered: tuple[int, Rule]) -> None:
        if not hasattr(mine, "duck"):
            mine.duck = duck.cursor()
            mine.duck.execute(f"USE {CATALOG}")
        _speak(mine.duck, subjects, *numbered)

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for _ in threads.map(speak, rules):
            pass


def _is_about_waivers(rule: Rule) -> bool:
    return _ABOUT_WAIVERS.search(rule.query) is not None


def _speak(duck: duckdb.DuckDBPyConnection, subjects: int, number: int, rule: Rule) -> None:
    """Put down what one rule says of every resource that it considers."""
    query = _plain(rule)
    parameters = dict(rule.parameters)
    try:
        described = duck.execute(f"DESCRIBE {query}", parameters or None).fetchall()
        _expect_columns(rule, [row[0] for row in described])
        for among in (next(kind for pattern, kind in _LIKELY if pattern.search(query)), _EVERY):
            duck.execute(f"DELETE FROM internal.verdict WHERE rule = {number:d}")
            verdicts = _VERDICTS.format(number=number, query=query, status=STATUS_TYPE, among=among)
            duck.execute(verdicts, parameters or None)
            if fetch_one(duck, f"SELECT count(*) - count(subject) FROM internal.verdict WHERE rule = {number:d}") == (
                0,
            ):
                break
    except duckdb.Error as error:
        cause = " ".join(str(error).split("LINE ")[0].split())
        raise RuleError(f"{rule.source}: rule {rule.rule_id} failed: {cause}") from error
    _expect_form(duck, subjects, number, rule)


def _expect_columns(rule: Rule, names: Sequence[str]) -> None:
    if sorted(names) != sorted(COLUMNS):
        raise RuleError(f"{rule.source}: expected the columns {', '.join(COLUMNS)}, found {', '.join(names)}")


def _expect_form(duck: duckdb.DuckDBPyConnection, subjects: int, number: int, rule: Rule) -> None:
    found = duck.execute(_BREACHES.format(subjects=subjects), {"rule": number}).fetchone()
    if found is None or not any(found):
        return
    twice, nameless, odd, _ = found
    if nameless:
        raise RuleError(f"{rule.source}: a row has no resource_arn; every row needs one")

    def culprit(having: str) -> Any:
        return fetch_one(duck, _CULPRIT.format(having=having, rule=number))[0]

    if twice:
        resource = culprit("count(*) > 1")
        raise RuleError(f"{rule.source}: {resource} is returned twice; a rule says one thing of a resource")
    if odd:
        query = _ODD.format(query=_plain(rule), statuses=STATUSES)
        found = duck.execute(query, dict(rule.parameters) or None).fetchone()
        resource, status = found or ("a resource", None)
        expected = ", ".join(sorted(STATUSES))
        raise RuleError(f"{rule.source}: {resource} has status {status!r}; expected {expected}")
    resource = culprit("bool_or(coalesce(v.reason, '') = '')")
    raise RuleError(f"{rule.source}: {resource} has no reason; every row needs one")


def _plain(rule: Rule) -> str:
    return rule.query.rstrip().rstrip(";")

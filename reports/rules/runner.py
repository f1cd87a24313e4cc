"""Runs the rules inside DuckDB: no result passes through Python.

A million keys give some fifty million results, nearly all of them passes. Only problems, and former problems, are kept as rows
(``memory.main.current_finding``); passes are counted as they arise, which costs a fraction of storing them. A rule's full
population is its SELECT, run on demand.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import duckdb

from models.severities import SEVERITIES, STATUSES
from reports.connections import new_cursor
from reports.mart.build_manifest import built_by_this_program
from reports.mart.connection import CATALOG
from reports.mart.errors import OverLimitError, out_of_memory
from reports.rules.loader import OLD_FORM, Rule, RuleError

COLUMNS = ("resource_arn", "account_id", "region", "key_arn", "status", "reason")
"""The columns of a result."""
_RETURNED = (*COLUMNS[:4], "verdict")
"""The columns of a rule's query."""
_OPTIONAL = ("note", "severity")
"""A text to append to every reason, and a severity that replaces the rule's for this resource, unless it is NULL."""
_VERDICT_TYPE = "STRUCT(status VARCHAR, reason VARCHAR)"
_UNFORESEEN = "coalesce(verdict, unknown('No condition of the rule applies to this resource.'))"
# NOT IN would take DuckDB a millisecond to plan, in every rule: it joins a table of the values, from five values on.
_INVALID_SEVERITY = " AND ".join(f"severity <> '{severity}'" for severity in SEVERITIES)
_THREADS = 2
_FETCHED_ROWS = 2_000
_WAIVERS_VIEW = re.compile(r"\bwaivers\b", re.IGNORECASE)

CREATE_RESULTS = """
CREATE OR REPLACE TABLE memory.main.result (rule_id VARCHAR, resource_arn VARCHAR, account_id VARCHAR, region VARCHAR,
  key_arn VARCHAR, severity VARCHAR, status VARCHAR, unwaived_status VARCHAR, waiver VARCHAR, reason VARCHAR, listed BOOLEAN,
  resources BIGINT);
CREATE OR REPLACE VIEW memory.main.current_finding AS SELECT * EXCLUDE (listed, resources) FROM memory.main.result WHERE listed
"""
# The empty relation adds the optional columns. Results that break the contract are listed, so that they are found afterwards.
_INSERT_RESULTS = f"""
INSERT INTO memory.main.result
SELECT '{{rule_id}}', CASE WHEN listed THEN resource_arn END, account_id, region, CASE WHEN listed THEN key_arn END,
  CASE WHEN listed THEN coalesce(severity, '{{severity}}') END, status, status, NULL, CASE WHEN listed THEN reason END, listed,
  count(*)
FROM (
  SELECT *, verdict.status AS status, verdict.reason || coalesce(note, '') AS reason,
    status IN ('pass', 'not_applicable') IS NOT TRUE OR coalesce(reason, '') = '' OR coalesce(resource_arn, '') = ''
      OR coalesce({_INVALID_SEVERITY}, false) OR {{was_problem}} AS listed
  FROM (
    SELECT * REPLACE ({_UNFORESEEN} AS verdict)
    FROM (FROM ({{query}}
    ) UNION ALL BY NAME SELECT CAST(NULL AS VARCHAR) AS note, CAST(NULL AS VARCHAR) AS severity WHERE false)
  )
)
GROUP BY ALL
"""
_WAS_PROBLEM = (
    "resource_arn IN (SELECT resource_arn FROM internal.finding WHERE valid_from < {run:d} AND rule_id = '{rule_id}')"
)
FORMER_PROBLEMS = "SELECT DISTINCT rule_id FROM internal.finding WHERE valid_from < $run"
_DUPLICATE = (
    "SELECT resource_arn FROM ({query}\n) WHERE resource_arn <> '' GROUP BY 1 HAVING count(*) > 1 ORDER BY 1 LIMIT 1"
)
_CONTRACT_CHECK = f"""
SELECT rule_id, resource_arn, unwaived_status, coalesce(resource_arn, '') = '' AS unnamed,
  coalesce(unwaived_status NOT IN {STATUSES}, true) AS invalid_status, severity NOT IN {SEVERITIES} AS invalid_severity
FROM memory.main.result
WHERE listed AND (unnamed OR invalid_status OR invalid_severity OR coalesce(reason, '') = '')
ORDER BY rule_id, unnamed DESC, invalid_status DESC, invalid_severity DESC, resource_arn LIMIT 1
"""
_LISTED_TWICE = """
SELECT rule_id, resource_arn FROM memory.main.result WHERE listed GROUP BY ALL HAVING sum(resources) > 1 ORDER BY ALL LIMIT 1
"""


RunRules = Callable[[duckdb.DuckDBPyConnection, int, Sequence[Rule]], None]
"""Runs rules as of a run and adds their results to ``memory.main.result`` of the connection.

Raises RuleError, or OverLimitError, which name the rule's file.
"""


def run_in_threads(duck: duckdb.DuckDBPyConnection, run_id: int, rules: Sequence[Rule]) -> None:
    """Run rules in parallel, as a single rule does not use all processors. Raises the RuleError of a rule that fails."""
    pending = iter(rules)
    with_problems = {row[0] for row in duck.execute(FORMER_PROBLEMS, {"run": run_id}).fetchall()}

    def work(cursor: duckdb.DuckDBPyConnection) -> None:
        cursor.execute(f"USE {CATALOG}")
        try:
            for rule in pending:
                run_rule(cursor, rule, run_id if rule.rule_id in with_problems else None)
        finally:
            deque(pending, maxlen=0)  # after a failure, the other thread ends with its current rule
            cursor.close()

    with ThreadPoolExecutor(_THREADS) as threads:
        for _ in threads.map(work, [new_cursor(duck) for _ in range(_THREADS)]):
            pass


def evaluate_rules(
    duck: duckdb.DuckDBPyConnection, run_id: int, rules: Iterable[Rule], run_own: RunRules = run_in_threads
) -> None:
    """Collect the findings and counts from the views as of a run. Raises RuleError, which names the rule's file.

    Waivers are applied after all other rules and before the rules about waivers, which read the effect of each waiver.
    ``run_own`` runs users' rules.
    """
    from reports.rules.waivers import apply

    # Rules are written by users too: from here on, the queries of this database reach no file, network or extension.
    duck.execute("SET enable_external_access = false")
    duck.execute(CREATE_RESULTS)
    by_id = {rule.rule_id: rule for rule in sorted(rules, key=lambda rule: rule.rule_id)}
    for about_waivers in (False, True):
        if about_waivers:
            apply(duck, run_id, list(by_id))
        chosen = [rule for rule in by_id.values() if bool(_WAIVERS_VIEW.search(rule.query)) == about_waivers]
        run_in_threads(duck, run_id, [rule for rule in chosen if rule.shipped])
        if own := [rule for rule in chosen if not rule.shipped]:
            run_own(duck, run_id, own)
        _check_results(duck, by_id)


def run_rule(duck: duckdb.DuckDBPyConnection, rule: Rule, run_id: int | None) -> None:
    """Add the results of one rule to ``memory.main.result``; ``run_id`` is the current run of a rule that had findings before."""
    try:
        parameters = dict(rule.parameters) or None
        if not rule.shipped:  # the tests check this for shipped rules; it takes a quarter of the time of a small run
            check_columns(duck, rule)
            duplicate = duck.execute(_DUPLICATE.format(query=_select(rule)), parameters).fetchone()
            if duplicate is not None:
                raise _duplicate(rule, duplicate[0])
        was_problem = "false" if run_id is None else _WAS_PROBLEM.format(run=run_id, rule_id=rule.rule_id)
        insert = _INSERT_RESULTS.format(
            rule_id=rule.rule_id, severity=rule.severity, query=_select(rule), was_problem=was_problem
        )
        duck.execute(insert, parameters)
    except duckdb.OutOfMemoryException:
        raise  # the caller explains it
    except duckdb.Error as error:
        raise _failed(rule, error) from error


def _check_results(duck: duckdb.DuckDBPyConnection, rules: dict[str, Rule]) -> None:
    """Raise RuleError for a result that breaks the contract."""
    broken = duck.execute(_CONTRACT_CHECK).fetchone()
    if broken is None:
        if (twice := duck.execute(_LISTED_TWICE).fetchone()) is not None:
            raise _duplicate(rules[twice[0]], twice[1])
        return
    rule_id, resource, status, unnamed, invalid_status, invalid_severity = broken
    rule = rules[rule_id]
    if unnamed:
        raise RuleError(f"{rule.source}: a row has no resource_arn; every row needs one")
    if invalid_status:
        raise _invalid_status(rule, resource, status)
    if invalid_severity:
        raise RuleError(f"{rule.source}: {resource} has a severity other than {', '.join(SEVERITIES)}")
    raise RuleError(f"{rule.source}: {resource} has no reason; every row needs one")


_RESULTS = f"""
SELECT {", ".join(COLUMNS[:4])}, verdict.status AS status, verdict.reason || {{note}} AS reason
FROM (SELECT * REPLACE ({_UNFORESEEN} AS verdict) FROM ({{query}}
))
"""
_POPULATION = """
SELECT * FROM ({results})
WHERE (list_contains($contract_, status) IS NOT TRUE) OR list_contains($statuses_, status) AND (
  len($accounts_) = 0 OR list_contains($accounts_, account_id)
  OR account_id IN (SELECT a.account_id FROM accounts a WHERE list_contains($accounts_, a.name)))
ORDER BY list_contains($contract_, status) IS TRUE, list_position($statuses_, status), account_id, region, resource_arn
"""
WAIVED_COLUMNS = (*COLUMNS, "unwaived_status", "waiver", "recorded_status")
"""The columns of :func:`waived_population`."""
_WAIVED_POPULATION = """
SELECT resource_arn, account_id, region, key_arn, CASE WHEN waived THEN 'waived' ELSE status END AS final_status,
  CASE WHEN waived THEN recorded_reason ELSE reason END, status, CASE WHEN waived THEN waiver END, recorded_status
FROM (
  SELECT p.*, f.status AS recorded_status, f.reason AS recorded_reason, f.waiver,
    f.status = 'waived' AND f.unwaived_status = p.status AS waived
  FROM ({results}) p
  LEFT JOIN internal.finding f ON f.resource_arn = p.resource_arn AND f.rule_id = $rule_
    AND internal.known(f.valid_from, f.valid_to, internal.view_run())
)
ORDER BY list_position($statuses_, final_status), account_id, region, resource_arn
"""


def population(
    duck: duckdb.DuckDBPyConnection, rule: Rule, statuses: Sequence[str] = STATUSES, accounts: Sequence[str] = ()
) -> Iterator[tuple[Any, ...]]:
    """Yield every resource that a rule checks, with the columns of a result, as of the run of the connection's views.

    Statuses are those without waivers. ``accounts`` are IDs or names; none selects all. Raises RuleError.
    """
    selected = {"statuses_": list(statuses), "accounts_": list(accounts), "contract_": list(STATUSES)}
    for row in _rows(duck, rule, _POPULATION, selected):
        if row[4] not in STATUSES:  # invalid ones come first
            raise _invalid_status(rule, row[0], row[4])
        yield row


def waived_population(duck: duckdb.DuckDBPyConnection, rule: Rule) -> Iterator[tuple[Any, ...]]:
    """Yield every resource that a rule checks, waived as the run recorded it, with WAIVED_COLUMNS. Raises RuleError.

    A recorded waiver of another status is not applied. ``recorded_status`` is NULL for a resource that never was a problem.
    """
    return _rows(duck, rule, _WAIVED_POPULATION, {"rule_": rule.rule_id, "statuses_": ["waived", *STATUSES]})


def results_query(duck: duckdb.DuckDBPyConnection, rule: Rule) -> str:
    """The SELECT of all results of a rule, with its parameters as ``$name``. Raises RuleError or OverLimitError."""
    with _explained(duck, rule):
        note = "coalesce(note, '')" if "note" in check_columns(duck, rule) else "''"
    return _RESULTS.format(note=note, query=_select(rule))


def _rows(duck: duckdb.DuckDBPyConnection, rule: Rule, query: str, values: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    results = results_query(duck, rule)
    with _explained(duck, rule):
        cursor = duck.execute(query.format(results=results), {**rule.parameters, **values})
        while rows := cursor.fetchmany(_FETCHED_ROWS):
            yield from rows


@contextmanager
def _explained(duck: duckdb.DuckDBPyConnection, rule: Rule) -> Iterator[None]:
    """Raise DuckDB's errors of the block as RuleError, which names the rule, and a lack of memory as OverLimitError."""
    try:
        yield
    except (duckdb.OutOfMemoryException, MemoryError) as error:
        raise OverLimitError(f"{rule.source}: {out_of_memory(f'rule {rule.rule_id}')}") from error
    except duckdb.Error as error:
        failed = _failed(rule, error)
        if isinstance(error, duckdb.CatalogException | duckdb.BinderException) and not built_by_this_program(
            duck, CATALOG
        ):
            hint = "another version of kmsledger built the mart: run `kmsledger mart` to rebuild it"
            failed = RuleError(f"{failed}; {hint}")
        raise failed from error


def _failed(rule: Rule, error: duckdb.Error) -> RuleError:
    cause = " ".join(str(error).split("LINE ")[0].split())
    return RuleError(f"{rule.source}: rule {rule.rule_id} failed: {cause}")


def _duplicate(rule: Rule, resource: str) -> RuleError:
    return RuleError(f"{rule.source}: {resource} is returned twice; a rule returns each resource once")


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

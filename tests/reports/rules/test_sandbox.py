"""Tests of the limits of a rule's query: it reads the views of the mart, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from models.settings import Settings
from reports.mart.build import DraftMart, mart_builder
from reports.rules.loader import RuleError, parse_rule
from reports.rules.runner import evaluate_rules, population
from tests.reports.conftest import IRELAND, SHOP
from tests.reports.ledger_builder import LedgerBuilder

HEADER = "-- id: own-rule\n-- title: x\n-- severity: low\n-- why: x\n-- fix: x\n"
SELECT = (
    "SELECT 'x' AS resource_arn, 'a' AS account_id, 'r' AS region, NULL AS key_arn, fail({value}::VARCHAR) AS verdict"
)
OUTSIDE = [
    "read_text('/proc/self/environ')",
    "read_text('{folder}/rules/*')",
    "read_blob('/etc/passwd')",
    "read_csv('/etc/passwd')",
    "read_csv_auto('/etc/passwd')",
    "sniff_csv('/etc/passwd')",
    "read_json('{folder}/x.json')",
    "read_json_auto('{folder}/x.json')",
    "read_ndjson('{folder}/x.json')",
    "read_parquet('{folder}/x.parquet')",
    "read_duckdb('{folder}/x.duckdb')",
    "parquet_metadata('{folder}/x.parquet')",
    "parquet_schema('{folder}/x.parquet')",
    "glob('/etc/*')",
    "'/etc/passwd'",
    "'{folder}/ledger.db'",
    "'https://example.org/x.csv'",
    "read_csv('https://example.org/x.csv')",
    "read_csv('s3://example/x.csv')",
    "sqlite_scan('{folder}/ledger.db', 'run')",
    "postgres_scan('host=localhost', 'public', 'run')",
    "(SELECT getenv('HOME') AS x)",
    "(SELECT * FROM query_table(['/etc/passwd']))",
    "(SELECT * FROM query('SELECT * FROM read_text(''/etc/passwd'')'))",
]
"""Sources in files, on the network and in the environment: also refused by the connection on which the rule runs."""
INSIDE = [
    "duckdb_settings()",
    "duckdb_secrets()",
    "duckdb_variables()",
    "duckdb_databases()",
    "duckdb_tables",
    "duckdb_logs()",
    "pragma_database_size()",
    "pragma_storage_info('keys')",
    "sqlite_master",
    "information_schema.tables",
    "pg_catalog.pg_settings",
    "system.main.duckdb_settings",
    "system.main.duckdb_settings()",
    "enable_logging()",
    "checkpoint()",
    "json_execute_serialized_sql('x')",
    "which_secret('s3://x', 's3')",
    "temp.result",
    "result",
    "memory.main.current_finding",
    "other.main.keys",
    "(DESCRIBE keys)",
    "(SHOW TABLES)",
    "(SUMMARIZE keys)",
    # The name of a common table expression hides only what comes after it.
    "(WITH result AS (SELECT * FROM result) SELECT * FROM result)",
    "(WITH a AS (SELECT * FROM result), result AS (SELECT 1) SELECT * FROM a)",
    "(SELECT * FROM result WHERE EXISTS (WITH result AS (SELECT 1) SELECT * FROM result))",
    "(SELECT 1) y, LATERAL (SELECT * FROM /* keys */ result -- FROM keys\n)",
    "keys y WHERE 1 IN (FROM result) --",
    "(SELECT list_transform([1], lambda y: (SELECT count(*) FROM result)))",
]
"""Sources inside DuckDB that are not views of the mart."""
VALUES = [
    "current_setting('temp_directory')",
    "system.main.current_setting('temp_directory')",
    "'temp_directory'.current_setting()",
    "getvariable('x')",
    "getenv('HOME')",
    "current_query()",
    "version()",
    "session_user()",
    "pg_get_viewdef(1)",
    "pg_sleep(1)",
    "sleep_ms(1)",
    "write_log('x')",
    "setseed(0.5)",
    "nextval('x')",
    "json_serialize_plan('SELECT 1')",
]
STATEMENTS = [
    "ATTACH '/tmp/x.db' AS x",
    "COPY keys TO '/tmp/x.csv'",
    "COPY (SELECT 1) TO '/tmp/x.csv'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET memory_limit = '1GB'",
    "RESET memory_limit",
    "PRAGMA database_list",
    "CALL enable_logging()",
    "CREATE TABLE x AS SELECT 1",
    "CREATE MACRO fail(reason) AS pass(reason)",
    "INSERT INTO keys SELECT * FROM keys",
    "UPDATE keys SET state = 'Enabled'",
    "EXPLAIN ANALYZE SELECT 1",
    "EXPORT DATABASE '/tmp/x'",
    "USE memory",
    "PREPARE x AS SELECT 1",
]


@pytest.fixture(scope="module")
def small_mart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DraftMart]:
    """A mart of one key, not yet published."""
    folder = tmp_path_factory.mktemp("small")
    world = LedgerBuilder(f"sqlite:///{folder / 'ledger.db'}")
    world.account(SHOP, "Shop", IRELAND)
    world.key(SHOP, IRELAND, "k1")
    world.crawl()
    with mart_builder(world.url, folder / "mart.duckdb", Settings()) as mart:
        yield mart


@pytest.mark.parametrize("source", OUTSIDE)
def test_the_connection_reaches_nothing_outside_the_mart(small_mart: DraftMart, tmp_path: Path, source: str) -> None:
    """Even a query that was not checked reads no files, network, other databases or environment."""
    (tmp_path / "x.json").write_text('{"a": 1}')
    query = f"{SELECT.format(value='x')} FROM {source.format(folder=tmp_path)} x"
    rule = replace(parse_rule("own-rule.sql", HEADER + SELECT.format(value="1")), query=query)
    with pytest.raises(RuleError, match="own-rule failed"):
        evaluate_rules(small_mart.duck, small_mart.as_of, [rule])


@pytest.mark.parametrize("source", [*OUTSIDE, *INSIDE])
def test_a_rule_reads_only_views(source: str) -> None:
    """A query that names another source is an error before it runs, with the line."""
    query = f"{SELECT.format(value='x')}\nFROM {source.format(folder='/no/such')} x"
    with pytest.raises(RuleError, match=r"^own-rule\.sql:\d+: .*(a rule|rule reads)"):
        parse_rule("own-rule.sql", HEADER + query)


@pytest.mark.parametrize("value", VALUES)
def test_a_rule_calls_no_function_that_returns_other_than_facts(value: str) -> None:
    """Settings, variables and the session are no facts; functions with effects are refused, too."""
    with pytest.raises(RuleError, match=r"^own-rule\.sql:6: a rule cannot call "):
        parse_rule("own-rule.sql", f"{HEADER}{SELECT.format(value=value)} FROM keys")


@pytest.mark.parametrize("terms", [300, 900, 20_000])
def test_a_deep_query_is_checked_or_refused(terms: int) -> None:
    """However deep its expressions are, a query is checked completely, or it is an error."""
    query = f"{SELECT.format(value=' || '.join(['1'] * terms))} FROM result"
    with pytest.raises(RuleError, match=r"^own-rule\.sql"):
        parse_rule("own-rule.sql", HEADER + query)


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_rule_is_one_select(statement: str) -> None:
    """Other statements are errors, alone, before and after the SELECT."""
    select = f"{SELECT.format(value='1')} FROM keys"
    for query in (
        statement,
        f"{statement}; {select}",
        f"{select}; {statement}",
        f"{select} /* ; */ ; -- x\n{statement}",
    ):
        with pytest.raises(RuleError, match=r"^own-rule\.sql:\d+: (expected one SELECT|the query is not valid SQL)"):
            parse_rule("own-rule.sql", HEADER + query)


@pytest.mark.parametrize(
    "source",
    [
        "keys",
        "main.keys",
        "KEYS",
        "keys_history",
        "keys_as_of(1)",
        "internal.customer_keys",
        "internal.customer_keys_as_of(1)",
        "range(1)",
        "(WITH result AS (SELECT 1) SELECT * FROM result)",
        "(WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT * FROM r)",
        "(SELECT unnest([1, 2]))",
        "(VALUES (1))",
    ],
)
def test_a_rule_reads_all_views(small_mart: DraftMart, source: str) -> None:
    """Views, their earlier states and histories, and what a query computes from them."""
    rule = parse_rule("own-rule.sql", f"{HEADER}{SELECT.format(value='count(*)')} FROM {source} x")
    assert len(list(population(small_mart.duck, rule))) == 1

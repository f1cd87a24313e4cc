"""Property test of the lifecycle of findings over random runs, compared with a naive reference."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, select

from models.tables.findings import Finding, RuleResult
from models.versioned import Base
from reports.mart import incremental_load, view_loader
from reports.mart.internal_schema import create_schema
from reports.rules import runner, waivers
from reports.rules.finding_history import record
from reports.rules.loader import Rule, parse_rule
from tests.hypothesis_profiles import examples
from tests.reports.ledger_builder import settings_of

START = dt.datetime(2026, 11, 20, 3, 0)  # noqa: DTZ001 - DuckDB returns times in UTC without a zone
RULE = "own-rule"
WAIVED_UNTIL = 3
"""The last run in which the waiver of the resources w0, w1 ... applies."""
Statuses = list[list[str | None]]

_QUERY = """
SELECT r AS resource_arn, '1' AS account_id, 'x' AS region, NULL AS key_arn, {'status': s, 'reason': 'So.'} AS verdict
FROM internal.rule_output"""
_EMPTY = {
    "resources": "resource_arn VARCHAR, resource_type VARCHAR, name VARCHAR, account_id VARCHAR, region VARCHAR",
    "keys": "key_arn VARCHAR, alias VARCHAR, key_id VARCHAR, account_id VARCHAR, region VARCHAR, description VARCHAR, "
    "tags MAP(VARCHAR, VARCHAR)",
    "aliases": "alias_arn VARCHAR, alias_name VARCHAR, account_id VARCHAR, region VARCHAR",
    "internal.customer_grants": "resource_arn VARCHAR",
    "accounts": "account_id VARCHAR, name VARCHAR",
    "owners": "resource_arn VARCHAR, owner VARCHAR",
    "internal.rule_output": "r VARCHAR, s VARCHAR",
    "internal.run": "run_id INTEGER, started_at TIMESTAMP",
    "internal.scope_coverage": "run_id INTEGER, account_id VARCHAR, region VARCHAR",
}


def own_rule() -> Rule:
    texts = "-- title: x\n-- severity: low\n-- why: x\n-- fix: x\n"
    return parse_rule("own-rule.sql", f"-- id: {RULE}\n{texts}{_QUERY}")


def empty_mart() -> duckdb.DuckDBPyConnection:
    duck = duckdb.connect()
    duck.execute("ATTACH ':memory:' AS mart; USE mart")
    create_schema(duck)
    for table, columns in _EMPTY.items():
        duck.execute(f"CREATE TABLE {table} ({columns})")
    waivers.prepare(duck, settings_of(), [])
    last = (START + dt.timedelta(days=WAIVED_UNTIL - 1)).date()
    duck.execute("INSERT INTO internal.waiver (waiver, rule_id, resource, reason, owner, expires, include_unknown) "
                 "VALUES ('w', $rule, 'w*', 'Fine.', 'me', $last, false)", {"rule": RULE, "last": last})  # fmt: skip
    return duck


def load_history(duck: duckdb.DuckDBPyConnection, connection: Connection) -> None:
    """Load both fact tables into the mart."""
    for model in (Finding, RuleResult):
        columns = [*model.value_columns(), "valid_from", "valid_to"]
        counts = {column.name for column in model.table().columns if column.type.python_type is int}
        typed = ", ".join(f"{name} {'INTEGER' if name in counts else 'VARCHAR'}" for name in columns)
        duck.execute(f"CREATE OR REPLACE TABLE internal.{model.table().name} ({typed})")
        rows = connection.execute(select(*(model.table().c[name] for name in columns))).all()
        if rows:
            marks = ", ".join("?" * len(columns))
            duck.executemany(
                f"INSERT INTO internal.{model.table().name} VALUES ({marks})", [tuple(row) for row in rows]
            )


def run_rules(duck: duckdb.DuckDBPyConnection, connection: Connection, run_id: int, statuses: dict[str, str]) -> None:
    duck.execute("DELETE FROM internal.rule_output")
    if statuses:
        duck.executemany("INSERT INTO internal.rule_output VALUES (?, ?)", list(statuses.items()))
    load_history(duck, connection)
    runner.evaluate_rules(duck, run_id, [own_rule()])
    record(duck, connection, run_id)
    incremental_load.apply_results(duck, run_id)
    applied = history(duck)
    load_history(duck, connection)
    assert applied == history(duck)


def history(duck: duckdb.DuckDBPyConnection) -> list[list[str]]:
    """The rows of both fact tables in the mart."""
    tables = (f"internal.{name}" for name in incremental_load.RESULTS)
    return [sorted(map(str, duck.execute(f"FROM {table}").fetchall())) for table in tables]


def lifecycle(duck: duckdb.DuckDBPyConnection, run_id: int) -> dict[str, tuple[Any, ...]]:
    episodes, lifecycle_view = (
        view for view in view_loader.views() if view.name in {"finding_episodes", "finding_lifecycle"}
    )
    duck.execute(f"CREATE OR REPLACE VIEW internal.finding_episodes AS {view_loader.fixed(episodes.select, run_id)}")
    query = view_loader.fixed(lifecycle_view.select, run_id)
    names = "resource_arn, first_failed, last_seen, resolved_at, reopened, since, status"

    def number(value: Any) -> Any:
        return (value - START).days + 1 if isinstance(value, dt.datetime) else value

    return {row[0]: tuple(map(number, row[1:])) for row in duck.execute(f"SELECT {names} FROM ({query})").fetchall()}


def naive(name: str, history: Sequence[str | None]) -> tuple[Any, ...] | None:
    """The expected lifecycle, computed run by run as the view documents it."""
    first = last = resolved = since = None
    reopened, failing, known = 0, False, False
    status_before: str | None = "none"
    for number, result in enumerate(history, start=1):
        if result == "fail":
            if not failing:
                reopened += resolved is not None
                first, resolved, failing = number, None, True
            last = number
        elif result != "unknown" and failing:
            resolved, failing = number, False
        known = known or result in {"fail", "unknown"}
        status = "waived" if result == "fail" and name.startswith("w") and number <= WAIVED_UNTIL else result
        if status != status_before:
            since = number
        status_before = status
    exists = history[-1] is not None
    return (
        (first, last, resolved, reopened, since if exists else None, status_before if exists else None)
        if known
        else None
    )


def test_findings_are_stored_in_the_order_of_the_index() -> None:
    """Whatever the order of the results, new findings are inserted by rule and resource, so that a chunk writes few pages."""
    duck = empty_mart()
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    resources = [f"r{number * 37 % 100:02}" for number in range(100)]
    with engine.begin() as connection:
        run_rules(duck, connection, 1, dict.fromkeys(resources, "fail"))
        inserted = select(Finding.resource_arn).order_by(Finding.table().c.version_id)
        assert connection.scalars(inserted).all() == sorted(resources)
    duck.close()
    engine.dispose()


@pytest.mark.deep
@settings(max_examples=examples(fast=8, deep=8), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(1, 7).flatmap(
        lambda count: st.lists(
            st.lists(
                st.sampled_from(["pass", "fail", "fail", "unknown", "not_applicable", None]),
                min_size=count,
                max_size=count,
            ),
            min_size=4,
            max_size=12,
        )
    )
)
def test_lifecycle_follows_from_the_runs(histories: Statuses) -> None:
    """First failure, last failure, resolution and reopening follow from the runs; unknown and waived resolve nothing."""
    names = [f"{'rw'[index % 2]}{index}" for index in range(len(histories))]
    engine = create_engine("sqlite://")
    duck = empty_mart()
    with engine.begin() as connection:
        Base.metadata.create_all(connection)
        for number in range(1, len(histories[0]) + 1):
            duck.execute("INSERT INTO internal.run VALUES (?, ?)", [number, START + dt.timedelta(days=number - 1)])
            current = {name: history[number - 1] for name, history in zip(names, histories, strict=True)}
            statuses = {name: status for name, status in current.items() if status is not None}
            for _ in range(2):  # a second evaluation of the same run changes nothing
                run_rules(duck, connection, number, statuses)
            expected = {name: naive(name, history[:number]) for name, history in zip(names, histories, strict=True)}
            assert lifecycle(duck, number) == {name: row for name, row in expected.items() if row is not None}
            counts = duck.execute("SELECT sum(passed), sum(failed), sum(unknown), sum(not_applicable), sum(waived) "
                                  "FROM internal.rule_result WHERE valid_to IS NULL").fetchone()  # fmt: skip
            waived = [n for n, s in statuses.items() if s == "fail" and n.startswith("w") and number <= WAIVED_UNTIL]
            values = list(statuses.values())
            fails = values.count("fail") - len(waived)
            summed = (values.count("pass"), fails, values.count("unknown"), values.count("not_applicable"), len(waived))
            assert counts == (summed if statuses else (None,) * 5)
        for number in range(1, len(histories[0]) + 1):
            expected = {name: naive(name, history[:number]) for name, history in zip(names, histories, strict=True)}
            assert lifecycle(duck, number) == {name: row for name, row in expected.items() if row is not None}
    duck.close()
    engine.dispose()


def test_a_failure_corrected_in_the_same_run_is_not_recorded() -> None:
    """A failure that a corrected rule retracts in the same run leaves nothing in the ledger."""
    engine = create_engine("sqlite://")
    duck = empty_mart()
    with engine.begin() as connection:
        Base.metadata.create_all(connection)
        duck.execute("INSERT INTO internal.run VALUES (1, ?)", [START])
        run_rules(duck, connection, 1, {"r": "fail"})
        run_rules(duck, connection, 1, {"r": "pass"})
        assert connection.execute(select(Finding.table())).all() == []
    duck.close()
    engine.dispose()

"""The history of the figures: open, new and resolved findings per run, and runs without a value."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.settings import Settings
from models.severities import SEVERITIES
from models.tables.keys import KeyGrant
from reports.connections import new_connection
from reports.html.overview_report import OverviewReport
from reports.html.query_runner import Source
from reports.html.trends import RISK_RULE, History, Series
from reports.mart.connection import connect
from reports.pipeline import refresh
from tests.hypothesis_profiles import examples
from tests.reports.html.conftest import Make
from tests.reports.ledger_builder import LedgerBuilder, only
from tests.reports.sample_ledger import IRELAND, SHOP, STRANGER

STATUSES = ("fail", "unknown", "waived", "pass", "not_applicable")
START = dt.datetime(2026, 11, 1)  # noqa: DTZ001 - as the mart has times
Version = tuple[str, str, str, str, int, int | None]
"""Rule, resource, severity, status, and the runs in which it begins and ends."""


@pytest.fixture(scope="module")
def views() -> Iterator[duckdb.DuckDBPyConnection]:
    """The views that the queries of the history read, as tables."""
    with new_connection() as connection:
        connection.execute(
            """
            CREATE TABLE runs (run_id INTEGER, started_at TIMESTAMP, status VARCHAR);
            CREATE TABLE findings_history (rule_id VARCHAR, resource_arn VARCHAR, severity VARCHAR, status VARCHAR,
              unwaived_status VARCHAR, valid_from INTEGER, valid_to INTEGER);
            CREATE SCHEMA internal;
            CREATE TABLE internal.rule_result (valid_from INTEGER);
            CREATE TABLE run_coverage (run_id INTEGER, coverage_percent INTEGER);
            """
        )
        yield connection


def history(
    views: duckdb.DuckDBPyConnection,
    statuses: list[str],
    versions: Sequence[Version] = (),
    evaluated: int | None = 1,
) -> History:
    """The history of runs with these statuses; the first run has ID 1, and `evaluated` is the first one with results."""
    views.execute("DELETE FROM runs; DELETE FROM findings_history; DELETE FROM internal.rule_result")
    for run_id, status in enumerate(statuses, 1):
        views.execute("INSERT INTO runs VALUES (?, ?, ?)", [run_id, START + dt.timedelta(days=run_id), status])
    for rule, resource, severity, status, since, until in versions:
        unwaived = "fail" if status == "waived" else status
        values = [rule, resource, severity, status, unwaived, since, until]
        views.execute("INSERT INTO findings_history VALUES (?, ?, ?, ?, ?, ?, ?)", values)
    if evaluated is not None:
        views.execute("INSERT INTO internal.rule_result VALUES (?)", [evaluated])
    return History(Source(views))


RUNS = 6


@st.composite
def finding_versions(draw: st.DrawFn) -> list[Version]:
    """The versions of a few findings over the runs: each run has a status, or none, which ends the finding."""
    versions: list[Version] = []
    for number, statuses in enumerate(
        draw(st.lists(st.lists(st.none() | st.sampled_from(STATUSES), min_size=RUNS, max_size=RUNS), max_size=4))
    ):
        rule = draw(st.sampled_from((RISK_RULE, "other")))
        severity = draw(st.sampled_from(SEVERITIES))
        since = 0
        for run_id in range(1, RUNS + 1):
            status = statuses[run_id - 1]
            if status is not None and (run_id == 1 or statuses[run_id - 2] != status):
                since = run_id
            following = statuses[run_id] if run_id < RUNS else status
            if status is not None and (run_id == RUNS or following != status):
                versions.append((rule, f"r{number}", severity, status, since, None if run_id == RUNS else run_id + 1))
    return versions


def states(versions: list[Version], run_id: int) -> Mapping[str, tuple[str, str, str]]:
    """The rule, severity and status of each resource in a run."""
    return {
        resource: (rule, severity, status)
        for rule, resource, severity, status, since, until in versions
        if since <= run_id and (until is None or run_id < until)
    }


@settings(max_examples=examples(fast=10, deep=40))
@given(finding_versions())
def test_the_history_is_what_each_run_reported(views: duckdb.DuckDBPyConnection, versions: list[Version]) -> None:
    """The open failures of a run are the findings that failed in it; a failure begins and ends as in finding_lifecycle."""
    made = history(views, ["complete"] * RUNS, versions)
    failing: dict[str, bool] = {}
    for run_id, (open_failures, flow) in enumerate(zip(made.failures, made.flow, strict=True), 1):
        now = states(versions, run_id)
        expected = {name: sum(s == ("fail") and v == name for _, v, s in now.values()) for name in SEVERITIES}
        expected["at_risk"] = sum(rule == RISK_RULE and status == "fail" for rule, _, status in now.values())
        assert open_failures == expected
        began = resolved = 0
        for resource in failing.keys() | now.keys():
            status = now[resource][2] if resource in now else "gone"
            before = failing.get(resource, False)
            after = before if status == "unknown" else status in {"fail", "waived"}
            began += status == "fail" and not before
            resolved += before and not after
            failing[resource] = after
        assert flow == (None if run_id == 1 else (began, resolved))


def test_a_run_without_results_has_no_value(views: duckdb.DuckDBPyConnection) -> None:
    """A failed run, and runs before the rules were first evaluated, have no value: not zero, and not the one before."""
    made = history(
        views, ["complete", "partial", "failed", "complete", "running"], [("a", "r", "high", "fail", 2, None)], 2
    )
    assert [counts and counts["high"] for counts in made.failures] == [None, 1, None, 1]
    assert made.flow == [None, None, None, (0, 0)]
    assert made.open("high").values == [None, 1, None, 1]
    assert made.severities(90).parts[1].count("M") == 2
    assert made.titles(2) == [
        "Run 3, 2026-11-04: unknown", "Run 4, 2026-11-05: 0 critical, 1 high, 0 medium, 0 low, 0 info",
    ]  # fmt: skip
    assert history(views, ["complete"], evaluated=None).failures == [None]
    assert history(views, []).failures == []


def test_coverage_is_known_for_runs_that_ended(views: duckdb.DuckDBPyConnection) -> None:
    """A run that failed, or that had no account-region in scope, has no coverage."""
    views.execute("DELETE FROM run_coverage; INSERT INTO run_coverage VALUES (1, 66), (3, 100)")
    assert history(views, ["complete", "partial", "failed"]).coverage.values == [66, None, None]


@pytest.mark.parametrize(
    ("values", "change", "text"),
    [
        ([], None, "no earlier value"),
        ([None], None, "no earlier value"),
        ([3], None, "2026-11-01: 3, highest 3"),
        ([5, 3], -2, "2026-11-01: 5 to 2026-11-02: 3, highest 5"),
        ([5, None, 1_003], 998, "2026-11-01: 5 to 2026-11-03: 1,003, highest 1,003; unknown in 1 of 3 runs"),
        ([5, None], None, "2026-11-01: 5, highest 5; unknown in 1 of 2 runs"),
    ],
)
def test_a_series_in_words(values: list[int | None], change: int | None, text: str) -> None:
    """The text of a chart has its first, last and highest value; the change is unknown if one of the two values is."""
    runs: list[dict[str, Any]] = [{"started_at": START + dt.timedelta(days=day)} for day in range(len(values))]
    series = Series(runs, values)
    assert (series.change, series.text) == (change, text)


def test_the_last_value_is_the_figure(mart: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """The last point of each trend is the number that the report states: parties, keys at risk, and findings."""
    report = OverviewReport(Source(mart), settings)
    assert report.history.parties.values[-1] == report.external_access.total > 0
    assert report.history.open("at_risk").values[-1] == report.figures["keys_at_risk"] > 0
    severities = {row["severity"]: row["fail"] for row in report.rows("severities")}
    assert {name: report.history.open(name).values[-1] for name in severities} == severities
    assert sum(report.key_shares["state"].values()) == report.figures["customer_keys"]


def test_the_parties_of_earlier_runs(mart: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """The parties in an earlier run are those that had access then, as the view of the access as of that run has them."""
    ids = [row["run_id"] for row in Source(mart).table("recent_runs", runs=90)]
    parties = OverviewReport(Source(mart), settings).history.parties.values
    for run_id, value in zip(ids, parties, strict=True):
        ((expected,),) = mart.execute(
            "SELECT count(DISTINCT CASE WHEN access IN ('public', 'public_via_service') THEN 'Everyone' "
            f"ELSE coalesce(party, principal_account, principal) END) FROM internal.access_paths_as_of({run_id}) "
            "WHERE access IN ('vendor', 'external', 'public', 'public_via_service')"
        ).fetchall()
        assert value == expected


def test_an_account_that_may_retire_a_grant_is_a_party_while_the_grant_exists(make_settings: Make) -> None:
    """The issuing account of a grant can retire it (KMS API reference, RetireGrant): the trend counts it only in those runs."""
    made = make_settings(rules=only())
    world = LedgerBuilder(made.database)
    world.account(SHOP, "Shop", IRELAND)
    key = world.key(SHOP, IRELAND, "00000000-0000-4000-8000-000000000001")
    world.crawl()
    own = f"arn:aws:iam::{SHOP}:role/app"
    world.grant(key, "ab" * 32, grantee_principal=own, issuing_account=f"arn:aws:iam::{STRANGER}:root")
    world.crawl()
    world.remove(KeyGrant, key, "ab" * 32)
    world.crawl()
    refresh(made)
    with connect(made.report.mart) as connection:
        assert OverviewReport(Source(connection), made).history.parties.values == [0, 1, 0]

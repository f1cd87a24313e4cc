"""Runs and what they could not read: coverage, streaks, the coverage gate, the age of the last run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import insert

from models.settings import Settings
from models.store.engine import connect as connect_ledger
from models.tables.runs import Run
from reports.answers.cookbook_loader import recipes
from reports.answers.coverage_gate import check_coverage
from reports.answers.questions.coverage import coverage
from reports.answers.questions.runs import runs
from reports.cli import health
from reports.connections import new_connection
from reports.mart.connection import connect
from reports.mart.view_loader import views
from tests.reports.ledger_builder import FIRST_RUN, LedgerBuilder, build_mart, settings_of

SHOP, DATA, LOCKED = "111122223333", "222233334444", "333344445555"
IRELAND, VIRGINIA = "eu-west-1", "us-east-1"
REFUSED = "the role does not exist or does not trust the crawler"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Four runs: in run 2 a call is denied, in run 3 an account refuses the crawler, in run 4 another call is denied too."""
    folder = tmp_path_factory.mktemp("coverage")
    world = LedgerBuilder(f"sqlite:///{folder / 'ledger.db'}")
    world.account(SHOP, "shop", IRELAND, VIRGINIA)
    world.account(DATA, "data", IRELAND, VIRGINIA, "global")
    world.outcomes[DATA, "eu-west-3"] = ("excluded", "excluded by the configuration")
    world.account(LOCKED, "locked", IRELAND)
    key = world.key(SHOP, IRELAND, "1234abcd-12ab-34cd-56ef-1234567890ab")
    world.crawl()
    world.gap(SHOP, IRELAND, "kms:ListGrants", key)
    world.crawl()
    del world.outcomes[LOCKED, IRELAND]
    world.outcomes[LOCKED, "*"] = ("failed", REFUSED)
    world.crawl()
    world.gap(DATA, VIRGINIA, "kms:ListKeys", cause="throttled")
    world.crawl()
    made = settings_of(database=world.url, report={"mart": folder / "mart.duckdb"})
    build_mart(made)
    (folder / "kmsledger.yaml").write_text(
        f"database: {made.database}\nreport: {{mart: mart.duckdb}}\n", encoding="utf-8"
    )
    return made


@pytest.fixture
def duck(settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(settings.report.mart) as connection:
        yield connection


def run(command: Any, settings: Settings, *arguments: str) -> Result:
    config = settings.report.mart.parent / "kmsledger.yaml"
    return CliRunner().invoke(command, ["--config", str(config), *arguments], catch_exceptions=False)


def test_each_run_has_its_coverage(duck: duckdb.DuckDBPyConnection) -> None:
    """The share that was read completely is rounded down; a refused account counts as its region, excluded ones do not count."""
    assert duck.execute("FROM run_coverage ORDER BY run_id").fetchall() == [
        (1, 6, 6, 0, 0, 100),
        (2, 6, 5, 1, 0, 83),
        (3, 6, 4, 1, 1, 66),
        (4, 6, 3, 2, 1, 50),
    ]


def test_the_trend_names_what_each_run_lost(duck: duckdb.DuckDBPyConnection) -> None:
    """Per run: the change of the coverage, and the account-regions that it lost, among them those of a refused account."""
    query = next(recipe for recipe in recipes() if recipe.name == "coverage-trend").query
    columns = "run_id, coverage_percent, change, lost, regained"
    assert duck.execute(f"SELECT {columns} FROM ({query}) ORDER BY run_id").fetchall() == [
        (1, 100, None, None, None),
        (2, 83, -17, 1, 0),
        (3, 66, -17, 1, 0),
        (4, 50, -16, 1, 0),
    ]


def test_what_is_unknown_has_its_cause_and_age(duck: duckdb.DuckDBPyConnection) -> None:
    """A row per account-region that was not read completely, with the number of runs in a row that did not."""
    query = (
        "SELECT account_id, region, outcome, gaps, causes, since_run, consecutive_runs FROM incomplete_account_regions"
    )
    assert sorted(duck.execute(query).fetchall()) == [
        (SHOP, IRELAND, "partial", 1, ["access was denied without a reason"], 2, 3),
        (DATA, VIRGINIA, "partial", 1, ["AWS throttled the request until the retries were exhausted"], 4, 1),
        (LOCKED, "*", "failed", 0, [REFUSED], 3, 2),
    ]


def test_streaks_as_of_an_earlier_run(duck: duckdb.DuckDBPyConnection) -> None:
    """As of an earlier run, the streaks are those that it had."""
    query = "SELECT account_id, consecutive_runs FROM incomplete_account_regions_as_of(3) ORDER BY 1"
    assert duck.execute(query).fetchall() == [(SHOP, 2), (LOCKED, 1)]


@pytest.mark.parametrize(
    ("minimum", "tolerated", "code"),
    [(0, 0, 3), (50, 0, 3), (51, 0, 4), (100, 9, 4), (0, 2, 3), (0, 3, 0), (50, 3, 0), (51, 3, 4)],
)
def test_the_coverage_gate(duck: duckdb.DuckDBPyConnection, minimum: int, tolerated: int, code: int) -> None:
    """Below the minimum the run has failed (4); gaps of at most the tolerated number of runs are done (0), older ones are 3."""
    gate = check_coverage(duck, minimum, tolerated)
    assert gate.exit_code == code
    assert "50 % (3 of 6 account-regions read completely)" in gate.message
    assert ("below the minimum" in gate.message) == (code == 4)


def test_a_run_without_account_regions_is_below_any_minimum(tmp_path: Path) -> None:
    """If nothing was in scope, coverage is unknown: never a pass."""
    world = LedgerBuilder(f"sqlite:///{tmp_path / 'ledger.db'}")
    world.account(SHOP, "shop")
    world.crawl()
    made = settings_of(database=world.url, report={"mart": tmp_path / "mart.duckdb"})
    build_mart(made)
    with connect(made.report.mart) as connection:
        assert [check_coverage(connection, minimum, 0).exit_code for minimum in (0, 1)] == [0, 4]


def test_coverage_lists_the_worst_first(settings: Settings) -> None:
    """What was not read at all comes first, then what has been unknown for most runs; the exit code says that it is unknown."""
    done = run(coverage, settings, "--format", "json")
    document = json.loads(done.stdout)
    assert [row["account_id"] for row in document["incomplete"]] == [LOCKED, SHOP, DATA]
    assert document["coverage_percent"] == 50
    assert done.exit_code == 3
    text = run(coverage, settings).stdout
    assert "Run 4 read 3 of 6 account-regions completely (50 %)." in text
    assert f"shop ({SHOP}), {IRELAND}: partial, 1 gap, for 3 runs (since run 2)" in text
    assert run(coverage, settings, "--as-of", "1").exit_code == 0


def test_runs_newer_than_the_mart_are_listed(settings: Settings) -> None:
    """A run that failed before its mart was built is listed from the ledger, with unknown coverage."""
    engine = connect_ledger(settings.database)
    later = {"started_at": FIRST_RUN, "status": "failed", "version": "0.1.0", "message": "no AWS credentials"}
    with engine.begin() as connection:
        connection.execute(insert(Run).values(later))
    engine.dispose()
    try:
        listed = json.loads(run(runs, settings, "--format", "json").stdout)["runs"]
        text = run(runs, settings).stdout
        healthy = run(health, settings, "--max-age", "100000d")
    finally:
        engine = connect_ledger(settings.database)
        with engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM run WHERE run_id = 5")
        engine.dispose()
    assert [(row["run_id"], row["status"], row["coverage_percent"], row["in_mart"]) for row in listed] == [
        (5, "failed", None, False),
        (4, "partial", 50, True),
        (3, "partial", 66, True),
        (2, "partial", 83, True),
        (1, "complete", 100, True),
    ]
    assert listed[1]["duration_seconds"] == 240
    assert "no AWS credentials" in text
    assert "unknown" in text.splitlines()[1]
    assert healthy.exit_code == 3
    assert "run 5 failed since then" in healthy.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("--max-age", "1h"), 4, ", more than 1 h"),
        (("--max-age", "100000d"), 3, "with gaps in 3 for up to 3 runs in a row"),
        (("--max-age", "100000d", "--min-coverage", "95%"), 4, "below the minimum of 95 %"),
    ],
)
def test_health_is_one_sentence_and_an_exit_code(
    settings: Settings, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    """Too old a run or too little coverage is 4, gaps are 3; the line names run, age and coverage."""
    done = run(health, settings, *arguments)
    (line,) = done.stdout.splitlines()
    assert sentence in line
    assert "run 4" in line
    assert done.exit_code == code


def test_health_without_a_mart(tmp_path: Path) -> None:
    """Without a run to judge, the monitor gets a failure and a sentence, not a traceback."""
    (tmp_path / "kmsledger.yaml").write_text(f"database: sqlite:///{tmp_path / 'ledger.db'}\n", encoding="utf-8")
    done = CliRunner().invoke(health, ["--config", str(tmp_path / "kmsledger.yaml")], catch_exceptions=False)
    assert done.exit_code == 4
    assert done.stdout.startswith("failed: ")


@pytest.mark.parametrize(
    "arguments", [("--max-age", "soon"), ("--min-coverage", "101%"), ("--min-coverage", "-1"), ("--max-age", "1")]
)
def test_health_rejects_what_is_no_age_or_percentage(settings: Settings, arguments: tuple[str, str]) -> None:
    """An invalid limit is a usage error, never a limit that always holds."""
    assert run(health, settings, *arguments).exit_code == 2


Scopes = Mapping[str, str]
"""Region to outcome."""


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([{IRELAND: "complete"}, {"*": "failed"}, {IRELAND: "partial"}], [(IRELAND, 2, 2)]),
        ([{IRELAND: "partial"}, {"*": "failed"}, {IRELAND: "complete"}], []),
        ([{IRELAND: "partial"}, {"*": "failed"}, {"*": "failed"}], [("*", 2, 2)]),
        ([{"*": "failed"}, {}, {"*": "failed"}], [("*", 1, 2)]),
        ([{IRELAND: "failed"}, {IRELAND: "partial"}, {IRELAND: "failed"}], [(IRELAND, 1, 3)]),
        ([{IRELAND: "partial"}, {IRELAND: "excluded"}, {IRELAND: "partial"}], [(IRELAND, 1, 2)]),
        ([{IRELAND: "partial"}, {IRELAND: "complete"}, {IRELAND: "partial"}], [(IRELAND, 3, 1)]),
        ([{IRELAND: "complete"}, {IRELAND: "complete"}, {"organization": "partial"}], [("organization", 7, 9)]),
    ],
)
def test_a_streak_ends_where_an_account_region_was_read(
    history: Sequence[Scopes], expected: Sequence[tuple[str, int, int]]
) -> None:
    """Runs in which the account was refused count, runs that did not reach it do not; an organization's gap has its own age."""
    (view,) = (view for view in views() if view.name == "incomplete_account_regions")
    rows = [(run, SHOP, region, outcome) for run, scopes in enumerate(history, 1) for region, outcome in scopes.items()]
    with new_connection() as connection:
        connection.execute(
            """
            CREATE SCHEMA internal;
            CREATE MACRO internal.in_scope(outcome) AS outcome IN ('complete', 'partial', 'failed');
            CREATE TABLE internal.run (run_id INTEGER, started_at TIMESTAMP);
            CREATE TABLE internal.scope_coverage (run_id INTEGER, account_id VARCHAR, region VARCHAR, outcome VARCHAR,
              read_run_id INTEGER);
            CREATE MACRO coverage_as_of(run) AS TABLE
              SELECT account_id, '' AS account_name, region, outcome, NULL AS action, '' AS cause, '' AS cause_text,
                NULL AS since_run, NULL AS consecutive_runs, read_run_id
              FROM internal.scope_coverage WHERE run_id = run
              UNION ALL
              SELECT account_id, '', region, 'gap', 'organizations:ListAccounts', 'denied', 'denied', 7, 9, NULL
              FROM internal.scope_coverage WHERE run_id = run AND region = 'organization'
            """
        )
        connection.executemany("INSERT INTO internal.scope_coverage VALUES (?, ?, ?, ?, NULL)", rows)
        found = connection.execute(
            f"SELECT region, since_run, consecutive_runs FROM ({view.select.replace('as_of_run', '3')})"
        )
        assert found.fetchall() == expected


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([{"*": "failed"}], (1, 0, 1)),
        ([{IRELAND: "complete", VIRGINIA: "complete", "global": "partial"}, {"*": "failed"}], (3, 0, 3)),
        ([{IRELAND: "complete", VIRGINIA: "excluded"}, {}, {"*": "failed"}], (1, 0, 1)),
        (
            [{IRELAND: "complete"}, {IRELAND: "complete", VIRGINIA: "failed"}, {"*": "failed"}, {"*": "failed"}],
            (2, 0, 2),
        ),
        ([{"*": "failed"}, {IRELAND: "complete", VIRGINIA: "complete"}], (2, 2, 0)),
        ([{IRELAND: "complete"}, {"*": "suspended"}], None),
    ],
)
def test_a_refused_account_weighs_its_known_account_regions(
    history: Sequence[Scopes], expected: tuple[int, int, int] | None
) -> None:
    """It counts as the account-regions of the last earlier run that entered it, and as one if none did."""
    rows = [
        (run, SHOP, region, outcome, None)
        for run, scopes in enumerate(history, 1)
        for region, outcome in scopes.items()
    ]
    assert coverage_of(rows, len(history)) == expected


def coverage_of(rows: Sequence[tuple[int, str, str, str, int | None]], run_id: int) -> tuple[int, int, int] | None:
    """The account-regions of a run, those that are complete, and those that failed."""
    (view,) = (view for view in views() if view.name == "run_coverage")
    with new_connection() as connection:
        connection.execute(
            """
            CREATE SCHEMA internal;
            CREATE MACRO internal.in_scope(outcome) AS outcome IN ('complete', 'partial', 'failed');
            CREATE TABLE internal.scope_coverage (run_id INTEGER, account_id VARCHAR, region VARCHAR, outcome VARCHAR,
              read_run_id INTEGER);
            """
        )
        connection.executemany("INSERT INTO internal.scope_coverage VALUES (?, ?, ?, ?, ?)", rows)
        query = (
            f"SELECT account_regions, complete, failed FROM ({view.select.replace('as_of_run', '9')}) WHERE run_id = ?"
        )
        row: tuple[int, int, int] | None = connection.execute(query, [run_id]).fetchone()
        return row


def test_a_limited_run_counts_what_it_read_and_does_not_change_the_weight_of_an_account() -> None:
    """What a limited run did not read is not in its coverage; an account that is refused later weighs all its account-regions."""
    rows = [
        (1, SHOP, IRELAND, "complete", None),
        (1, SHOP, VIRGINIA, "complete", None),
        (2, SHOP, IRELAND, "complete", None),
        (2, SHOP, VIRGINIA, "complete", 1),
        (3, SHOP, "*", "failed", None),
    ]
    assert [coverage_of(rows, run_id) for run_id in (1, 2, 3)] == [(2, 2, 0), (1, 1, 0), (2, 0, 2)]


@pytest.mark.parametrize(("streaks", "code"), [([2, 1], 0), ([2, 3], 3), ([2, None], 3), ([None], 3)])
def test_gaps_of_unknown_age_are_not_tolerated(streaks: list[int | None], code: int) -> None:
    """If it is unknown for how many runs an account-region has had gaps, the gate does not tolerate them, and says so."""
    with new_connection() as connection:
        connection.execute(
            """
            CREATE TABLE runs AS SELECT 1 AS run_id, 'partial' AS status, NULL AS only_accounts, NULL AS only_regions;
            CREATE TABLE run_coverage AS SELECT 1 AS run_id, 8 AS complete, 10 AS account_regions, 80 AS coverage_percent;
            CREATE TABLE incomplete_account_regions (consecutive_runs INTEGER, read_run_id INTEGER);
            CREATE TABLE coverage (operation VARCHAR, outcome VARCHAR);
            """
        )
        connection.executemany(
            "INSERT INTO incomplete_account_regions VALUES (?, NULL)", [[streak] for streak in streaks]
        )
        result = check_coverage(connection, 0, 2)
    assert result.exit_code == code
    assert ("an unknown number of runs" in result.message) == (None in streaks)


def test_a_run_that_was_resumed_after_the_mart_is_not_in_it(settings: Settings) -> None:
    """The status of the mart's last run comes from the ledger if it has changed since the mart was built."""
    engine = connect_ledger(settings.database)
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE run SET status = 'complete' WHERE run_id = 4")
        row = json.loads(run(runs, settings, "--format", "json").stdout)["runs"][0]
        text = run(runs, settings).stdout.splitlines()[1]
    finally:
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE run SET status = 'partial' WHERE run_id = 4")
        engine.dispose()
    assert (row["run_id"], row["status"], row["coverage_percent"], row["in_mart"]) == (4, "complete", None, False)
    assert text.endswith("not in the mart: `kmsledger crawl --resume` finishes the last run")

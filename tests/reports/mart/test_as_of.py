"""As of an earlier run, every view answers as it did after that run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner, Result

from models.errors import UserError
from models.settings import Settings
from reports.cli import mart as mart_command
from reports.cli import report as report_command
from reports.mart import as_of_connection, view_loader
from reports.mart.as_of import moments, resolve_as_of
from reports.mart.cli import sql as sql_command
from reports.mart.connection import connect
from reports.mart.errors import QueryError
from reports.pipeline import refresh
from tests.reports.answers.random_runs import RandomRuns
from tests.reports.ledger_builder import settings_of

pytestmark = pytest.mark.deep  # five runs of all rules

RUNS = range(1, 6)
VIEWS = [view.qualified for view in view_loader.views()]
# Only these views may answer differently later.
DIFFERS: dict[str, str] = {
    "rules": "the rules are the current ones: the ledger keeps the results of each run, not the texts of the rules",
    "waivers": "waivers come from the current settings, and their findings are counted for the mart's own run only",
    "vendor_checks": "checks use the current settings and profiles, for the mart's own run only",
    "internal.vendor_keys": "it lists the vendor checks by key",
}
# The ledger keeps problems row by row, and of everything else the counts (rule_results, compared in full): which resources
# passed in an earlier run is unknown, so only the problems of that run are compared.
ONLY = dict.fromkeys(("findings", "internal.findings_without_history"), " WHERE unwaived_status IN ('fail', 'unknown')")


@dataclass(frozen=True)
class CrawledLedger:
    """A ledger after five runs, and the rows of each view after each of them."""

    settings: Settings
    rows_after: dict[int, dict[str, list[str]]]


def everything(connection: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    histories = ("keys", "aliases", "grants", "resource_keys", "findings", "rule_results")
    names = [*VIEWS, *(f"{name}_history" for name in histories)]
    return {name: sorted(map(str, connection.execute(f"FROM {name}{ONLY.get(name, '')}").fetchall())) for name in names}


@pytest.fixture(scope="module")
def crawled(tmp_path_factory: pytest.TempPathFactory) -> CrawledLedger:
    """Five runs, with a mart after each."""
    folder = tmp_path_factory.mktemp("crawled")
    runs = RandomRuns(f"sqlite:///{folder / 'ledger.db'}", seed=2)
    settings = settings_of(database=runs.world.url, report={"mart": folder / "mart.duckdb", "directory": folder})
    rows_after = {}
    for run_id in RUNS:
        if run_id > 1:
            runs.apply_changes()
        assert runs.world.crawl() == run_id
        refresh(settings)
        with connect(settings.report.mart) as connection:
            rows_after[run_id] = everything(connection)
    return CrawledLedger(settings, rows_after)


@pytest.fixture
def config(crawled: CrawledLedger, tmp_path: Path) -> Path:
    """A settings file for the mart of the five runs."""
    file = tmp_path / "kmsledger.yaml"
    file.write_text(
        f"database: {crawled.settings.database}\nreport:\n  mart: {crawled.settings.report.mart}\n  directory: out\n"
        f"rules: {{disable: {sorted(crawled.settings.rules.disable)}}}\n"
    )
    return file


@pytest.mark.parametrize(("run_id", "stored"), [(1, False), (2, True), (3, False), (4, True), (5, True)])
def test_views_as_of_a_run_equal_those_after_it(crawled: CrawledLedger, run_id: int, *, stored: bool) -> None:
    """Every row of every view, and of the histories, equals the mart built after that run."""
    connection, moment = as_of_connection.connect(crawled.settings.report.mart, str(run_id), stored=stored)
    with connection:
        found = everything(connection)
    assert moment.run_id == run_id
    for name, rows in crawled.rows_after[run_id].items():
        if name not in DIFFERS:
            assert found[name] == rows, name
    assert all(
        crawled.rows_after[run_id]["keys"] != crawled.rows_after[other]["keys"] for other in RUNS if other != run_id
    )


def test_qualified_names_are_as_of_the_run(crawled: CrawledLedger) -> None:
    """A query that names the schema or the catalog does not return current rows."""
    connection, _ = as_of_connection.connect(crawled.settings.report.mart, 1)
    with connection:
        counts = {
            connection.execute(f"SELECT count(*) FROM {name}").fetchone() for name in ("keys", "main.keys", "mart.keys")
        }
        assert counts == {(len(crawled.rows_after[1]["keys"]),)}
        assert connection.execute("SELECT max(valid_from), count(valid_to) FROM internal.key").fetchone() == (1, 0)


@pytest.mark.parametrize(
    ("text", "run_id"),
    [
        ("3", 3),
        ("2026-11-20", 1),
        ("2026-11-21", 2),
        ("2026-11-21T03:03", 1),
        ("2026-11-21 03:04:00Z", 2),
        ("2026-11-21T04:04+01:00", 2),
        ("2026-11-21T03:04+01:00", 1),
        ("2126-01-01", 5),
        (" 5 ", 5),
    ],
)
def test_a_moment_resolves_to_the_latest_run_that_had_ended(crawled: CrawledLedger, text: str, run_id: int) -> None:
    """A date means its end, a time is UTC unless it has an offset, and a future date means the last run."""
    with connect(crawled.settings.report.mart) as connection:
        assert resolve_as_of(moments(connection), text).run_id == run_id


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("9", "there is no run 9 in the ledger: it holds runs 1 to 5"),
        ("20261121", "a date is written 2026-12-24"),
        ("2026-11-19", "no run had ended by 2026-11-19 23:59 UTC: the first is run 1, which ended on 2026-11-20 03:04"),
        ("yesterday", "'yesterday' is neither a run nor a date"),
        ("2026-13-01", "neither a run nor a date"),
        ("-1", "neither a run nor a date"),
        ("", "neither a run nor a date"),
    ],
)
def test_an_invalid_moment_is_wrong_usage(config: Path, text: str, expected: str) -> None:
    """Every command with --as-of rejects a time without a run and lists the existing runs."""
    for command, arguments in (
        (sql_command, ["SELECT 1"]),
        (report_command, []),
        (mart_command, ["--output", "x.duckdb"]),
    ):
        done = CliRunner().invoke(command, [*arguments, "--config", str(config), "--as-of", text])
        assert isinstance(done.exception, QueryError), done.exception
        assert done.exception.exit_code == 2
        assert expected in str(done.exception)
        assert "\n" not in str(done.exception)


def sql(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(sql_command, ["--config", str(config), *arguments], catch_exceptions=False)


def test_sql_reports_the_run_it_answers_for(config: Path) -> None:
    """Only rows go to standard output; the run that a date resolves to goes to standard error."""
    done = sql(config, "--as-of", "2026-11-22", "--format", "csv", "SELECT count(*), max(run_id) FROM keys, runs")
    assert done.stdout.splitlines()[1].endswith(",3")
    assert done.stderr == "as of run 3 (finished 2026-11-22 03:04 UTC)\n"
    assert "run" not in sql(config, "--format", "csv", "SELECT 1").stderr
    assert sql(config, "--as-of", "1", "--tables").exit_code == 0


@pytest.mark.parametrize(
    "query", ["DELETE FROM internal.key", "DELETE FROM whole.internal.key", "SELECT * FROM read_text('/etc/hostname')"]
)
def test_queries_as_of_a_run_are_read_only(config: Path, query: str) -> None:
    """A query as of an earlier run neither writes the mart nor reads anything else."""
    with pytest.raises(UserError):
        sql(config, "--as-of", "2", query)


@pytest.fixture
def reported(config: Path) -> Callable[..., list[str]]:
    def run(*arguments: str) -> list[str]:
        done = CliRunner().invoke(report_command, ["--config", str(config), *arguments], catch_exceptions=False)
        assert done.exit_code == 0
        return [Path(line).name for line in done.stdout.splitlines()]

    return run


def test_a_report_as_of_a_run_names_it(config: Path, reported: Callable[..., list[str]]) -> None:
    """The report names its run, counts the later ones, and does not replace the current reports."""
    assert reported("overview") == ["kmsledger-overview-run5.html", "kmsledger-overview.html"]
    assert reported("overview", "--as-of", "2026-11-21") == ["kmsledger-overview-as-of-run2.html"]
    assert reported("compliance", "--as-of", "2026-11-21") == ["kmsledger-compliance-as-of-run2.html"]
    out = config.parent / "out"
    assert sorted(file.name for file in out.iterdir()) == [
        "kmsledger-compliance-as-of-run2.html",
        "kmsledger-overview-as-of-run2.html",
        "kmsledger-overview-run5.html",
        "kmsledger-overview.html",
    ]
    text = (out / "kmsledger-overview-as-of-run2.html").read_text()
    assert "As of run <b>2</b>, finished <b>2026-11-21 03:04 UTC</b>; 3 later runs exist" in text
    assert "later run" not in (out / "kmsledger-overview.html").read_text()
    assert "later run" not in (out / "kmsledger-overview-run5.html").read_text()


def test_the_mart_command_accepts_a_date(crawled: CrawledLedger, config: Path, tmp_path: Path) -> None:
    """The mart command resolves dates as the other commands do."""
    arguments = ["--config", str(config), "--as-of", "2026-11-22", "--output", str(tmp_path / "old.duckdb")]
    done = CliRunner().invoke(mart_command, arguments, catch_exceptions=False)
    assert done.output.rstrip().endswith("as of run 3")
    with connect(tmp_path / "old.duckdb") as connection:
        found = everything(connection)
    assert {name for name in VIEWS if found[name] != crawled.rows_after[3][name]} <= set(DIFFERS)

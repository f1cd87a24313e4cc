"""As of an earlier run, everything answers as it did that night."""

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

NIGHTS = range(1, 6)
VIEWS = [view.qualified for view in view_loader.views()]
# Views that may answer differently later; nothing else may.
DIFFERS: dict[str, str] = {
    "rules": "the rules are those of today: the ledger keeps the verdicts of each night, not the texts of the rules",
    "waivers": "they are those of today's settings, and what each of them waives is counted for the mart's own run only",
    "vendor_checks": "they go by the settings and profiles of today, and are made for the mart's own run only",
    "vendor_keys": "it is what vendor_checks say, key by key",
}
# The ledger keeps problems row by row, and of everything else the counts (rule_results, compared in full): which resources
# passed on an earlier night cannot be told, so only the problems of that night are compared.
ONLY = dict.fromkeys(("findings", "findings_without_history"), " WHERE unwaived_status IN ('fail', 'unknown')")


@dataclass(frozen=True)
class Lived:
    """A ledger after five nights, and what each view held on the morning after each of them."""

    settings: Settings
    mornings: dict[int, dict[str, list[str]]]


def everything(connection: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    histories = ("keys", "aliases", "grants", "resource_keys", "findings", "rule_results")
    names = [*VIEWS, *(f"{name}_history" for name in histories)]
    return {name: sorted(map(str, connection.execute(f"FROM {name}{ONLY.get(name, '')}").fetchall())) for name in names}


@pytest.fixture(scope="module", params=[1, pytest.param(2, marks=pytest.mark.deep)])
def lived(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Lived:
    """Five nights, with a mart each."""
    folder = tmp_path_factory.mktemp("lived")
    nights = RandomRuns(f"sqlite:///{folder / 'ledger.db'}", request.param)
    settings = settings_of(database=nights.world.url, report={"mart": folder / "mart.duckdb", "directory": folder})
    mornings = {}
    for night in NIGHTS:
        if night > 1:
            nights.apply_changes()
        assert nights.world.crawl() == night
        refresh(settings)
        with connect(settings.report.mart) as connection:
            mornings[night] = everything(connection)
    return Lived(settings, mornings)


@pytest.fixture
def config(lived: Lived, tmp_path: Path) -> Path:
    """A settings file on the five nights' mart."""
    file = tmp_path / "kmsledger.yaml"
    file.write_text(
        f"database: {lived.settings.database}\nreport:\n  mart: {lived.settings.report.mart}\n  directory: out\n"
    )
    return file


@pytest.mark.parametrize(
    ("night", "stored"),
    [
        *((night, False) for night in NIGHTS),
        (2, True),
        *(pytest.param(night, True, marks=pytest.mark.deep) for night in NIGHTS if night != 2),
    ],
)
def test_each_night_is_as_it_was(lived: Lived, night: int, *, stored: bool) -> None:
    """Every row of every view, and of the histories, equals what the mart of that night held."""
    connection, moment = as_of_connection.connect(lived.settings.report.mart, str(night), stored=stored)
    with connection:
        found = everything(connection)
    assert moment.run_id == night
    for name, rows in lived.mornings[night].items():
        if name not in DIFFERS:
            assert found[name] == rows, name
    assert all(lived.mornings[night]["keys"] != lived.mornings[other]["keys"] for other in NIGHTS if other != night)


def test_qualified_names_are_as_of_then_too(lived: Lived) -> None:
    """A query that names schema or catalog is not answered with today's rows."""
    connection, _ = as_of_connection.connect(lived.settings.report.mart, 1)
    with connection:
        counts = {
            connection.execute(f"SELECT count(*) FROM {name}").fetchone() for name in ("keys", "main.keys", "mart.keys")
        }
        assert counts == {(len(lived.mornings[1]["keys"]),)}
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
def test_a_moment_is_a_run_or_the_last_that_had_ended(lived: Lived, text: str, run_id: int) -> None:
    """A date is its end, a time is UTC unless it says otherwise, and the future is the last run."""
    with connect(lived.settings.report.mart) as connection:
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
def test_a_moment_that_nobody_can_mean_is_a_sentence(config: Path, text: str, expected: str) -> None:
    """What there is no run for is wrong usage, said with what there is; every command that takes a moment says it."""
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


def test_sql_says_of_which_run_it_answers(config: Path) -> None:
    """The rows go to standard output alone; the run that a date meant stands beside them."""
    done = sql(config, "--as-of", "2026-11-22", "--format", "csv", "SELECT count(*), max(run_id) FROM keys, runs")
    assert done.stdout.splitlines()[1].endswith(",3")
    assert done.stderr == "as of run 3 (finished 2026-11-22 03:04 UTC)\n"
    assert "run" not in sql(config, "--format", "csv", "SELECT 1").stderr
    assert sql(config, "--as-of", "1", "--tables").exit_code == 0


@pytest.mark.parametrize(
    "query", ["DELETE FROM internal.key", "DELETE FROM whole.internal.key", "SELECT * FROM read_text('/etc/hostname')"]
)
def test_the_past_cannot_be_written_nor_left(config: Path, query: str) -> None:
    """As of an earlier run, too, a query neither writes the mart nor reads anything else."""
    with pytest.raises(UserError):
        sql(config, "--as-of", "2", query)


@pytest.fixture
def reported(config: Path) -> Callable[..., list[str]]:
    def run(*arguments: str) -> list[str]:
        done = CliRunner().invoke(report_command, ["--config", str(config), *arguments], catch_exceptions=False)
        assert done.exit_code == 0
        return [Path(line).name for line in done.stdout.splitlines()]

    return run


def test_a_report_of_the_past_says_so(config: Path, reported: Callable[..., list[str]]) -> None:
    """It is about that run, says how many there are since, and leaves the reports of the nights alone."""
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


def test_a_mart_takes_a_date(lived: Lived, config: Path, tmp_path: Path) -> None:
    """The command mart resolves dates as the others do."""
    arguments = ["--config", str(config), "--as-of", "2026-11-22", "--output", str(tmp_path / "old.duckdb")]
    done = CliRunner().invoke(mart_command, arguments, catch_exceptions=False)
    assert done.output.rstrip().endswith("as of run 3")
    with connect(tmp_path / "old.duckdb") as connection:
        found = everything(connection)
    assert {name for name in VIEWS if found[name] != lived.mornings[3][name]} <= set(DIFFERS)

"""The commands sql and mart, as a user runs them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from models.errors import UserError
from models.settings import Settings
from reports.commands import mart as mart_command
from reports.commands import sql as sql_command
from reports.mart.output import write_table
from tests.reports.ledger import HOSTILE, PAYMENTS


def sql(mart: Path, *arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(sql_command, ["--mart", str(mart), *arguments], input=stdin)


def test_csv_is_whole_and_harmless(sample_mart: Path) -> None:
    """CSV has every row, account ids with their zeros as quoted texts, and no text that is a formula."""
    tags = sql(sample_mart, "--format", "csv", "SELECT account_id, tag_key, tag_value FROM key_tags ORDER BY ALL")
    assert f'"{PAYMENTS}"' in tags.output
    rows = list(csv.reader(io.StringIO(tags.output)))
    assert ["111122223333", "'=1+1", HOSTILE] in rows
    assert ["111122223333", "Owner", "'+49 30 1234"] in rows
    many = sql(sample_mart, "--format", "csv", "SELECT * FROM range(2500)")
    assert len(many.output.splitlines()) == 2501
    values = sql(sample_mart, "--format", "csv", "SELECT -5, '-5', NULL, true, ['a'], TIMESTAMP '2026-01-02 03:04:05'")
    assert values.output.splitlines()[1] == '-5,"\'-5","","true","[""a""]","2026-01-02 03:04:05"'


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", "\tx", "\rx", "\nx"])
def test_no_text_begins_a_formula(text: str, sample_mart: Path) -> None:
    """Each sign that a spreadsheet takes for a formula's begin is defused, in headings too."""
    code = " || ".join(f"chr({ord(character)})" for character in text)
    result = sql(sample_mart, "--format", "csv", f'SELECT {code} AS "=evil"')
    assert next(csv.reader(io.StringIO(result.output))) == ["'=evil"]
    assert f"'{text}" in result.output.replace("\n\n", "\n")


def test_json_is_one_array(sample_mart: Path) -> None:
    """JSON is one array of objects with ISO times in UTC, lists, maps and nulls; columns of one name stay apart."""
    result = sql(
        sample_mart,
        "--format",
        "json",
        "SELECT account_id, since, unknown, tags, grants, 1 AS a, 2 AS a FROM keys WHERE key_id LIKE '%11' OR alias = "
        "'alias/payments' ORDER BY account_id",
    )
    payments, locked = json.loads(result.output)
    assert payments["account_id"] == PAYMENTS
    assert payments["since"] == "2026-11-21T03:00:00Z"
    assert (payments["tags"], payments["a"], payments["a_2"]) == ({"Owner": "payments"}, 1, 2)
    assert (locked["tags"], locked["grants"], len(locked["unknown"])) == (None, None, 4)
    assert json.loads(sql(sample_mart, "--format", "json", "SELECT * FROM keys WHERE false").output) == []


def test_a_table_says_what_it_leaves_out(sample_mart: Path) -> None:
    """A table stops at the limit and says how many rows there are more; without a limit all are shown."""
    limited = sql(sample_mart, "--limit", "2", "SELECT * FROM range(10)").output
    assert limited.splitlines()[-1].startswith("… 8 more rows")
    assert "more" not in sql(sample_mart, "--limit", "0", "SELECT * FROM range(1500)").output


def test_hostile_text_does_not_reach_the_terminal(sample_mart: Path) -> None:
    """Control characters and direction marks are shown, not obeyed; markup is text."""
    output = sql(sample_mart, "SELECT chr(27) || '[31mred' || chr(8238) || chr(10) || '[bold]x' AS a").output
    assert "\\x1b[31mred\\u202e\\n[bold]x" in output
    out = io.StringIO()
    write_table(out, ["a"], [("[bold]x\x1b[0m",)], 10, width=80)
    assert "[bold]x\\x1b[0m" in out.getvalue()


def test_wide_rows_stay_readable() -> None:
    """In a terminal long values are folded without loss, and rows of many columns become records."""
    out = io.StringIO()
    write_table(out, ["a", "b"], [("x" * 150, "y")], 10, width=60)
    assert out.getvalue().count("x") == 150
    assert max(map(len, out.getvalue().splitlines())) <= 60
    out = io.StringIO()
    write_table(out, [f"c{number}" for number in range(20)], [tuple(f"value {n}" for n in range(20))], 10, width=80)
    assert "-- row 1" in out.getvalue()
    assert "c19  value 19" in out.getvalue()


def test_a_query_from_standard_input(sample_mart: Path) -> None:
    """A hyphen reads the query from standard input."""
    assert "13" in sql(sample_mart, "-", stdin="SELECT count(*) AS keys\nFROM keys;").output


def test_the_views_are_listed_with_their_columns(sample_mart: Path) -> None:
    """--tables lists every view and column with its meaning, in every format."""
    text = sql(sample_mart, "--tables").output
    assert "keys: The keys of the organization." in text
    assert "  rotation (VARCHAR): on, off or not_applicable; empty when not known." in text
    listed = json.loads(sql(sample_mart, "--tables", "--format", "json").output)
    assert {row["view"] for row in listed} >= {"keys", "changes", "coverage", "grants_history"}
    assert all(row["description"] for row in listed)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT nothing FROM keys", "nothing"),
        ("SELEC 1", "syntax error"),
        ("SELECT * FROM read_csv('/etc/passwd')", "Permission"),
        ("DELETE FROM ledger.key", "read-only"),
        ("SELECT CAST('x' AS INTEGER)", "Could not convert"),
        (" ;", "no SQL"),
    ],
)
def test_errors_are_one_sentence_and_exit_code_2(query: str, expected: str, sample_mart: Path) -> None:
    """What DuckDB refuses is one sentence, and the exit code that of wrong usage."""
    error = sql(sample_mart, query).exception
    assert isinstance(error, UserError)
    assert error.exit_code == 2
    assert expected in str(error)
    assert "\n" not in str(error)


def test_without_a_mart_the_user_is_told_what_to_run(tmp_path: Path) -> None:
    """A missing mart says to crawl; neither query nor --tables is a usage error."""
    error = sql(tmp_path / "none.duckdb", "SELECT 1").exception
    assert "kmsledger crawl" in str(error)
    assert sql(tmp_path / "none.duckdb").exit_code == 2
    assert sql(tmp_path / "none.duckdb", "--tables", "SELECT 1").exit_code == 2


def test_the_mart_is_rebuilt_by_command(sample_settings: Settings, tmp_path: Path) -> None:
    """The command mart rebuilds with the rules' verdicts, or as of an earlier run into another file."""
    config = tmp_path / "kmsledger.yaml"
    config.write_text(f"database: {sample_settings.database}\nreport:\n  mart: mine.duckdb\n", encoding="utf-8")
    latest = CliRunner().invoke(mart_command, ["--config", str(config)])
    assert latest.exception is None
    assert "13 keys and 35 findings as of run 3" in latest.output
    older = ["--config", str(config), "--as-of", "1", "--out", str(tmp_path / "old.duckdb")]
    assert "12 keys" in CliRunner().invoke(mart_command, older).output
    query = ["--config", str(config), "--format", "csv", "SELECT max(run_id) FROM runs"]
    assert CliRunner().invoke(sql_command, query).output.splitlines()[1] == "3"
    assert sql(tmp_path / "old.duckdb", "--format", "csv", "SELECT max(run_id) FROM runs").output.splitlines()[1] == "1"

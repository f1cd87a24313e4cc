"""The commands sql and mart, as a user runs them."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner, Result

from models.errors import UserError
from models.settings import Settings
from reports.cli import mart as mart_command
from reports.mart.cli import sql as sql_command
from reports.mart.result_writers import write_table
from tests.reports.sample_ledger import HOSTILE, PAYMENTS


def sql(mart: Path, *arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(sql_command, ["--mart", str(mart), *arguments], input=stdin)


def test_csv_is_whole_and_harmless(sample_mart: Path) -> None:
    """CSV has every row, account ids with their zeros as quoted text, and no text that is a formula."""
    tags = sql(sample_mart, "--format", "csv", "SELECT account_id, tag_key, tag_value FROM key_tags ORDER BY ALL")
    assert f'"{PAYMENTS}"' in tags.output
    rows = list(csv.reader(io.StringIO(tags.output)))
    assert ["111122223333", "'=1+1", HOSTILE] in rows
    assert ["111122223333", "Owner", "'+49 30 1234"] in rows
    many = sql(sample_mart, "--format", "csv", "SELECT * FROM range(2500)")
    assert len(many.output.splitlines()) == 2501
    values = sql(sample_mart, "--format", "csv", "SELECT -5, '-5', NULL, true, ['a'], TIMESTAMP '2026-01-02 03:04:05'")
    assert values.output.splitlines()[1] == '-5,"\'-5","","true","[""a""]","2026-01-02 03:04:05"'


@pytest.mark.parametrize(
    ("text", "written"),
    [
        *((text, f"'{text}") for text in ("=1", "+1", "-1", "@x", "\tx", "\nx", "=\n+1")),
        ("\rx", "\\rx"),
        ("a\x1b[2J\x9b\u202e\x7f", "a\\x1b[2J\\x9b\\u202e\\x7f"),
        ("\x1b=1", "\\x1b=1"),
        ("d\u00e9j\u00e0 vu\n\tb", "d\u00e9j\u00e0 vu\n\tb"),
    ],
)
def test_no_text_begins_a_formula_or_controls_a_terminal(text: str, written: str, sample_mart: Path) -> None:
    """Each character that starts a formula, moves the cursor or changes the direction of text is escaped, also in headings."""
    code = " || ".join(f"chr({ord(character)})" for character in text)
    result = sql(sample_mart, "--format", "csv", f'SELECT {code} AS "=ev\x1bil"')
    assert list(csv.reader(io.StringIO(result.output))) == [["'=ev\\x1bil"], [written]]


def test_json_is_one_array(sample_mart: Path) -> None:
    """JSON is one array of objects with ISO times in UTC, lists, maps and nulls; columns with the same name stay distinct."""
    result = sql(
        sample_mart,
        "--format",
        "json",
        "SELECT account_id, current_version_since, denied_actions, tags, grants, 1 AS a, 2 AS a FROM keys "
        "WHERE key_id LIKE '%11' OR alias = "
        "'alias/payments' ORDER BY account_id",
    )
    payments, locked = json.loads(result.output)
    assert payments["account_id"] == PAYMENTS
    assert payments["current_version_since"] == "2026-11-21T03:00:00Z"
    assert (payments["tags"], payments["a"], payments["a_2"]) == ({"Owner": "payments"}, 1, 2)
    assert (locked["tags"], locked["grants"], len(locked["denied_actions"])) == (None, None, 4)
    assert json.loads(sql(sample_mart, "--format", "json", "SELECT * FROM keys WHERE false").output) == []


def test_a_table_says_what_it_leaves_out(sample_mart: Path) -> None:
    """A table stops at the limit and shows the number of further rows; without a limit it has all rows."""
    limited = sql(sample_mart, "--limit", "2", "SELECT * FROM range(10)").output
    assert limited.splitlines()[-1].startswith("… 8 more rows")
    assert "more" not in sql(sample_mart, "--limit", "0", "SELECT * FROM range(1500)").output


def test_hostile_text_does_not_reach_the_terminal(sample_mart: Path) -> None:
    """Control and bidirectional characters are shown as escapes; markup is text."""
    output = sql(sample_mart, "SELECT chr(27) || '[31mred' || chr(8238) || chr(10) || '[bold]x' AS a").output
    assert "\\x1b[31mred\\u202e\\n[bold]x" in output
    out = io.StringIO()
    write_table(out, ["a"], [("[bold]x\x1b[0m",)], 10, width=80)
    assert "[bold]x\\x1b[0m" in out.getvalue()


def test_wide_rows_stay_readable() -> None:
    """In a terminal, long values are wrapped without loss, and rows of many columns become records."""
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
    assert "  rotation_status (VARCHAR): enabled, disabled or not_applicable" in text
    listed = json.loads(sql(sample_mart, "--tables", "--format", "json").output)
    assert {row["view"] for row in listed} >= {"keys", "changes", "coverage", "grants_history"}
    assert all(row["description"] for row in listed)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT nothing FROM keys", "nothing"),
        ("SELEC 1", "syntax error"),
        ("SELECT CAST('x' AS INTEGER)", "Could not convert"),
        (" ;", "no SQL"),
    ],
)
def test_errors_are_one_sentence_and_exit_code_2(query: str, expected: str, sample_mart: Path) -> None:
    """An error of DuckDB is one sentence, with the exit code of a usage error."""
    error = sql(sample_mart, query).exception
    assert isinstance(error, UserError)
    assert error.exit_code == 2
    assert expected in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    "query",
    [
        "FROM runs",
        "WITH a AS (SELECT 1 AS b) SELECT * FROM a",
        "VALUES (1);",
        "DESCRIBE keys",
        "SHOW TABLES",
        "SUMMARIZE runs",
        "EXPLAIN SELECT * FROM keys",
        "PIVOT runs ON status USING count(*)",
        "SELECT ';' AS a; -- a comment; at the end",
    ],
)
def test_every_kind_of_question(query: str, sample_mart: Path) -> None:
    """All kinds of queries of DuckDB are accepted."""
    done = sql(sample_mart, "--format", "jsonl", query)
    assert done.exception is None
    assert done.output


def test_a_query_over_its_memory_is_stopped_or_spills(sample_mart: Path, tmp_path: Path) -> None:
    """Beyond --memory-limit a query ends with one sentence and exit code 4, or uses the directory that --temp-directory names."""
    large = "SELECT max(i) FROM (SELECT * FROM range(6000000) r(i) ORDER BY hash(i) LIMIT 5500000)"
    few = ["--memory-limit", "64MB", "--format", "csv"]
    error = sql(sample_mart, *few, large).exception
    assert isinstance(error, UserError)
    assert error.exit_code == 4
    assert "--memory-limit" in str(error)
    assert sql(sample_mart, *few, "--temp-directory", str(tmp_path), large).exception is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", ["a lot", "4", "-1", "80%", "none", "4 PB"])
def test_a_memory_limit_is_a_size(sample_mart: Path, size: str) -> None:
    """A --memory-limit without a unit, or one that would mean no limit, is a usage error."""
    done = sql(sample_mart, "--memory-limit", size, "SELECT 1")
    assert done.exit_code == 2
    assert "is not a size of memory: write 500MB or 4GB" in done.stderr


@pytest.mark.parametrize("seconds", ["inf", "nan", "-1", "0", "1e12", "soon"])
def test_a_timeout_is_a_finite_number_of_seconds(sample_mart: Path, seconds: str) -> None:
    """A --timeout that is not a positive number of seconds, at most a year, is a usage error."""
    done = sql(sample_mart, "--timeout", seconds, "SELECT 1")
    assert done.exit_code == 2
    assert "Invalid value for '--timeout'" in done.stderr


def test_a_statement_without_a_name_is_rejected(sample_mart: Path) -> None:
    """A statement whose kind DuckDB's Python client does not know is rejected like any other that is not a query."""
    error = sql(sample_mart, "UPDATE EXTENSIONS").exception
    assert isinstance(error, UserError)
    assert error.exit_code == 2
    assert "is not a query, and the mart is read-only" in str(error)


def test_large_answers_are_streamed(sample_mart: Path) -> None:
    """The first of a hundred million rows arrive immediately, and reading on needs no more memory."""
    program = (
        "import resource, sys, pathlib; from reports.mart.query import run; from itertools import islice\n"
        "from reports.mart.connection import connect\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
        "_, rows = run(connect(pathlib.Path(sys.argv[1])), \"SELECT i, repeat('x', 100) || i AS t FROM range(100000000) r(i)\")\n"
        "next(rows); before = peak(); read = sum(1 for _ in islice(rows, 1000000)); print(read, peak() - before)"
    )
    command = [sys.executable, "-c", program, str(sample_mart)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=60, cwd=Path(__file__).parents[3]
    )
    read, grown = map(int, done.stdout.split())
    assert read == 1_000_000
    assert grown < 40


def test_a_query_from_a_file_into_a_file(sample_mart: Path, tmp_path: Path) -> None:
    """--file reads the query, --output is written completely or not at all, in every format."""
    query = tmp_path / "query.sql"
    query.write_text("-- how many\nSELECT count(*) AS keys, 'ä' AS text FROM keys; -- end\n", encoding="utf-8")
    written = {}
    for form in ("csv", "json", "jsonl", "table", "parquet"):
        path = tmp_path / f"an 'odd' * name.{form}"
        path.write_text("old", encoding="utf-8")
        done = sql(sample_mart, "--file", str(query), "--format", form, "--output", str(path))
        assert done.exception is None, done.exception
        assert done.output == ""
        written[form] = path.read_bytes()
    assert written["csv"].decode() == '"keys","text"\n13,"ä"\n'
    assert json.loads(written["json"]) == [json.loads(written["jsonl"])] == [{"keys": 13, "text": "ä"}]
    relation = duckdb.read_parquet(str(tmp_path / "an 'odd' [*] name.parquet"))
    assert relation.fetchall() == [(13, "ä")]
    failed = sql(sample_mart, "--output", str(tmp_path / "an 'odd' * name.csv"), "SELECT error('no')")
    assert failed.exception is not None
    assert (tmp_path / "an 'odd' * name.csv").read_bytes() == written["csv"]
    assert len(list(tmp_path.iterdir())) == 6
    missing = sql(sample_mart, "--output", str(tmp_path / "none" / "a.csv"), "SELECT 1").exception
    assert "cannot be written" in str(missing)
    assert sql(sample_mart, "--format", "parquet", "SELECT 1").exit_code == 2
    assert sql(sample_mart, "--file", str(query), "SELECT 1").exit_code == 2


def test_without_a_mart_the_user_is_told_what_to_run(tmp_path: Path) -> None:
    """The error for a missing mart says to crawl; a missing query, or a query with --tables, is a usage error."""
    error = sql(tmp_path / "none.duckdb", "SELECT 1").exception
    assert "kmsledger crawl" in str(error)
    assert sql(tmp_path / "none.duckdb").exit_code == 2
    assert sql(tmp_path / "none.duckdb", "--tables", "SELECT 1").exit_code == 2


def test_the_mart_is_rebuilt_by_command(sample_settings: Settings, tmp_path: Path) -> None:
    """The command mart rebuilds with the findings of the rules, or as of an earlier run into another file."""
    config = tmp_path / "kmsledger.yaml"
    config.write_text(f"database: {sample_settings.database}\nreport:\n  mart: mine.duckdb\n", encoding="utf-8")
    latest = CliRunner().invoke(mart_command, ["--config", str(config)])
    assert latest.exception is None
    assert re.search(r"13 keys and [1-9][0-9]* rule results as of run 3", latest.output)
    older = ["--config", str(config), "--as-of", "1", "--output", str(tmp_path / "old.duckdb")]
    assert "12 keys" in CliRunner().invoke(mart_command, older).output
    query = ["--config", str(config), "--format", "csv", "SELECT max(run_id) FROM runs"]
    assert CliRunner().invoke(sql_command, query).output.splitlines()[1] == "3"
    assert sql(tmp_path / "old.duckdb", "--format", "csv", "SELECT max(run_id) FROM runs").output.splitlines()[1] == "1"

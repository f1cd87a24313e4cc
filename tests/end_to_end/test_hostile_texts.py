"""Hostile texts in every column that AWS fills: nothing runs, no layout breaks, no control character leaves the program."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import os
import re
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from sqlalchemy import Boolean, Column, Connection, Integer, LargeBinary, Table, insert, select, text, update

from models.settings import Settings
from models.store.engine import connect
from models.tables import versioned_tables
from models.types import UtcDateTime
from reports.html.registry import find, write
from reports.html.summary import summary
from reports.mart.connection import connect as connect_mart
from reports.notify.message import compose
from reports.pipeline import refresh
from tests.made_once import made_once
from tests.reports.html.page import read
from tests.reports.html.test_browser import REACHABLE, WIDTHS, Open, Trap, at_widths, browse, trap
from tests.reports.ledger_builder import settings_of
from tests.reports.sample_ledger import IRELAND, SHOP, sample_ledger

pytestmark = [
    pytest.mark.deep,
    pytest.mark.skipif(os.environ.get("KMSLEDGER_NO_BROWSER") == "1", reason="KMSLEDGER_NO_BROWSER=1: no browser"),
]
__all__ = ["browse", "trap"]

PAYLOADS = (
    "</script><script>document.title='owned'</script><img src=http://probe.example/x onerror=document.title='owned'>",
    "{{ 7 * 7 }}{% include '/etc/passwd' %}{# #}${7*7}",
    "=cmd|' /C calc'!A0",
    "+1-1@SUM(A1)",
    "\x1b]0;owned\x07\x1b[2J\x9b31m\x7f\r\n\t\x00".replace("\x00", ""),
    "invoice\u202egnp.exe\u2066\u200b\u2028\ufeff",
    "x" * 10_000,
    "\U0001f510\U0001f469\u200d\U0001f4bb e\u0301\u0301\u0301",
    "'; rm -rf $(id) `id` \"\\",
    "javascript:alert(1)//https://probe.example/",
)
DERIVED = {"finding", "rule_result", "key_analysis"}
"""Tables that kmsledger fills itself."""
OURS = {
    *("account_id", "region", "listing_region", "target_account", "target_region", "home_region", "replica_region"),
    *(
        "key_id",
        "target_key_id",
        "service",
        "subject",
        "action",
        "cause",
        "declared_class",
        "key_class",
        "role",
        "format",
    ),
    *("outcome", "selection", "org_unit_id", "resource_type", "ou_ids"),
}
"""Columns with validated identifiers, or with words of the crawler."""
DOCUMENTS = {"operations", "constraints", "details", "algorithms", "selectors", "replica_arns"}
"""Columns with JSON that the crawler writes; their strings come from AWS."""
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Characters that move the cursor of a terminal or change the direction of its text; not line feed and tab."""


def is_free(column: Column[object]) -> bool:
    """Whether AWS decides the text of the column."""
    plain = not isinstance(column.type, Boolean | Integer | LargeBinary | UtcDateTime)
    return plain and column.name not in OURS | DOCUMENTS and not column.name.endswith("arn")


def tables() -> list[Table]:
    """The tables with facts from AWS."""
    return [
        mapped.__table__
        for mapped in versioned_tables().values()
        if isinstance(mapped.__table__, Table) and mapped.__table__.name not in DERIVED
    ]


def row_of(table: Table) -> dict[str, object]:
    """A row for a table that the sample organization leaves empty."""
    values: dict[str, object] = {}
    for column in table.columns:
        if column.name in {"version_id", "valid_to"}:
            continue
        if isinstance(column.type, UtcDateTime):
            values[column.name] = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)
        elif isinstance(column.type, Boolean | Integer):
            values[column.name] = 1
        elif isinstance(column.type, LargeBinary):
            values[column.name] = b"0" * 16
        elif column.name == "account_id":
            values[column.name] = SHOP
        elif column.name.endswith("region"):
            values[column.name] = IRELAND
        elif column.name == "key_arn":
            values[column.name] = f"arn:aws:kms:{IRELAND}:{SHOP}:key/00000000-0000-4000-8000-000000000001"
        elif column.name.endswith("arn"):
            values[column.name] = f"arn:aws:iam::{SHOP}:role/example"
        else:
            values[column.name] = "[]" if column.name in DOCUMENTS else "text"
    return values


def make_hostile(connection: Connection) -> int:
    """Replace the texts of all free columns by hostile ones; returns the number of columns."""
    columns = 0
    for table in tables():
        if connection.execute(select(table).limit(1)).first() is None:
            connection.execute(insert(table), row_of(table))
        for number, column in enumerate(filter(is_free, table.columns)):
            columns += 1
            rows = connection.scalars(select(table.c.version_id).where(column.is_not(None))).all()
            for version in rows or connection.scalars(select(table.c.version_id)).all():
                hostile = f"{PAYLOADS[(version + number) % len(PAYLOADS)]}{version}"
                connection.execute(update(table).where(table.c.version_id == version).values({column.name: hostile}))
    policies = connection.execute(text("SELECT policy_hash, received FROM policy_document")).all()
    for number, (digest, received) in enumerate(policies):
        if '"Statement"' not in received:
            continue  # a policy that cannot be parsed
        document = json.loads(received)
        for position, statement in enumerate(document["Statement"]):
            statement["Sid"] = PAYLOADS[(number + position) % len(PAYLOADS)]
            statement["Condition"] = {"StringLike": {"aws:PrincipalTag/" + PAYLOADS[number % 4]: [*PAYLOADS]}}
        parameters = {"text": json.dumps(document), "digest": digest}
        connection.execute(
            text("UPDATE policy_document SET received = :text, canonical = :text WHERE policy_hash = :digest"),
            parameters,
        )
    return columns


def settings_in(folder: Path) -> Settings:
    """The settings of the hostile organization."""
    return settings_of(
        database=f"sqlite:///{folder / 'ledger.db'}",
        report={"mart": folder / "mart.duckdb", "directory": folder / "out"},
        owners=[{"account": [SHOP], "owner": "security"}],
        mail={"host": "localhost", "sender": "from@example.org", "recipients": ["to@example.org"]},
    )


def make_organization(folder: Path) -> None:
    """Write the ledger with hostile texts and its mart."""
    folder.mkdir()
    engine = connect(sample_ledger(folder / "ledger.db"))
    with engine.begin() as connection:
        assert make_hostile(connection) >= 69
    engine.dispose()
    refresh(settings_in(folder))


@pytest.fixture(scope="session")
def hostile(shared_directory: Path) -> Settings:
    """The settings of an organization whose texts are all hostile; do not write to its files."""
    return settings_in(made_once(shared_directory / "hostile-texts", make_organization))


@pytest.fixture(scope="session")
def config(hostile: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A settings file for commands."""
    file = tmp_path_factory.mktemp("config") / "kmsledger.yaml"
    file.write_text(f"database: {hostile.database}\nreport:\n  mart: {hostile.report.mart}\n", encoding="utf-8")
    return file


KEY = f"arn:aws:kms:{IRELAND}:{SHOP}:key/00000000-0000-4000-8000-000000000001"


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        ("overview", None),
        ("compliance", None),
        ("changes", None),
        ("account", SHOP),
        ("ou", "/"),
        ("owner", "security"),
        ("vendor", "Checkmarx"),
        ("key", KEY),
    ],
)
def test_reports_stay_inert_and_legible(
    hostile: Settings, tmp_path: Path, browse: Open, trap: Trap, *, name: str, subject: str | None
) -> None:
    """In the browser, no script of a text runs, no request leaves the page, and every column can be reached at all widths."""
    written = write([find(name, subject)], hostile.report.mart, tmp_path / "out", hostile, subject=subject)
    dom = browse(written[0], "")
    assert dom.one("head").one("title").text.startswith("KMS ledger: ")
    assert not list(dom.all("img"))
    found = at_widths(browse, written[0], tmp_path, REACHABLE)
    assert sorted(found) == sorted(WIDTHS)
    assert {width: result["clipped"] for width, result in found.items() if result["clipped"]} == {}
    assert [width for width, result in found.items() if result["wide"]] == []
    assert trap.requests == trap.console == []


def test_mail_stays_inert(hostile: Settings) -> None:
    """The mail has no element and no header that a text of AWS makes."""
    assert hostile.mail is not None
    with connect_mart(hostile.report.mart) as mart:
        message = compose(summary(mart, hostile), hostile.mail, recipient="to@example.org", attachments=())
    assert not CONTROL.search(str(message["Subject"]))
    html = message.get_body(("html",))
    plain = message.get_body(("plain",))
    assert html is not None
    assert plain is not None
    page = read(html.get_content())
    assert not [*page.all("script"), *page.all("img"), *page.all("iframe")]
    assert len(html.get_content().encode()) <= 102 * 1024
    assert not CONTROL.search(plain.get_content())


COMMANDS = (
    ("findings", "--limit", "0"),
    ("who-can", "decrypt", KEY),
    ("what-can", SHOP),
    ("history", KEY),
    ("diff", "--from", "1", "--to", "3"),
    ("vendors",),
    ("denials",),
    ("rules", "run", "key-rotation"),
    ("cookbook", "external-access"),
    ("history", PAYLOADS[4]),
    ("who-can", "decrypt", PAYLOADS[5]),
    ("rules", "show", PAYLOADS[4]),
)


Run = Callable[..., str]


@pytest.fixture
def run(config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command as the console program; returns what it writes to standard output and standard error."""
    (program,) = entry_points(group="console_scripts", name="kmsledger")

    def run(*command: str) -> str:
        monkeypatch.setattr(sys, "argv", ["kmsledger", *command, "--config", str(config)])
        with pytest.raises(SystemExit):
            program.load()()
        done = capsys.readouterr()
        return done.out + done.err

    return run


@pytest.mark.parametrize(
    "command", COMMANDS, ids=lambda command: " ".join(command)[:30].encode("unicode_escape").decode()
)
def test_commands_print_no_control_characters(run: Run, command: tuple[str, ...]) -> None:
    """Whatever AWS or a user calls something, a terminal receives printable lines, in tables, JSON and error sentences."""
    assert [line for line in run(*command).split("\n") if not line.isprintable()] == []
    assert not CONTROL.search(run(*command, "--format", "json"))


def test_every_view_is_printed_and_exported_safely(hostile: Settings, run: Run) -> None:
    """All views as table, CSV and JSON: no control characters, no formulas, and valid JSON."""
    query = (
        "SELECT view_name FROM duckdb_views() WHERE schema_name = 'main' AND NOT internal AND database_name = 'mart'"
    )
    with connect_mart(hostile.report.mart) as mart:
        views = [name for (name,) in mart.execute(query).fetchall()]
    assert len(views) > 40
    for view in views:
        select_some = ("sql", f'FROM "{view}" LIMIT 200')
        assert [line for line in run(*select_some, "--limit", "0").split("\n") if not line.isprintable()] == [], view
        written = run(*select_some, "--format", "csv")
        assert not CONTROL.search(written), view
        cells = [cell for row in csv.reader(io.StringIO(written)) for cell in row]
        assert not [cell for cell in cells if re.match(r"[=+@\t\r\n]|-(?![0-9])", cell)], view
        encoded = run(*select_some, "--format", "json")
        assert not CONTROL.search(encoded), view
        json.loads(encoded)


@pytest.mark.parametrize("export_format", ["ocsf", "asff", "sarif", "csv", "jsonl"])
def test_exports_carry_no_control_characters(run: Run, export_format: str) -> None:
    """Exports for other tools carry control characters as escapes only."""
    written = run("export", "findings", "--format", export_format, "--status", "all")
    assert len(written) > 1000
    assert not CONTROL.search(written)


def test_the_sample_would_fail_an_unsafe_writer(hostile: Settings) -> None:
    """The mart holds every payload, so the tests above are conclusive."""
    with connect_mart(hostile.report.mart) as mart:
        rows = mart.execute(
            "SELECT name FROM resources UNION SELECT description FROM keys UNION SELECT alias_name FROM aliases"
        )
        texts = "".join(str(value) for (value,) in rows.fetchall())
    assert CONTROL.search(texts)
    assert "<script>" in texts

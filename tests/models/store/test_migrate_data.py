"""Copying a ledger between engines: every row is identical, or nothing is copied and the error gives the reason."""

from __future__ import annotations

import datetime as dt
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import (
    Boolean,
    Column,
    Engine,
    Integer,
    LargeBinary,
    Table,
    Text,
    create_engine,
    insert,
    select,
    text,
    update,
)

from models.cli import db
from models.store import crawl_lock
from models.store import migrate_data as copying
from models.store.engine import DatabaseError, connect
from models.store.migrate_data import Copied, CopyError, DifferentError, copy
from models.store.scd2_merge import Batch, merge
from models.tables.keys import Key, PolicyDocument
from models.tables.organization import Account
from models.tables.runs import Run, RunStatus
from models.types import UtcDateTime

HOSTILE = (
    "",
    "\\N",
    "\\.",
    "tab\tnewline\nreturn\rbackspace\b backslash \\ \\t \\x41",
    "'; DROP TABLE run; --\" $$ %s ? :name {}",
    "\ufeff\u202eright to left\u2066 🔑 e\u0301 \uffff \x01\x7f\x85\u2028",
    "ÀÉ ß \u0131 I i \ufb00",
    "NULL",
)
BIG = json.dumps({"Statement": [{"Sid": f"S{number}", "Resource": "*"} for number in range(40_000)]})
TIMES = (
    dt.datetime(1970, 1, 1, tzinfo=dt.UTC),
    dt.datetime(2026, 3, 29, 2, 30, 0, 1, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=30))),
    dt.datetime(2026, 10, 25, 0, 59, 59, 999_999, tzinfo=dt.timezone(-dt.timedelta(hours=8))),
    dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC),
)
ROWS = 12


def value(column: Column[Any], row: int) -> Any:
    """A different, difficult value for each row; NULL in every fourth row of a nullable column."""
    if column.nullable and row % 4 == 3:
        return None
    if column.foreign_keys:
        return row + 1
    if isinstance(column.type, UtcDateTime):
        return TIMES[row % len(TIMES)]
    if isinstance(column.type, Boolean):
        return row % 2 == 0
    if isinstance(column.type, LargeBinary):
        return bytes([row]) + bytes(range(240, 255))
    if isinstance(column.type, Text):
        return f"{HOSTILE[row % len(HOSTILE)]}{row if row >= len(HOSTILE) or not column.nullable else ''}"
    assert isinstance(column.type, Integer)
    return row + 1 if column.primary_key else row * 178_956_970


def fill(url: str) -> None:
    """Insert rows into all tables, with gaps between the IDs."""
    engine = connect(url)
    with engine.begin() as connection:
        for table in copying.tables():
            rows = [{column.name: value(column, row) for column in table.columns} for row in range(ROWS) if row != 5]
            if table.name == "run":
                rows.append(rows[-1] | {"run_id": 6})
            connection.execute(insert(table), rows)
        connection.execute(insert(PolicyDocument).values(policy_hash=b"b" * 16, canonical=BIG, received=BIG))
    engine.dispose()


def everything(url: str) -> dict[str, list[tuple[Any, ...]]]:
    engine = connect(url)
    with engine.connect() as connection:
        rows = {
            table.name: sorted((tuple(row) for row in connection.execute(select(table))), key=repr)
            for table in copying.tables()
        }
    engine.dispose()
    return rows


def stored(url: str, table: Table) -> list[tuple[Any, ...]]:
    """The values of a table below its column types."""
    engine = create_engine(url)
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(f'SELECT * FROM "{table.name}"').all()
    engine.dispose()
    return sorted((tuple(row) for row in rows), key=repr)


def new_file(path: Path) -> str:
    return f"sqlite:///{path}"


def test_a_round_trip_changes_nothing(
    sqlite_url: str, postgresql_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite to PostgreSQL and back: all rows and stored values are equal, with hostile texts, time zones and long JSON."""
    monkeypatch.setattr(copying, "CHUNK", 5)
    fill(sqlite_url)
    sent = everything(sqlite_url)
    assert min(map(len, sent.values())) >= ROWS - 1
    there = copy(sqlite_url, postgresql_url)
    assert everything(postgresql_url) == sent
    back = new_file(tmp_path / "back.db")
    assert copy(postgresql_url, back) == there
    assert everything(back) == sent
    for table in copying.tables():
        assert stored(back, table) == stored(sqlite_url, table)
    assert everything(sqlite_url) == sent
    assert {table.table: table.rows for table in there} == {name: len(rows) for name, rows in sent.items()}


@pytest.fixture
def source(tmp_path: Path, sqlite_template: Path) -> str:
    """An empty ledger in another SQLite file than ``sqlite_url``."""
    return new_file(Path(shutil.copyfile(sqlite_template, tmp_path / "source.db")))


def test_the_copy_continues_the_sequences(source: str, ledger_url: str) -> None:
    """New runs and versions in the copy get new IDs, in tables with and without rows."""
    engine = connect(source)
    with engine.begin() as connection:
        run = {"started_at": TIMES[0], "status": RunStatus.COMPLETE, "version": "1"}
        connection.execute(insert(Run), [run | {"run_id": 41}, run | {"run_id": 7}])
    engine.dispose()
    copy(source, ledger_url)
    engine = connect(ledger_url)
    with engine.begin() as connection:
        assert connection.execute(insert(Run).values(run).returning(Run.run_id)).scalar_one() == 42
        batch = Batch()
        batch.add(Key, key_arn="a", key_id="k", account_id="1", region="r")
        merge(connection, 42, batch)
        assert connection.execute(select(Key.version_id)).scalar_one() == 1
    engine.dispose()


def test_a_target_with_rows_is_rejected(source: str, ledger_url: str) -> None:
    """Two histories are never mixed, not even a ledger with itself."""
    fill(source)
    copy(source, ledger_url)
    before = everything(ledger_url)
    with pytest.raises(CopyError, match=r"is not empty \(table .* has rows\): name a new database"):
        copy(source, ledger_url)
    with pytest.raises(CopyError, match="is not empty"):
        copy(ledger_url, ledger_url)
    assert everything(ledger_url) == before


def test_a_nul_is_located_and_nothing_is_copied(sqlite_url: str, postgresql_url: str) -> None:
    """PostgreSQL cannot store NUL: the error names table, row and column, and the target stays empty."""
    fill(sqlite_url)
    engine = connect(sqlite_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE tag SET tag_value = 'a' || char(0) || 'b' WHERE version_id = 9"))
    engine.dispose()
    with pytest.raises(CopyError, match=r"table tag, version_id 9: column tag_value holds a NUL character"):
        copy(sqlite_url, postgresql_url)
    assert set(map(len, everything(postgresql_url).values())) == {0}


def test_a_rejected_row_is_located_and_nothing_is_copied(sqlite_url: str, postgresql_url: str) -> None:
    """If PostgreSQL rejects a row, the error names its table, and earlier tables are rolled back."""
    fill(sqlite_url)
    engine = connect(sqlite_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE scope_coverage SET calls = 1099511627776 WHERE run_id = 1"))
    engine.dispose()
    with pytest.raises(CopyError, match=r"a row of table scope_coverage \(run_id 1, .*out of range"):
        copy(sqlite_url, postgresql_url)
    assert set(map(len, everything(postgresql_url).values())) == {0}


def test_a_different_copy_is_rolled_back(sqlite_url: str, postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The target is read back before the commit: one changed character is detected."""
    fill(sqlite_url)
    real = copying._write

    def wrong(connection: Any, table: Table, rows: Any) -> None:
        real(connection, table, rows)
        if table.name == "tag":
            connection.execute(text("UPDATE tag SET tag_value = tag_value || ' ' WHERE version_id = 3"))

    monkeypatch.setattr(copying, "_write", wrong)
    with pytest.raises(DifferentError, match="tag: "):
        copy(sqlite_url, postgresql_url)
    assert set(map(len, everything(postgresql_url).values())) == {0}


def test_rejected_during_a_crawl(ledger: Engine, ledger_url: str, tmp_path: Path) -> None:
    """A copy during a crawl would miss its later facts."""
    with ledger.begin() as connection:
        run = {"started_at": TIMES[0], "status": RunStatus.RUNNING, "version": "1"}
        connection.execute(insert(Run), run)
        crawl_lock.acquire(connection, 1)
    target = new_file(tmp_path / "copy.db")
    with pytest.raises(crawl_lock.LockedError):
        copy(ledger_url, target)
    crawl_lock.release(ledger, 1)
    copy(ledger_url, target)
    copied = connect(target)
    with copied.begin() as connection:
        crawl_lock.acquire(connection, 1)
    copied.dispose()


def invoke(source: str, target: str) -> Result:
    return CliRunner().invoke(db, ["copy", "--from", source, "--to", target])


def test_the_command_prints_the_compared_tables(sqlite_url: str, postgresql_url: str) -> None:
    """The command prints each table with its rows and checksum, and that the copy is identical."""
    fill(sqlite_url)
    done = invoke(sqlite_url, postgresql_url)
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert len(lines) == len(copying.tables()) + 1
    assert all(": 11 rows, checksum " in line or ": 12 rows, checksum " in line for line in lines[:-1])
    assert lines[-1].endswith("rows; the copy is identical, table by table")


def test_the_source_must_have_the_current_schema(sqlite_url: str, tmp_path: Path) -> None:
    """A missing source, an empty one and one with an older schema are rejected, each with the fix."""
    target = new_file(tmp_path / "copy.db")
    with pytest.raises(DatabaseError, match="there is no ledger at"):
        copy(new_file(tmp_path / "none.db"), target)
    (tmp_path / "empty.db").touch()
    with pytest.raises(DatabaseError, match="is empty"):
        copy(new_file(tmp_path / "empty.db"), target)
    engine = connect(sqlite_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'ffff'"))
    engine.dispose()
    with pytest.raises(DatabaseError, match="newer kmsledger"):
        copy(sqlite_url, target)
    assert not (tmp_path / "copy.db").exists()


@pytest.mark.parametrize("url", ["", "ledger.db", "mysql://u@h/d", "sqlite:///none/ledger.db"])
def test_an_invalid_target_url_is_explained(sqlite_url: str, url: str) -> None:
    """A URL without a database is an error in one sentence, not a traceback."""
    with pytest.raises((CopyError, DatabaseError)):
        copy(sqlite_url, url)


def test_checksums_distinguish_rows() -> None:
    """NULL and empty text, a number and its digits differ; the order of rows does not matter."""

    def checksum(*rows: tuple[Any, ...]) -> Copied:
        total = copying._Checksum()
        for _chunk in total.of(iter([rows])):
            pass
        return Copied("t", total.rows, f"{total.total:032x}")

    assert checksum((1, "a"), (2, "b")) == checksum((2, "b"), (1, "a"))
    different = [(None,), ("",), ("1",), (1,), (b"1",), ("\\N",), (TIMES[0],), (TIMES[0].isoformat(),)]
    assert len({checksum(row).checksum for row in different}) == len(different)


def accounts_of(url: str) -> list[tuple[str | None, ...]]:
    """Name, e-mail address and OU path of the versions of accounts."""
    return [(row[0], row[1], row[2]) for row in select_all(url, select(Account.name, Account.email, Account.ou_path))]


def select_all(url: str, query: Any) -> list[Any]:
    engine = connect(url)
    with engine.connect() as connection:
        rows = list(connection.execute(query.order_by(Account.version_id)))
    engine.dispose()
    return rows


def test_a_redacted_copy_has_no_names_of_accounts(sqlite_url: str, postgresql_url: str, tmp_path: Path) -> None:
    """Equal names have equal pseudonyms, missing ones stay missing, all else is equal, and no two copies can be compared."""
    fill(sqlite_url)
    engine = connect(sqlite_url)
    name, email = "Müller GmbH", "aws+müller@example.org"
    with engine.begin() as connection:
        values = {"name": name, "email": email, "ou_path": "/Production/Müller GmbH"}
        connection.execute(update(Account).where(Account.version_id <= 2).values(**values))
        connection.execute(update(Account).where(Account.version_id > 2).values(name=None, email="", ou_path="/"))
    engine.dispose()
    done = CliRunner().invoke(db, ["copy", "--redact", "--from", sqlite_url, "--to", postgresql_url])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1].endswith("the copy is identical, except for the redacted names")
    (first, mail, path), second, *rest = accounts_of(postgresql_url)
    assert re.fullmatch(r"redacted-[0-9a-f]{12}", str(first))
    assert re.fullmatch(r"redacted-[0-9a-f]{12}", str(mail))
    assert path is not None
    assert re.fullmatch(rf"/redacted-[0-9a-f]{{12}}/{first}", path)
    assert second == (first, mail, path)
    assert len({first, mail, path.split("/")[1]}) == 3
    assert set(rest) == {(None, "", "/")}
    sent, arrived = everything(sqlite_url), everything(postgresql_url)
    assert {table for table, rows in sent.items() if rows != arrived[table]} == {"account"}
    other = new_file(tmp_path / "other.db")
    copy(sqlite_url, other, redact=True)
    assert accounts_of(other)[0][0] != first


def test_columns_with_names_of_accounts_are_redacted() -> None:
    """A new column for a name or an e-mail address of an account is declared as such."""
    names = {
        (table.name, column.name)
        for table in copying.tables()
        for column in table.columns
        if re.search(r"email|e_mail|account_name|ou_path|contact", column.name)
        or (table.name, column.name) == ("account", "name")
    }
    assert names == {(table.name, column.name) for table in copying.tables() for column in table.columns if column.info}

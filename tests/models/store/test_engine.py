"""Database engines: locking, transactions, and messages for databases that cannot be used."""

from __future__ import annotations

import os
import pwd
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, func, insert, select, text
from sqlalchemy.engine.interfaces import CacheStats

from models.store import engine
from models.store.engine import DatabaseError, check, connect, translate_errors, upgrade
from models.tables import PolicyDocument

UNPRIVILEGED = pwd.getpwnam("nobody")


def add(connection: Connection, number: int) -> None:
    row = {"policy_hash": number.to_bytes(16, "big"), "canonical": "{}", "received": "{}"}
    connection.execute(insert(PolicyDocument).values(row))


def count(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(PolicyDocument)).scalar_one()


@contextmanager
def unprivileged() -> Iterator[None]:
    """Drop root privileges for the block."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(UNPRIVILEGED.pw_gid)
    os.seteuid(UNPRIVILEGED.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A directory that every user can access, unlike tmp_path."""
    folder = Path(tempfile.mkdtemp(prefix="kmsledger-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def write_into(url: str, *, must_exist: bool = False) -> None:
    engine = connect(url, must_exist=must_exist)
    try:
        upgrade(engine)
        with translate_errors(engine), engine.begin() as connection:
            add(connection, 1)
    finally:
        engine.dispose()


def refused(url: str, *, must_exist: bool = False) -> str:
    """The error message for a write to this database."""
    with pytest.raises(DatabaseError) as error:
        write_into(url, must_exist=must_exist)
    assert error.value.exit_code == 4
    assert "\n" not in error.value.message
    return error.value.message


def test_a_statement_is_compiled_once_for_all_files(sqlite_url: str, tmp_path: Path) -> None:
    """Another engine of the process, for another file, uses the compiled statement of the first."""
    other = tmp_path / "other.db"
    shutil.copyfile(sqlite_url.removeprefix("sqlite:///"), other)
    hits = []
    for url in (sqlite_url, f"sqlite:///{other}"):
        opened = connect(url)
        with opened.connect() as connection:
            hits.append(connection.execute(select(func.count(), func.max(PolicyDocument.received))).context.cache_hit)
        opened.dispose()
    assert hits[1] is CacheStats.CACHE_HIT


def test_readers_and_the_writer_do_not_block_each_other(ledger: Engine) -> None:
    """A long read keeps its snapshot while a crawl commits, and neither waits."""
    with ledger.connect() as reader:
        assert count(reader) == 0
        began = time.monotonic()
        with ledger.begin() as writer:
            add(writer, 1)
            assert count(reader) == 0
        with ledger.begin() as writer:
            add(writer, 2)
        assert time.monotonic() - began < 5
    with ledger.connect() as reader:
        assert count(reader) == 2


def test_sqlite_readers_keep_their_snapshot(sqlite_url: str) -> None:
    """On SQLite a read transaction sees one snapshot from its first statement to its end."""
    engine = connect(sqlite_url)
    with engine.connect() as reader:
        assert count(reader) == 0
        with engine.begin() as writer:
            add(writer, 1)
        assert count(reader) == 0
    engine.dispose()


def test_transactions_that_read_before_they_write_do_not_fail(ledger: Engine) -> None:
    """Two threads that read, then write, take turns; SQLite would reject the second one if it began as a reader."""
    together = threading.Barrier(4)
    failures: list[Exception] = []

    def work(first: int) -> None:
        together.wait()
        try:
            for number in range(first, first + 25):
                with ledger.begin() as connection:
                    count(connection)
                    time.sleep(0.001)
                    add(connection, number)
        except Exception as error:  # noqa: BLE001 - shown by the assertion below, in the thread that can fail the test
            failures.append(error)

    threads = [threading.Thread(target=work, args=(100 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with ledger.connect() as connection:
        assert count(connection) == 100


def test_a_writer_waits_for_a_lock_up_to_the_timeout(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer waits for a locked SQLite file; after the timeout the message gives the fix."""
    monkeypatch.setattr(engine, "SQLITE_BUSY_TIMEOUT", 0.2)
    one, other = connect(sqlite_url), connect(sqlite_url)
    with one.begin() as connection:
        add(connection, 1)
        began = time.monotonic()
        with (
            pytest.raises(DatabaseError, match="is locked by another program: wait for it to end"),
            translate_errors(other),
            other.begin(),
        ):
            pass
        assert time.monotonic() - began >= 0.2
    with translate_errors(other), other.begin() as connection:
        add(connection, 2)
    one.dispose()
    other.dispose()


def test_a_failed_transaction_is_rolled_back(ledger: Engine) -> None:
    """An error rolls back the transaction on both engines, and the engine stays usable."""

    def fail_halfway() -> None:
        with ledger.begin() as connection:
            add(connection, 1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    with ledger.begin() as connection:
        assert count(connection) == 0
        add(connection, 1)


def test_sqlite_uses_wal_and_foreign_keys(sqlite_url: str) -> None:
    """SQLite uses WAL and enforces foreign keys."""
    engine = connect(sqlite_url)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one() == 1
    engine.dispose()


def test_the_switch_to_wal_is_repeated_while_another_program_switches(tmp_path: Path) -> None:
    """Two programs that open a new database at the same time: the one that SQLite turns away tries again."""

    class Busy(sqlite3.Connection):
        failures = 2

        def execute(self, sql: str, /, parameters: Any = ()) -> sqlite3.Cursor:
            if "journal_mode" in sql and self.failures:
                self.failures -= 1
                raise sqlite3.OperationalError("database is locked")
            return super().execute(sql, parameters)

    connection = sqlite3.connect(tmp_path / "new.db", factory=Busy)
    engine._set_up_sqlite(connection, None)
    assert connection.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
    connection.close()


def test_a_missing_ledger_is_not_created_by_a_read(tmp_path: Path) -> None:
    """A mistyped path is an error and no empty file is created."""
    path = tmp_path / "typo.db"
    assert refused(f"sqlite:///{path}", must_exist=True) == (
        f"there is no ledger at {path}: run `kmsledger crawl` first, or name another database"
    )
    assert not path.exists()


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    """The message names the directory to create."""
    folder = tmp_path / "missing"
    message = refused(f"sqlite:///{folder}/ledger.db")
    assert message == f"the directory {folder} of the database does not exist: create it"


def test_a_file_that_is_no_database_is_unchanged(tmp_path: Path) -> None:
    """A path of another file is an error, and the file is unchanged."""
    path = tmp_path / "notes.txt"
    path.write_text("the quick brown fox " * 100)
    assert "is not a SQLite database, or damaged" in refused(f"sqlite:///{path}")
    assert path.read_text() == "the quick brown fox " * 100


def test_a_directory_is_no_database(tmp_path: Path) -> None:
    """The path of a directory is an error in one sentence."""
    assert "cannot be opened: check that the path exists" in refused(f"sqlite:///{tmp_path}")


def test_a_damaged_ledger_is_reported_as_damaged(sqlite_url: str) -> None:
    """A ledger with overwritten pages is reported as damaged, not as another file."""
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * (size - 100))
    engine = connect(sqlite_url)
    with pytest.raises(DatabaseError, match="damaged: restore it from a backup"):
        check(engine)
    engine.dispose()


def test_a_read_only_directory_is_explained(open_folder: Path) -> None:
    """SQLite also writes next to its file: the message names the missing permission."""
    with unprivileged():
        assert "cannot be opened: check that" in refused(f"sqlite:///{open_folder}/ledger.db")
    assert list(open_folder.iterdir()) == []


def test_a_read_only_ledger_is_explained(open_folder: Path, sqlite_template: Path) -> None:
    """A crawl into a read-only ledger names the missing permission."""
    path = open_folder / "ledger.db"
    shutil.copyfile(sqlite_template, path)
    path.chmod(0o444)
    with unprivileged():
        assert refused(f"sqlite:///{path}").startswith(
            f"sqlite:///{path} cannot be written: give this user write permission"
        )


def test_an_inaccessible_directory_counts_as_missing(open_folder: Path) -> None:
    """A path below a directory that this user cannot access counts as missing."""
    closed = open_folder / "closed"
    closed.mkdir(mode=0o000)
    with unprivileged():
        for must_exist in (True, False):
            assert str(closed) in refused(f"sqlite:///{closed}/below/ledger.db", must_exist=must_exist)
    closed.chmod(0o700)


@pytest.mark.parametrize(
    ("replaced", "by", "expected"),
    [
        ("PORT", "1", "no PostgreSQL server answers at"),
        ("DATABASE", "missing", "does not exist on the server: create the database or correct the URL"),
        ("PASSWORD", "wrong-secret", "did not accept the user and password: check the database URL"),
        ("HOST", "kmsledger.invalid", "cannot be resolved: correct the database URL"),
    ],
)
def test_postgresql_errors_do_not_show_the_password(
    postgresql_server: str, replaced: str, by: str, expected: str
) -> None:
    """Server down, unknown database, wrong password, unknown host: one sentence each, without the password."""
    if os.environ.get("TEST_DATABASE_URL"):
        pytest.skip("an own server's password and port are not known")
    user, rest = postgresql_server.removeprefix("postgresql://").split(":", 1)
    password, place = rest.split("@")
    host, rest = place.split(":")
    port, name = rest.split("/")
    parts = {"PASSWORD": password, "HOST": host, "PORT": port, "DATABASE": name} | {replaced: by}
    message = refused("postgresql://{}:{PASSWORD}@{HOST}:{PORT}/{DATABASE}".format(user, **parts))
    assert expected in message
    assert parts["PASSWORD"] not in message


def test_missing_postgresql_privileges_are_named(postgresql_url: str) -> None:
    """The message for a user without privileges names the privileges to grant."""
    name = f"reader_{os.getpid()}"
    owner = connect(postgresql_url)
    with owner.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
        connection.execute(text(f"CREATE ROLE {name} LOGIN PASSWORD 'made-up'"))
        connection.execute(text(f"GRANT USAGE ON SCHEMA public TO {name}"))
    place = postgresql_url.rpartition("@")[2]
    try:
        message = refused(f"postgresql://{name}:made-up@{place}")
        assert "denies this user access to some objects" in message
    finally:
        with owner.begin() as connection:
            connection.execute(text(f"DROP OWNED BY {name}"))
            connection.execute(text(f"DROP ROLE {name}"))
        owner.dispose()


def test_a_closed_connection_is_replaced(postgresql_url: str) -> None:
    """A server restart between two transactions is not an error."""
    engine = connect(postgresql_url)
    with engine.connect() as connection:
        own = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    other = connect(postgresql_url)
    with other.connect() as connection:
        connection.exec_driver_sql(f"SELECT pg_terminate_backend({own})")
    with engine.connect() as connection:
        assert count(connection) == 0
    engine.dispose()
    other.dispose()


def test_other_databases_are_rejected() -> None:
    """Only SQLite and PostgreSQL are accepted."""
    with pytest.raises(DatabaseError, match="mysql cannot hold a ledger: use sqlite:"):
        connect("mysql://user:secret@host/ledger")

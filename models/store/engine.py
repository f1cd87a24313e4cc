"""Database engines, SQLite (embedded) or PostgreSQL, and schema upgrades by the migrations."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Dialect, Engine, create_engine, event, exc, inspect, make_url
from sqlalchemy.util import LRUCache

from models.errors import UserError
from models.file_access import share
from models.safe_text import masked_url

if TYPE_CHECKING:
    # Alembic is a fifth of the imports of a crawl worker, which migrates nothing.
    from alembic.config import Config

SQLITE_BUSY_TIMEOUT = 30.0
"""Seconds to wait for the write lock of SQLite."""
_RETRY_SECONDS = 0.05
_VERSION_TABLE = "alembic_version"
_MIGRATION = re.compile(r"\d{4}_\w+\.py")

_WRITES = "kmsledger writes"
_COMPILED: LRUCache[Any, Any] = LRUCache(500)
"""The compiled statements of all engines for SQLite."""


class DatabaseError(UserError):
    """The database cannot be used."""

    exit_code = 4


class SqliteEngine(Engine):
    """An engine whose write transactions take the write lock at their start.

    ``begin()`` waits for the write lock of SQLite. A transaction that reads first and writes later would fail without waiting
    if another one wrote in between. ``connect()`` reads and never waits.
    """

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A write transaction, committed at the end and rolled back on an error."""
        with self.connect() as connection:
            connection.info[_WRITES] = True
            try:
                transaction = connection.begin()
            finally:
                del connection.info[_WRITES]
            with transaction:
                yield connection


@contextmanager
def opened(url: str, *, must_exist: bool = False) -> Iterator[Engine]:
    """An engine (see :func:`connect`) for a block, at whose end its connections are closed."""
    engine = connect(url, must_exist=must_exist)
    try:
        yield engine
    finally:
        engine.dispose()


def connect(url: str, *, must_exist: bool = False) -> Engine:
    """An engine for a database URL (``sqlite:///file`` or ``postgresql://...``).

    SQLite is opened in WAL mode, so that readers and the crawl do not block each other. With ``must_exist``, a missing file is
    an error instead of a new, empty ledger.
    """
    parsed = _parsed(url)
    if parsed.get_backend_name() == "sqlite":
        path = Path(parsed.database or "")
        if must_exist and not os.path.exists(path):  # noqa: PTH110 - Path.exists() raises without permission on the directory
            raise DatabaseError(f"there is no ledger at {path}: run `kmsledger crawl` first, or name another database")
        if not os.path.exists(path.parent):  # noqa: PTH110 - as above
            raise DatabaseError(f"the directory {path.parent} of the database does not exist: create it")
        made = create_engine(parsed.set(drivername="sqlite"), connect_args={"timeout": SQLITE_BUSY_TIMEOUT})
        engine = SqliteEngine(made.pool, _sqlite_dialect(), made.url, execution_options={"compiled_cache": _COMPILED})
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    if parsed.get_backend_name() not in {"postgresql", "postgres"}:
        raise DatabaseError(
            f"{parsed.get_backend_name()} cannot hold a ledger: use sqlite:///path/to/file or postgresql://user@host/database"
        )
    limits = {} if "connect_timeout" in parsed.query else {"connect_timeout": 10}
    try:
        return create_engine(parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True, connect_args=limits)
    except ModuleNotFoundError as error:
        raise DatabaseError("PostgreSQL needs the extra `postgres`: pip install 'kmsledger[postgres]'") from error


def _parsed(url: str) -> URL:
    try:
        return make_url(url)
    except (exc.ArgumentError, ValueError) as error:
        raise DatabaseError(
            f"{masked_url(url)} is not a database URL: use sqlite:///path/to/file or postgresql://user@host/database, and "
            "percent-encode special characters in user and password"
        ) from error


@cache
def _sqlite_dialect() -> Dialect:
    """One dialect for all files, so that each statement is compiled once per process and not once per engine."""
    probe = create_engine("sqlite://")
    probe.connect().close()
    return probe.dialect


@contextmanager
def translate_errors(engine: Engine) -> Iterator[None]:
    """Translate errors of the database into DatabaseError: one sentence with cause and fix."""
    try:
        yield
    except exc.DatabaseError as error:
        raise DatabaseError(_explain(shown(engine.url), without_passwords(str(error.orig), engine.url))) from error


def upgrade(engine: Engine) -> None:
    """Upgrade the database to the current schema and create missing tables. Raises DatabaseError for a newer schema."""
    with translate_errors(engine):
        with engine.connect() as connection:
            revision = current(connection)
            if revision == head():
                return
        if revision is None and engine.dialect.name == "sqlite" and engine.url.database:
            share(Path(engine.url.database))
        with engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7262017)")
            revision = current(connection)
            _refuse_newer(connection, revision)
            if revision == head():
                return
            from alembic import command

            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def size(engine: Engine) -> int:
    """The bytes that the database occupies."""
    sqlite = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
    query = "SELECT pg_database_size(current_database())" if engine.dialect.name == "postgresql" else sqlite
    with translate_errors(engine), engine.connect() as connection:
        return int(connection.exec_driver_sql(query).scalar_one())


def check(engine: Engine) -> None:
    """Raise DatabaseError, with the fix, unless the database has the current schema."""
    with translate_errors(engine), engine.connect() as connection:
        revision = current(connection)
        _refuse_newer(connection, revision)
        if revision is None:
            raise DatabaseError(
                f"{shown(connection.engine.url)} is empty: run `kmsledger crawl`, or `kmsledger db upgrade`, first"
            )
        if revision != head():
            raise DatabaseError(
                f"{shown(connection.engine.url)} has schema {revision}, this program needs {head()}: run `kmsledger db upgrade`"
            )


def current(connection: Connection) -> str | None:
    """The schema revision of the database, ``None`` if it is empty."""
    if not inspect(connection).has_table(_VERSION_TABLE):
        return None
    return connection.exec_driver_sql(f"SELECT version_num FROM {_VERSION_TABLE}").scalar()


def head() -> str:
    """The schema revision that this program requires."""
    revisions = _revisions()
    if not revisions:
        raise DatabaseError("the program's migrations are missing: install kmsledger again")
    return revisions[-1]


@cache
def _revisions() -> tuple[str, ...]:
    """The revisions in order: file names start with them. Reading them with Alembic would load it in every command."""
    folder = resources.files("migrations").joinpath("versions")
    return tuple(sorted(name[:4] for name in (file.name for file in folder.iterdir()) if _MIGRATION.fullmatch(name)))


def _refuse_newer(connection: Connection, revision: str | None) -> None:
    if revision is not None and revision not in _revisions():
        raise DatabaseError(
            f"{shown(connection.engine.url)} was written by a newer kmsledger (schema {revision}): update this program; "
            "nothing was changed"
        )


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(resources.files("migrations")).replace("%", "%%"))
    return config


def shown(url: URL) -> str:
    """The URL for messages: as the user wrote it, without passwords, including those of the query."""
    return masked_url(url.set(drivername=url.get_backend_name()).render_as_string(hide_password=True))


def without_passwords(text: str, url: URL) -> str:
    """A message of a driver without the passwords of a URL, which it may repeat."""
    for secret in passwords(url):
        text = text.replace(secret, "***").replace(quote(secret, safe=""), "***")
    return text


def passwords(url: URL) -> tuple[str, ...]:
    """The passwords of a URL, in its user part and in its query."""
    values = [url.password, *(value for name, value in url.query.items() if "password" in name.lower())]
    return tuple(each for value in values for each in ((value,) if isinstance(value, str) else value or ()) if each)


def _set_up_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    # SQLAlchemy begins transactions itself (below); the implicit ones of the driver would separate DDL from data.
    connection.isolation_level = None
    _enable_wal(connection)
    for pragma in (
        "synchronous=NORMAL",
        "foreign_keys=ON",
        # Temporary tables spill to disk only beyond this cache.
        "temp_store=FILE",
        "temp.cache_size=-32768",
        "cache_size=-65536",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _enable_wal(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead logging. Where two connections switch a new database at once, SQLite fails without waiting."""
    until = time.monotonic() + SQLITE_BUSY_TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(_RETRY_SECONDS)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.info.get(_WRITES) else "BEGIN")


def _explain(where: str, cause: str) -> str:
    lowered = cause.lower()
    for signs, sentence in _EXPLANATIONS:
        if any(sign in lowered for sign in signs.split(" | ")):
            return sentence.format(where=where)
    return f"{where} cannot be used: {cause.strip().splitlines()[0]}"


_EXPLANATIONS = (
    ("database is locked", "{where} is locked by another program: wait for it to end, then run the command again"),
    (
        "disk is full",
        "the disk that holds {where} is full: free some space and run the command again; saved data is safe",
    ),
    (
        "no space left on device",
        "the disk of the server at {where} is full: free some space and run the command again; saved data is safe",
    ),
    ("readonly database", "{where} cannot be written: give this user write permission on the file and its directory"),
    ("unable to open", "{where} cannot be opened: check that the path exists and this user may read and write it"),
    ("not a database", "{where} is not a SQLite database, or damaged: restore it from a backup or name another file"),
    ("malformed", "{where} is damaged: restore it from a backup"),
    ("password authentication failed", "{where} did not accept the user and password: check the database URL"),
    ("no password supplied", "{where} requires a password: put it into the database URL or a password file"),
    ('fatal:  database "', "{where} does not exist on the server: create the database or correct the URL"),
    ("connection refused", "no PostgreSQL server answers at {where}: start it or correct host and port"),
    ("failed to resolve host", "the host of {where} cannot be resolved: correct the database URL"),
    (
        "timeout expired",
        "no PostgreSQL server answers at {where}: start it, correct host and port, or open the firewall",
    ),
    (
        "permission denied for",
        "{where} denies this user access to some objects: let it own the database or grant it usage and create on the schema",
    ),
    (
        "terminating connection | closed the connection unexpectedly",
        "the server at {where} ended the connection: run the command again; saved data is safe",
    ),
    ("too many clients", "the server at {where} has no connection left: wait, or raise its max_connections"),
)

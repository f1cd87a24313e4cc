"""The engine: SQLite (embedded) or PostgreSQL, brought to the program's schema by the migrations."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, exc, make_url

from models.errors import UserError


class DatabaseError(UserError):
    """The database cannot be used as it is."""

    exit_code = 4


def connect(url: str, *, must_exist: bool = False) -> Engine:
    """An engine for a database URL (``sqlite:///file`` or ``postgresql://...``).

    SQLite is opened in WAL mode: readers do not block the crawl, nor it them. With ``must_exist`` a missing file is an error
    rather than a new, empty ledger.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        path = Path(parsed.database or "")
        if must_exist and not path.exists():
            raise DatabaseError(f"there is no ledger at {path}: run `kmsledger crawl` first, or name another database")
        if not path.parent.exists():
            raise DatabaseError(f"the directory {path.parent} of the database does not exist: create it")
        engine = create_engine(parsed.set(drivername="sqlite+pysqlite"), connect_args={"timeout": 30.0})
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    try:
        return create_engine(parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise DatabaseError("PostgreSQL needs the extra `postgres`: pip install 'kmsledger[postgres]'") from error


@contextmanager
def explained(engine: Engine) -> Iterator[None]:
    """Turn what the database refuses into one sentence with the cause and the fix."""
    where = engine.url.render_as_string(hide_password=True)
    try:
        yield
    except exc.OperationalError as error:
        raise DatabaseError(_explain(where, str(error.orig))) from error
    except exc.DatabaseError as error:
        raise DatabaseError(_explain(where, str(error.orig))) from error


def upgrade(engine: Engine) -> None:
    """Bring the database to the program's schema; an empty one is created, a newer one refused."""
    with explained(engine), engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7262017)")
        revision = current(connection)
        _refuse_newer(connection, revision)
        if revision == head():
            return
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def check(engine: Engine) -> None:
    """Refuse a database whose schema is not the program's, saying what to do."""
    with explained(engine), engine.connect() as connection:
        revision = current(connection)
        _refuse_newer(connection, revision)
        if revision is None:
            raise DatabaseError(
                f"{_name(connection)} is empty: run `kmsledger crawl`, or `kmsledger db upgrade`, first"
            )
        if revision != head():
            raise DatabaseError(
                f"{_name(connection)} has schema {revision}, this program needs {head()}: run `kmsledger db upgrade`"
            )


def current(connection: Connection) -> str | None:
    """The schema's revision, ``None`` for an empty database."""
    return MigrationContext.configure(connection).get_current_revision()


def head() -> str:
    """The revision that this program needs."""
    found = ScriptDirectory.from_config(_config()).get_current_head()
    if found is None:
        raise DatabaseError("the program's migrations are missing: install kmsledger again")
    return found


def _refuse_newer(connection: Connection, revision: str | None) -> None:
    if revision is None:
        return
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if revision not in known:
        raise DatabaseError(
            f"{_name(connection)} was written by a newer kmsledger (schema {revision}): update this program, it changed nothing"
        )


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(resources.files("migrations")).replace("%", "%%"))
    return config


def _name(connection: Connection) -> str:
    return connection.engine.url.render_as_string(hide_password=True)


def _set_up_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    # SQLAlchemy begins transactions itself (below): the driver's own, implicit ones would split DDL from data.
    connection.isolation_level = None
    for pragma in (
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "foreign_keys=ON",
        "temp_store=MEMORY",
        "cache_size=-65536",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _explain(where: str, cause: str) -> str:
    lowered = cause.lower()
    for sign, sentence in _EXPLANATIONS:
        if sign in lowered:
            return sentence.format(where=where)
    return f"{where} cannot be used: {cause.strip().splitlines()[0]}"


_EXPLANATIONS = (
    ("database is locked", "{where} is locked by another program: wait for it to end, then run the command again"),
    (
        "disk is full",
        "the disk that holds {where} is full: free some space and run the command again; what was saved is safe",
    ),
    ("readonly database", "{where} cannot be written: give this user write permission on the file and its directory"),
    ("unable to open", "{where} cannot be opened: check that the path exists and this user may read and write it"),
    ("not a database", "{where} is not a SQLite database, or damaged: restore it from a backup or name another file"),
    ("malformed", "{where} is damaged: restore it from a backup"),
    ("password authentication failed", "{where} did not accept the user and password: check the database URL"),
    ("does not exist", "{where} does not exist on the server: create the database or correct the URL"),
    ("connection refused", "no PostgreSQL server answers at {where}: start it or correct host and port"),
)

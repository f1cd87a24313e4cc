"""Copy of a ledger to another database, SQLite or PostgreSQL: every row with its IDs, or nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Table, Text, exc, func, insert, select

from models.errors import UserError
from models.store import engine
from models.store.crawl_lock import exclusive
from models.store.engine import shown, translate_errors
from models.store.redaction import Rows, redactor
from models.tables import versioned_tables
from models.tables.runs import CrawlLock
from models.versioned import Base

CHUNK = 2000
"""Rows in memory at once."""


class CopyError(UserError):
    """The ledger cannot be copied; the target is unchanged."""

    exit_code = 2


class DifferentError(UserError):
    """The copied rows differ from the source; the target is unchanged."""

    exit_code = 4


@dataclass(frozen=True, slots=True)
class Copied:
    """A table that was copied and verified."""

    table: str
    rows: int
    checksum: str
    """32 hexadecimal digits, equal for equal sets of rows on both engines."""


def copy(
    source_url: str, target_url: str, copied: Callable[[Copied], None] = lambda _table: None, *, redact: bool = False
) -> list[Copied]:
    """Copy a ledger into an empty database, in one transaction; ``copied`` is called with each table.

    With ``redact``, the copy has pseudonyms for the names and e-mail addresses of accounts and for the names of OUs.

    The source must have the current schema, and the target no rows; missing tables are created. Each table is read back and
    compared before the commit. The source is locked against crawls meanwhile.
    """
    source, target = _engine(source_url, must_exist=True), _engine(target_url, must_exist=False)
    try:
        engine.check(source)
        _prepare(target)
        return _copy(source, target, copied, redactor() if redact else lambda _table, rows: rows)
    finally:
        source.dispose()
        target.dispose()


def tables() -> list[Table]:
    """The tables to copy, in the order of their foreign keys: all except the lock."""
    versioned_tables()  # all modules with tables are imported
    return [table for table in Base.metadata.sorted_tables if table.name != CrawlLock.__tablename__]


def _engine(url: str, *, must_exist: bool) -> Engine:
    try:
        return engine.connect(url, must_exist=must_exist)
    except exc.ArgumentError as error:
        raise CopyError("a database URL is sqlite:///path/to/file or postgresql://user@host/database") from error


def _prepare(target: Engine) -> None:
    with translate_errors(target), target.connect() as connection:
        revision = engine.current(connection)
    if revision is None:
        engine.upgrade(target)
    else:
        engine.check(target)


def _copy(
    source: Engine, target: Engine, copied: Callable[[Copied], None], redacted: Callable[[Table, Rows], Rows]
) -> list[Copied]:
    done = []
    with exclusive(source) as lock, _reading(source) as reading, translate_errors(target), target.begin() as writing:
        _require_empty(writing)
        for table in tables():
            sent = _Checksum()
            for rows in sent.of(redacted(table, _chunks(reading, table))):
                _write(writing, table, rows)
                lock.heartbeat()
            if writing.dialect.name == "postgresql":
                _set_sequence(writing, table)
            arrived = _Checksum()
            for _rows in arrived.of(_chunks(writing, table)):
                lock.heartbeat()
            if (sent.rows, sent.total) != (arrived.rows, arrived.total):
                raise DifferentError(
                    f"{table.name}: {sent.rows} rows were sent and {arrived.rows} different rows arrived: "
                    "nothing was kept; report this as a defect of kmsledger"
                )
            done.append(Copied(table.name, sent.rows, f"{sent.total:032x}"))
            copied(done[-1])
    return done


@contextmanager
def _reading(source: Engine) -> Iterator[Connection]:
    """A connection with one snapshot of the source."""
    with translate_errors(source), source.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection.execution_options(isolation_level="REPEATABLE READ")
        yield connection


def _require_empty(target: Connection) -> None:
    if target.dialect.name == "postgresql":
        # A crawl that starts now waits for the end of the copy, and then finds its runs.
        target.exec_driver_sql("LOCK TABLE run IN SHARE ROW EXCLUSIVE MODE")
    for table in Base.metadata.sorted_tables:
        if target.execute(select(1).select_from(table).limit(1)).first() is not None:
            where = shown(target.engine.url)
            raise CopyError(f"{where} is not empty (table {table.name} has rows): name a new database to copy into")


def _chunks(connection: Connection, table: Table) -> Rows:
    """Yield all rows in chunks, in the order of the primary key."""
    query = select(table).order_by(*table.primary_key)
    with (
        translate_errors(connection.engine),
        connection.execute(query, execution_options={"yield_per": CHUNK}) as result,
    ):
        yield from result.partitions()


class _Checksum:
    """An order-independent checksum of rows: the collations of the engines may differ."""

    def __init__(self) -> None:
        self.rows = 0
        self.total = 0

    def of(self, chunks: Rows) -> Rows:
        """Pass rows through and add them to the checksum."""
        for chunk in chunks:
            for row in chunk:
                digest = hashlib.blake2b(repr(tuple(row)).encode(), digest_size=16).digest()
                self.total = (self.total + int.from_bytes(digest, "big")) % (1 << 128)
            self.rows += len(chunk)
            yield chunk


def _write(connection: Connection, table: Table, rows: Sequence[Any]) -> None:
    if connection.dialect.name != "postgresql":
        connection.execute(insert(table), [dict(zip(table.columns.keys(), row, strict=True)) for row in rows])
        return
    _reject_nul(table, rows)
    driver = connection.dialect.loaded_dbapi
    names = ", ".join(f'"{column.name}"' for column in table.columns)
    statement = f'COPY "{table.name}" ({names}) FROM STDIN'
    try:
        cursor: Any = connection.connection.cursor()
        with cursor, cursor.copy(statement) as stream:
            for row in rows:
                stream.write_row(row)
    except driver.Error as error:
        first = str(error).strip().splitlines()[0]
        raise CopyError(
            f"PostgreSQL rejects a row of table {table.name} ({_where(table, rows[0])} or one of the "
            f"{len(rows) - 1} after it): {first}"
        ) from error


def _reject_nul(table: Table, rows: Sequence[Any]) -> None:
    texts = [index for index, column in enumerate(table.columns) if isinstance(column.type, Text)]
    for row in rows:
        for index in texts:
            if row[index] is not None and "\0" in row[index]:
                raise CopyError(
                    f"table {table.name}, {_where(table, row)}: column {table.columns[index].name} holds a NUL character, which "
                    "PostgreSQL cannot store: remove it from the source"
                )


def _where(table: Table, row: Any) -> str:
    values = dict(zip(table.columns.keys(), row, strict=True))
    return ", ".join(f"{column.name} {values[column.name]!r}" for column in table.primary_key)


def _set_sequence(connection: Connection, table: Table) -> None:
    """Set the sequence to the last copied ID."""
    column = table.autoincrement_column
    if column is None:
        return
    last = connection.execute(select(func.max(column))).scalar()
    sequence = func.pg_get_serial_sequence(f'"{table.name}"', column.name)
    connection.execute(select(func.setval(sequence, last or 1, last is not None)))

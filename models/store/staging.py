"""Temporary tables: what a merge works with is put there first, so that the database can do the rest in sets."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Boolean, Column, Connection, Integer, LargeBinary, MetaData, Table, Text, exc
from sqlalchemy.schema import CreateTable

from models.hashing import content_hash, storable
from models.types import UtcDateTime
from models.versioned import VersionedTable

MANY = 1000
"""Rows from which on it pays to tidy up behind a merge on PostgreSQL."""

_COPY_TYPES: tuple[tuple[type[Any], str], ...] = (
    (UtcDateTime, "timestamptz"),
    (Text, "text"),
    (Boolean, "bool"),
    (Integer, "int4"),
    (LargeBinary, "bytea"),
)


@cache
def stage_table(model: type[VersionedTable]) -> Table:
    """Where a facet's facts are staged: its natural key, values and content hash."""
    source = model.table()
    return _temporary(
        f"stage_{source.name}",
        *(
            Column(name, source.c[name].type, primary_key=name in model.natural_key, autoincrement=False)
            for name in (*model.value_columns(), "content")
        ),
    )


@cache
def listing_table(model: type[VersionedTable]) -> Table:
    """Where the complete listings of a facet are staged."""
    source = model.table()
    return _temporary(f"cover_{source.name}", *(Column(name, source.c[name].type) for name in model.listing_key))


@cache
def closed_table(parent: type[VersionedTable], own: str) -> Table:
    """Where the facts are staged that have just ended and that others describe."""
    source = parent.table()
    return _temporary(f"ended_{source.name}", Column(own, source.c[own].type))


def stage_facts(
    connection: Connection, model: type[VersionedTable], portions: Iterable[Iterable[Mapping[str, Any]]]
) -> bool:
    """Put facts into their temporary table, instead of those that were there; whether there are any.

    There is one for each natural key: the last one given of a portion, and the first portion's that has it. What is
    staged is on disk as soon as it is much: no more than a portion is held.
    """
    staged = stage_table(model)
    natural_key = [index for index, column in enumerate(staged.columns) if column.name in model.natural_key]
    found = False
    for number, portion in enumerate(portions):
        rows = stage_rows(model, portion, connection.dialect.name)
        if len(rows) > MANY:
            # Neighbours in the indexes come together: an index that is larger than memory is else read for each row.
            rows.sort(key=lambda row: tuple(row[index] for index in natural_key))
        found = found or bool(rows)
        if number:
            stage_more(connection, staged, rows)
        else:
            stage(connection, staged, rows)
    return found


def stage_more(connection: Connection, staged: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Put rows into a temporary table beside those that are there, which win where a key is the same."""
    names = _names(staged)
    if connection.dialect.name == "postgresql":
        # COPY knows no conflicts.
        beside = _beside(staged)
        stage(connection, beside, rows)
        connection.exec_driver_sql(
            f'INSERT INTO "{staged.name}" ({names}) SELECT {names} FROM "{beside.name}" ON CONFLICT DO NOTHING'
        )
        connection.exec_driver_sql(f'ANALYZE "{staged.name}"')
    elif rows:
        marks = ", ".join("?" * len(staged.columns))
        connection.exec_driver_sql(f'INSERT OR IGNORE INTO "{staged.name}" ({names}) VALUES ({marks})', list(rows))
    connection.info[staged] = connection.info.get(staged, 0) + len(rows)


def stage(connection: Connection, staged: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Put rows into a temporary table, instead of those that were there."""
    postgresql = connection.dialect.name == "postgresql"
    connection.exec_driver_sql(_creation(staged, connection))
    # PostgreSQL tidies up deleted rows of temporary tables only when it is told to; truncating one takes milliseconds, so
    # it is done once in a while.
    used = connection.info.get(staged, 0)
    if postgresql and used > MANY:
        connection.exec_driver_sql(f'TRUNCATE "{staged.name}"')
        used = 0
    else:
        connection.exec_driver_sql(f'DELETE FROM "{staged.name}"')
    connection.info[staged] = used + len(rows)
    if not rows:
        return
    names = _names(staged)
    if postgresql:
        _copy(connection, staged, names, rows)
        # Without figures the planner takes a temporary table for a big one, and reads the whole ledger to join with it.
        keys = ", ".join(f'"{column.name}"' for column in staged.primary_key or staged.columns)
        connection.exec_driver_sql(f'ANALYZE "{staged.name}" ({keys})')
    else:
        marks = ", ".join("?" * len(staged.columns))
        connection.exec_driver_sql(f'INSERT INTO "{staged.name}" ({names}) VALUES ({marks})', list(rows))


def prefer_index_scans(connection: Connection) -> None:
    """Have PostgreSQL look staged rows up, for the rest of the transaction.

    It reckons with disks on which an index pays for one row in hundreds only; a night of many scopes would read the whole
    ledger for each few of them.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL random_page_cost = 1.1")


def count_written(connection: Connection, target: Table, rows: int) -> None:
    """Have PostgreSQL look at a table again each time that this connection has doubled what it wrote there.

    Until it has, it takes the open versions for one in two hundred, and reads all of them rather than an index. Its own
    look-outs come round once a minute, too late for a first crawl.
    """
    if connection.dialect.name != "postgresql" or not rows:
        return
    written, due = connection.info.get(target, (0, MANY))
    written += rows
    if written >= due:
        connection.exec_driver_sql(f'ANALYZE "{target.name}"')
        due = 2 * written
    connection.info[target] = (written, due)


def stage_rows(model: type[VersionedTable], rows: Iterable[Mapping[str, Any]], dialect: str) -> list[tuple[Any, ...]]:
    """Facts as rows for :func:`stage`: one for each natural key (the last one given), with the hash of its content."""
    names = model.value_columns()
    natural_key = [names.index(name) for name in model.natural_key]
    hashed = [
        index for index, name in enumerate(names) if name not in model.natural_key and name not in model.ignored_columns
    ]
    columns = model.table().c
    texts = [index for index, name in enumerate(names) if isinstance(columns[name].type, Text)]
    times = [index for index, name in enumerate(names) if isinstance(columns[name].type, UtcDateTime)]
    binary = [index for index, name in enumerate(names) if isinstance(columns[name].type, LargeBinary)]
    written: Callable[[dt.datetime], Any] = _sqlite_time if dialect == "sqlite" else lambda time: time
    unique: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for row in rows:
        values = [row[name] for name in names]
        for index in texts:
            value = values[index]
            if value is not None and (type(value) is not str or "\0" in value or not value.isascii()):
                values[index] = storable(value)
        for index in times:
            if values[index] is not None:
                values[index] = _utc(values[index])
        content = [values[index] for index in hashed]
        if binary:
            content = [value.hex() if isinstance(value, bytes) else value for value in content]
        digest = content_hash(content)
        for index in times:
            if values[index] is not None:
                values[index] = written(values[index])
        unique[tuple(values[index] for index in natural_key)] = (*values, digest)
    return list(unique.values())


def stage_listings(covers: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Names of complete listings as rows for :func:`stage`."""
    return [tuple(storable(one) if isinstance(one, str) else one for one in listing_key) for listing_key in covers]


@cache
def _beside(staged: Table) -> Table:
    return _temporary(f"more_{staged.name}", *(Column(column.name, column.type) for column in staged.columns))


def _names(staged: Table) -> str:
    return ", ".join(f'"{column.name}"' for column in staged.columns)


def _temporary(name: str, *columns: Column[Any]) -> Table:
    return Table(name, MetaData(), *columns, prefixes=["TEMPORARY"])


def _creation(staged: Table, connection: Connection) -> str:
    key = (staged, connection.dialect.name)
    if key not in _CREATIONS:
        _CREATIONS[key] = str(CreateTable(staged, if_not_exists=True).compile(dialect=connection.dialect))
    return _CREATIONS[key]


_CREATIONS: dict[tuple[Table, str], str] = {}


def _copy(connection: Connection, staged: Table, names: str, rows: Sequence[tuple[Any, ...]]) -> None:
    driver = connection.dialect.loaded_dbapi
    statement = f'COPY "{staged.name}" ({names}) FROM STDIN (FORMAT BINARY)'
    try:
        cursor: Any = connection.connection.cursor()
        with cursor, cursor.copy(statement) as copy:
            copy.set_types([_copy_type(column) for column in staged.columns])
            for row in rows:
                copy.write_row(row)
    except driver.Error as error:
        # COPY goes past SQLAlchemy, whose callers know its errors only.
        raise exc.DatabaseError(statement, None, error) from error


def _copy_type(column: Column[Any]) -> str:
    return next(name for kind, name in _COPY_TYPES if isinstance(column.type, kind))


def _utc(value: dt.datetime) -> dt.datetime:
    if value.tzinfo is None:
        raise ValueError(f"a time without a zone cannot be stored: {value!r}")
    return value.astimezone(dt.UTC)


def _sqlite_time(value: dt.datetime) -> str:
    """As SQLAlchemy writes times into SQLite, which is filled past it, for speed."""
    return value.replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")

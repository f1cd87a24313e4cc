"""Temporary tables that hold the input of a merge, so that the merge runs as set-based statements."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Boolean, Column, Connection, Dialect, Integer, LargeBinary, MetaData, Table, Text, exc
from sqlalchemy.schema import CreateTable

from models.hashing import content_hash, storable
from models.types import UtcDateTime, utc
from models.versioned import VersionedTable

MANY = 1000
"""Rows from which sorting, truncating and analyzing pay off."""

_COPY_TYPES: tuple[tuple[type[Any], str], ...] = (
    (UtcDateTime, "timestamptz"),
    (Text, "text"),
    (Boolean, "bool"),
    (Integer, "int4"),
    (LargeBinary, "bytea"),
)


@cache
def stage_table(model: type[VersionedTable]) -> Table:
    """The staging table for the facts of a table: natural key, values and content hash."""
    source = model.table()
    return _temporary(
        f"stage_{source.name}",
        *(
            Column(name, source.c[name].type, primary_key=name in model.natural_key, autoincrement=False)
            for name in (*model.value_columns(), "content_hash")
        ),
    )


@cache
def listing_table(model: type[VersionedTable]) -> Table:
    """The staging table for the complete listings of a table."""
    source = model.table()
    return _temporary(f"listing_{source.name}", *(Column(name, source.c[name].type) for name in model.listing_key))


@cache
def closed_table(parent: type[VersionedTable], own: str) -> Table:
    """The staging table for parents that were just closed."""
    source = parent.table()
    return _temporary(f"closed_{source.name}", Column(own, source.c[own].type))


def stage_facts(
    connection: Connection, model: type[VersionedTable], chunks: Iterable[Iterable[Mapping[str, Any]]]
) -> bool:
    """Replace the content of the staging table with facts; returns whether there are any.

    Duplicate natural keys: the last fact of a chunk and the first chunk win. Only one chunk is in memory at a time.
    """
    staged = stage_table(model)
    natural_key = [index for index, column in enumerate(staged.columns) if column.name in model.natural_key]
    any_rows = False
    for number, chunk in enumerate(chunks):
        rows = stage_rows(model, chunk, connection.dialect.name)
        if len(rows) > MANY:
            # In index order: otherwise an index larger than memory is read anew for each row.
            rows.sort(key=lambda row: tuple(row[index] for index in natural_key))
        any_rows = any_rows or bool(rows)
        if number:
            stage_more(connection, staged, rows)
        else:
            stage(connection, staged, rows)
    return any_rows


def stage_more(connection: Connection, staged: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Add rows to a temporary table; existing rows win over new ones with the same key."""
    if connection.dialect.name == "postgresql":
        # COPY cannot ignore conflicts.
        names, extra = _names(staged), _extra(staged)
        stage(connection, extra, rows)
        connection.exec_driver_sql(
            f'INSERT INTO "{staged.name}" ({names}) SELECT {names} FROM "{extra.name}" ON CONFLICT DO NOTHING'
        )
        connection.exec_driver_sql(f'ANALYZE "{staged.name}"')
    elif rows:
        _insert(connection, staged, rows)
    connection.info[staged] = connection.info.get(staged, 0) + len(rows)


def stage(connection: Connection, staged: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Replace the content of a temporary table with rows."""
    postgresql = connection.dialect.name == "postgresql"
    connection.exec_driver_sql(_creation(staged, connection.dialect))
    # PostgreSQL does not vacuum temporary tables by itself. TRUNCATE removes dead rows but takes milliseconds, so it runs
    # only after many rows.
    used = connection.info.get(staged, 0)
    if postgresql and used > MANY:
        connection.exec_driver_sql(f'TRUNCATE "{staged.name}"')
        used = 0
    else:
        connection.exec_driver_sql(f'DELETE FROM "{staged.name}"')
    connection.info[staged] = used + len(rows)
    if not rows:
        return
    if postgresql:
        _copy(connection, staged, rows)
        # Without statistics the planner assumes a big temporary table and reads the whole ledger to join it.
        keys = ", ".join(f'"{column.name}"' for column in staged.primary_key or staged.columns)
        connection.exec_driver_sql(f'ANALYZE "{staged.name}" ({keys})')
    else:
        _insert(connection, staged, rows)


def prefer_index_scans(connection: Connection) -> None:
    """Make PostgreSQL prefer index scans for the rest of the transaction.

    Its default costs assume slow random reads, so that a run with many scopes would scan the whole ledger once per few
    scopes.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL random_page_cost = 1.1")


def count_written(connection: Connection, target: Table, rows: int) -> None:
    """Make PostgreSQL analyze a table each time this connection has doubled the number of rows it wrote there.

    Without statistics the planner estimates one open version in two hundred rows and scans the table instead of the index.
    Autovacuum runs once a minute, too late for a first crawl.
    """
    if connection.dialect.name != "postgresql" or not rows:
        return
    written, threshold = connection.info.get(target, (0, MANY))
    written += rows
    if written >= threshold:
        connection.exec_driver_sql(f'ANALYZE "{target.name}"')
        threshold = 2 * written
    connection.info[target] = (written, threshold)


def stage_rows(model: type[VersionedTable], rows: Iterable[Mapping[str, Any]], dialect: str) -> list[tuple[Any, ...]]:
    """Facts as rows for :func:`stage`, with content hash; the last fact of each natural key wins."""
    names = model.value_columns()
    natural_key = [names.index(name) for name in model.natural_key]
    hashed = [
        index for index, name in enumerate(names) if name not in model.natural_key and name not in model.ignored_columns
    ]
    columns = model.table().c
    texts = [index for index, name in enumerate(names) if isinstance(columns[name].type, Text)]
    times = [index for index, name in enumerate(names) if isinstance(columns[name].type, UtcDateTime)]
    binary = [index for index, name in enumerate(names) if isinstance(columns[name].type, LargeBinary)]
    convert: Callable[[dt.datetime], Any] = _sqlite_time if dialect == "sqlite" else lambda time: time
    unique: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for row in rows:
        values = [row[name] for name in names]
        for index in texts:
            value = values[index]
            if value is not None and (type(value) is not str or "\0" in value or not value.isascii()):
                values[index] = storable(value)
        for index in times:
            if values[index] is not None:
                values[index] = utc(values[index])
        content = [values[index] for index in hashed]
        if binary:
            content = [value.hex() if isinstance(value, bytes) else value for value in content]
        digest = content_hash(content)
        for index in times:
            if values[index] is not None:
                values[index] = convert(values[index])
        unique[tuple(values[index] for index in natural_key)] = (*values, digest)
    return list(unique.values())


def keys_to_stage(model: type[VersionedTable], natural_keys: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Natural keys as rows for :func:`stage_more`, without values."""
    names = [column.name for column in stage_table(model).columns]
    keys = [dict(zip(model.natural_key, key, strict=True)) for key in natural_keys]
    return [tuple(key.get(name) for name in names) for key in keys]


@cache
def _extra(staged: Table) -> Table:
    return _temporary(f"extra_{staged.name}", *(Column(column.name, column.type) for column in staged.columns))


def _names(staged: Table) -> str:
    return ", ".join(f'"{column.name}"' for column in staged.columns)


def _temporary(name: str, *columns: Column[Any]) -> Table:
    return Table(name, MetaData(), *columns, prefixes=["TEMPORARY"])


@cache
def _creation(staged: Table, dialect: Dialect) -> str:
    return str(CreateTable(staged, if_not_exists=True).compile(dialect=dialect))


def _insert(connection: Connection, staged: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    marks = ", ".join("?" * len(staged.columns))
    connection.exec_driver_sql(f'INSERT OR IGNORE INTO "{staged.name}" ({_names(staged)}) VALUES ({marks})', list(rows))


def _copy(connection: Connection, staged: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    driver = connection.dialect.loaded_dbapi
    statement = f'COPY "{staged.name}" ({_names(staged)}) FROM STDIN (FORMAT BINARY)'
    try:
        cursor: Any = connection.connection.cursor()
        with cursor, cursor.copy(statement) as copy:
            copy.set_types([_copy_type(column) for column in staged.columns])
            for row in rows:
                copy.write_row(row)
    except driver.Error as error:
        # COPY bypasses SQLAlchemy, and callers expect its errors.
        raise exc.DatabaseError(statement, None, error) from error


def _copy_type(column: Column[Any]) -> str:
    return next(name for kind, name in _COPY_TYPES if isinstance(column.type, kind))


def _sqlite_time(value: dt.datetime) -> str:
    """A time in the format of SQLAlchemy, which is bypassed for speed."""
    return value.replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")

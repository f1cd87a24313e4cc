"""Opens the mart for readers: read-only, without access to anything outside the file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from reports.connections import new_connection
from reports.mart.errors import MartError

CATALOG = "mart"
_MIN_MEMORY, _MAX_MEMORY, _RESERVE = 180_000_000, 2_500_000_000, 200_000_000
_THREAD_MEMORY = 75_000_000
"""Each of DuckDB's threads has its own buffers: with 16 of them, 300 MB do not suffice for what two compute in 150 MB."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The resources that the queries of a connection may use, besides the mart's file."""

    memory: int | None = 4_000_000_000
    """In bytes. A query that needs more fails, unless it may spill to disk. None: DuckDB's default, 80 % of the memory."""
    spill: Path | None = None
    """The directory for data that does not fit into memory, at most ``spill_size``; None: nothing is written to disk."""
    spill_size: str = "20GB"
    output: Path | None = None
    """The one file that may be written, by :func:`reports.mart.query.write_parquet`."""
    folder: Path | None = None
    """The one directory below which files may be read and written: for our own queries, never for a user's."""

    def apply(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Set the limits on a connection that is not locked yet."""
        if self.memory is not None:
            limit_memory(connection, self.memory)
        # Otherwise DuckDB spills into a directory .tmp in the working directory.
        connection.execute(f"SET temp_directory = {quoted(str(self.spill.absolute()) if self.spill else '')}")
        if self.spill:
            connection.execute(f"SET max_temp_directory_size = {quoted(self.spill_size)}")
        if self.output:
            connection.execute(f"SET allowed_paths = [{quoted(str(self.output))}]")
        if self.folder:
            named = f"{quoted(str(self.folder))}, {quoted(literal(self.folder))}"
            connection.execute(f"SET allowed_directories = [{named}]")


def working_memory(size: int, least: int = 0) -> int:
    """The bytes that DuckDB may use for a database of ``size`` bytes, if it may spill to disk.

    Not everything can be spilled: a caller that sets this limit repeats without it what raises OutOfMemoryException.
    """
    return min(max(size // 2 - _RESERVE, least, _MIN_MEMORY), _MAX_MEMORY)


def limit_memory(connection: duckdb.DuckDBPyConnection, memory: int) -> None:
    """Limit DuckDB to this memory (bytes), and to as many threads as can work in it."""
    connection.execute(f"SET memory_limit = '{memory:d}B'")
    (threads,) = fetch_one(connection, "SELECT current_setting('threads')")  # one for each processor
    connection.execute(f"SET threads = {max(1, min(threads, memory // _THREAD_MEMORY)):d}")


def quoted(text: str) -> str:
    """An SQL text literal, for the statements that take no parameters (ATTACH, COMMENT)."""
    return "'" + text.replace("'", "''") + "'"


def literal(path: Path) -> str:
    """A path escaped for DuckDB functions that accept glob patterns."""
    return re.sub(r"([*?\[])", r"[\1]", str(path))


def connect(path: Path, limits: Limits | None = None) -> duckdb.DuckDBPyConnection:
    """Open a mart for reading. The connection does not see a mart that replaces the file later.

    Queries cannot write, read other files, load extensions or lift these restrictions. Without ``limits``, DuckDB's defaults
    apply. Raises MartError.
    """
    connection = attached(path, CATALOG)
    connection.execute(f"USE {CATALOG}")
    locked(connection, limits)
    return connection


def attached(path: Path, catalog: str) -> duckdb.DuckDBPyConnection:
    """A new read-only connection with a mart attached as a catalog, not locked yet."""
    if not path.exists():
        raise MartError(f"there is no mart at {path}: run `kmsledger crawl` first, or `kmsledger mart` to rebuild it")
    connection = new_connection()
    try:
        # A fixed catalog name, because the file can have any name. A new instance opens the current file.
        connection.execute(f"ATTACH {quoted(str(path))} AS {catalog} (READ_ONLY)")
    except duckdb.Error as error:
        connection.close()
        cause = str(error).strip().splitlines()[0]
        raise MartError(f"{path} cannot be opened as a mart: {cause}; rebuild it with `kmsledger mart`") from error
    return connection


def locked(connection: duckdb.DuckDBPyConnection, limits: Limits | None = None) -> None:
    """Permanently restrict a connection to attached files and the paths in the limits."""
    if limits:
        limits.apply(connection)
    connection.execute("SET secret_directory = ''")  # otherwise a query can read the user's home directory from it
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def fetch_one(duck: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    """The only row of a query. Reads the result to its end: unread rows would keep the connection busy."""
    (row,) = duck.execute(query).fetchall()
    return tuple(row)

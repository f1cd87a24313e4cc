"""The mart as its readers open it: read-only, and without a way out of the file."""

from __future__ import annotations

from pathlib import Path

import duckdb

from reports.mart.errors import MartError

CATALOG = "mart"


def quoted(text: str) -> str:
    """An SQL text literal, for the statements that take no parameters (ATTACH, COMMENT)."""
    return "'" + text.replace("'", "''") + "'"


def connect(path: Path) -> duckdb.DuckDBPyConnection:
    """Open a mart for reading, as the file is now: a mart that replaces it later is not seen by this connection.

    Queries can neither write, nor read other files, nor load extensions, nor change that.
    """
    connection = attached(path, CATALOG)
    connection.execute(f"USE {CATALOG}")
    locked(connection)
    return connection


def attached(path: Path, catalog: str) -> duckdb.DuckDBPyConnection:
    """A new connection to a mart under the name of a catalog, read-only, not yet locked."""
    if not path.exists():
        raise MartError(f"there is no mart at {path}: run `kmsledger crawl` first, or `kmsledger mart` to rebuild it")
    connection = duckdb.connect()
    try:
        # A fixed name inside: the file's own could be anything. A new instance sees the file that is there now.
        connection.execute(f"ATTACH {quoted(str(path))} AS {catalog} (READ_ONLY)")
    except duckdb.Error as error:
        connection.close()
        cause = str(error).strip().splitlines()[0]
        raise MartError(f"{path} cannot be opened as a mart: {cause}; rebuild it with `kmsledger mart`") from error
    return connection


def locked(connection: duckdb.DuckDBPyConnection) -> None:
    """Let a connection reach nothing but what is attached, for good."""
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")

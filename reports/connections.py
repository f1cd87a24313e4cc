"""Opens DuckDB connections whose queries end with Ctrl-C and SIGTERM."""

from __future__ import annotations

import threading
from weakref import WeakSet

import duckdb

from models.interruption import on_interrupt


def new_connection() -> duckdb.DuckDBPyConnection:
    """A connection to a new, empty database in memory."""
    on_interrupt(_interrupt_queries)
    connection = _interruptible(duckdb.connect())
    # DuckDB mistakes a program without a file of its own (a spawned process) for a notebook, and prints a progress bar.
    connection.execute("SET enable_progress_bar = false")
    # This optimizer loses rows of a UNION ALL: issues 24624, 25170 and 25819 of DuckDB. Early versions do not have it.
    for (name,) in connection.execute("SELECT name FROM duckdb_optimizers() WHERE name = 'common_subplan'").fetchall():
        connection.execute(f"SET disabled_optimizers = '{name}'")
    return connection


def new_cursor(connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """A second connection to the same database. It starts in the database's default catalog."""
    return _interruptible(connection.cursor())


# DuckDB notices Ctrl-C in the main thread only, and then waits for its other threads, which continue with the query.
_connections: WeakSet[duckdb.DuckDBPyConnection] = WeakSet()
_lock = threading.RLock()  # reentrant: the signal can arrive while the main thread holds it


def _interruptible(connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    with _lock:
        _connections.add(connection)
    return connection


def _interrupt_queries() -> None:
    with _lock:
        connections = list(_connections)
    for connection in connections:
        try:
            connection.interrupt()
        except duckdb.ConnectionException:
            continue  # it is closed

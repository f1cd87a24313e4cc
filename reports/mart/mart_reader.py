"""Opens the mart for reading, as of its own run or an earlier one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from reports.mart.connection import Limits, connect

if TYPE_CHECKING:
    import duckdb

    from reports.mart.as_of import RunRef


def open_mart(
    path: Path, as_of: str | None = None, *, limits: Limits | None = None, stored: bool = False
) -> tuple[duckdb.DuckDBPyConnection, RunRef | None]:
    """A locked connection, and the run if ``as_of`` names one (see :func:`reports.mart.as_of_connection.connect`).

    Raises MartError or QueryError.
    """
    if as_of is None:
        return connect(path, limits), None
    from reports.mart import as_of_connection  # it loads the ledger's tables and with them SQLAlchemy

    return as_of_connection.connect(path, as_of, stored=stored, limits=limits)


def open_stating_run(path: Path, as_of: str | None, limits: Limits | None = None) -> duckdb.DuckDBPyConnection:
    """A locked connection for a command; names the run on standard error if ``as_of`` selects one."""
    connection, run = open_mart(path, as_of, limits=limits)
    if run:
        click.echo(f"as of {run}", err=True)
    return connection

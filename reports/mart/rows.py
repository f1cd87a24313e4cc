"""A single row of an answer."""

from __future__ import annotations

from typing import Any

import duckdb


def one(duck: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    """The only row of a query, read to its end: an unread rest would keep the connection busy."""
    (row,) = duck.execute(query).fetchall()
    return tuple(row)

"""The seam between the mart and the packages above it: tables that the mart's views read and that extensions fill."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import duckdb

from reports.mart.json_load import load_rows

TABLES: Final = {
    "rule": (
        "rule_id VARCHAR, title VARCHAR, severity VARCHAR, family VARCHAR, frameworks VARCHAR[], why VARCHAR, fix VARCHAR, "
        "console VARCHAR, cli VARCHAR, terraform VARCHAR, parameters VARCHAR"
    ),
    "framework_control": (
        "framework VARCHAR, framework_title VARCHAR, version VARCHAR, source VARCHAR, checked DATE, position INTEGER, "
        "control VARCHAR, title VARCHAR, rule_id VARCHAR"
    ),
    "waiver": (
        "waiver VARCHAR, rule_id VARCHAR, resource VARCHAR, account_id VARCHAR, tag VARCHAR, description VARCHAR, "
        "reason VARCHAR, ticket VARCHAR, owner VARCHAR, "
        "expires DATE, include_unknown BOOLEAN, source VARCHAR, waived_count INTEGER, unknown_count INTEGER, run_id INTEGER"
    ),
    "owner": "position INTEGER, tag VARCHAR, account_id VARCHAR, ou VARCHAR, owner VARCHAR",
    "vendor_check": (
        "run_id INTEGER, profile VARCHAR, vendor VARCHAR, subject_type VARCHAR, check_name VARCHAR, result VARCHAR, "
        "severity VARCHAR, "
        "reason VARCHAR, account_id VARCHAR, account_name VARCHAR, region VARCHAR, key_arn VARCHAR, key_alias VARCHAR, "
        "subject VARCHAR, fix VARCHAR, statement VARCHAR, evidence VARCHAR, deadline TIMESTAMP, required VARCHAR, "
        "since TIMESTAMP"
    ),
}
"""Columns of the tables in schema ``internal`` that extensions fill. Empty tables are valid: the views then return no rows."""


class Extension:
    """Adds facts to a mart while it is built; a subclass overrides the steps that it needs."""

    __slots__ = ()

    def prepare(self, duck: duckdb.DuckDBPyConnection) -> None:
        """Fill tables that do not depend on the views. Runs before the views are created."""

    def create(self, duck: duckdb.DuckDBPyConnection, run_id: int) -> None:
        """Fill tables from the views as of a run. Runs after the views are created."""


def create_tables(duck: duckdb.DuckDBPyConnection, names: Iterable[str] = TABLES) -> None:
    """Create the tables empty, in place of existing ones."""
    for name in names:
        duck.execute(f"CREATE OR REPLACE TABLE internal.{name} ({TABLES[name]})")


def fill(duck: duckdb.DuckDBPyConnection, name: str, rows: Iterable[dict[str, Any]]) -> None:
    """Create one of these tables from its rows."""
    load_rows(duck, name, TABLES[name], rows)

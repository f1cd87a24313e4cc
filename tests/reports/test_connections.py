"""DuckDB connections: what they set for every query."""

from __future__ import annotations

from reports.connections import new_connection, new_cursor


def test_the_optimizer_that_loses_rows_is_off() -> None:
    """No connection uses the optimizer of common subplans (DuckDB issues 24624, 25170 and 25819); all others are on."""
    with new_connection() as connection:
        disabled = "SELECT current_setting('disabled_optimizers')"
        assert new_cursor(connection).execute(disabled).fetchall() == [("common_subplan",)]


def test_no_connection_prints_a_progress_bar() -> None:
    """The process of users' rules prints none either, into the output of `kmsledger mart`."""
    with new_connection() as connection:
        enabled = "SELECT current_setting('enable_progress_bar')"
        assert new_cursor(connection).execute(enabled).fetchall() == [(False,)]

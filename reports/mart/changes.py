"""The changes from run to run, from the versions that ended or began in each run; set-based, for the whole ledger at once.

A version that ended and another of the same fact that began in the same run are a change; one alone is a removal or an
addition. What is learned for the first time is not an addition: the first crawl of an account and region, and what had been
refused since the key was first seen.
"""

from __future__ import annotations

from importlib import resources

import duckdb


def create(duck: duckdb.DuckDBPyConnection) -> None:
    """Fill ``ledger.change`` from the history in schema ``ledger``."""
    folder = resources.files("reports.mart").joinpath("deltas")
    for file in sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name):
        duck.execute(file.read_text(encoding="utf-8"))

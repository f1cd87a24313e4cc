"""Gives the first mart of a test the schema of one that the test run has built: creating views takes longer than loading.

A full build copies the schema of an earlier mart of the same program version; `tests/reports/mart/test_build.py` compares
such a mart with one that was built from nothing.
"""

from __future__ import annotations

import datetime as dt
import shutil
import tempfile
from functools import cache
from pathlib import Path

from sqlalchemy import insert

from models.settings import Settings
from models.store.engine import connect
from models.tables import Run
from reports.mart.build import build
from tests.made_once import shared_file
from tests.reports.empty_ledger import create_ledger


def offer_schema(mart: Path) -> None:
    """Put the mart of another, empty ledger where the first mart will be published."""
    if not mart.exists() and mart.parent.is_dir():
        mart.write_bytes(_empty_mart())


@cache
def _empty_mart() -> bytes:

    def make(file: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            url, mart = f"sqlite:///{folder}/ledger.db", Path(folder) / "mart.duckdb"
            create_ledger(url)
            engine = connect(url)
            now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
            with engine.begin() as connection:
                connection.execute(insert(Run).values(started_at=now, finished_at=now, status="complete", version=""))
            engine.dispose()
            build(url, mart, Settings.model_validate({"database": url, "report": {"mart": mart}}))
            shutil.copyfile(mart, file)

    return shared_file("empty-mart.duckdb", make)

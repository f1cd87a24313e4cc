"""A redacted copy of a ledger, from which reports and marts are made that leave the organization."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import func, update

from models.settings import Settings
from models.store.engine import connect as connect_ledger
from models.store.migrate_data import copy
from models.tables.organization import Account
from reports.html.registry import REPORTS, write
from reports.mart.connection import connect
from reports.pipeline import refresh
from tests.reports.ledger_builder import settings_of
from tests.reports.sample_ledger import sample_ledger


@pytest.fixture(scope="module")
def redacted(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a redacted copy and its mart; each account of the source has a name and an address with ``zebra``."""
    folder = tmp_path_factory.mktemp("redacted")
    sample_ledger(folder / "source.db")
    engine = connect_ledger(f"sqlite:///{folder / 'source.db'}")
    with engine.begin() as connection:
        name = "Zebra " + func.coalesce(Account.name, "")
        connection.execute(update(Account).values(name=name, email="aws@zebra.example", ou_path="/Zebras"))
    engine.dispose()
    settings = settings_of(database=f"sqlite:///{folder / 'copy.db'}", report={"mart": folder / "copy.duckdb"})
    copy(f"sqlite:///{folder / 'source.db'}", settings.database, redact=True)
    refresh(settings)
    return settings


def test_no_table_of_the_mart_has_a_name(redacted: Settings) -> None:
    """Neither the tables nor the views have a name or address of an account, while keys and findings are there."""
    with connect(redacted.report.mart) as mart:
        tables = mart.execute(
            "SELECT schema_name, table_name FROM duckdb_tables() UNION ALL "
            "SELECT schema_name, view_name FROM duckdb_views() WHERE NOT internal"
        ).fetchall()
        assert len(tables) > 50
        for schema, table in tables:
            found = mart.execute(
                f'SELECT count(*) FROM "{schema}"."{table}" t WHERE t::VARCHAR ILIKE \'%zebra%\''
            ).fetchone()
            assert found == (0,), table
        assert mart.execute("SELECT count(*) FROM keys WHERE account_name LIKE 'redacted-%'").fetchone() != (0,)
        assert mart.execute("SELECT count(*) FROM findings").fetchone() != (0,)


def test_reports_show_pseudonyms(redacted: Settings, tmp_path: Path) -> None:
    """The reports are written as usual, with pseudonyms in the places of the names."""
    for path in write(REPORTS, redacted.report.mart, tmp_path, redacted):
        page = path.read_text(encoding="utf-8")
        assert "zebra" not in page.lower()
        assert "redacted-" in page

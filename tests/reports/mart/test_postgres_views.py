"""The views in a real PostgreSQL return the same rows as the mart."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner

from models.settings import Settings
from reports.mart import postgres_views
from reports.mart.cli import postgresql
from reports.mart.connection import connect
from reports.mart.errors import MartError
from reports.mart.schema import declared
from reports.pipeline import refresh
from tests import postgres as server
from tests.reports.ledger_builder import settings_of
from tests.reports.sample_ledger import sample_world, second_run, third_run


@pytest.fixture(scope="module")
def settings(
    postgresql_server: str, postgresql_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    """The sample organization's three runs in PostgreSQL, its mart, and the views."""
    folder = tmp_path_factory.mktemp("postgres")
    with server.database(postgresql_server, template=postgresql_template) as url:
        world = sample_world(folder / "unused.db")
        world.url = url
        world.crawl()
        second_run(world)
        world.crawl()
        third_run(world)
        world.crawl()
        settings = settings_of(database=url, report={"mart": folder / "mart.duckdb"})
        refresh(settings)
        postgres_views.create(url)
        yield settings


def plain(rows: list[tuple[Any, ...]]) -> list[str]:
    return sorted(repr(tuple(_plain(value) for value in row)) for row in rows)


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value


@pytest.mark.parametrize("name", [name for name, _ in postgres_views.selects()])
def test_each_view_has_the_rows_of_the_mart(name: str, settings: Settings) -> None:
    """Views have the columns, order and values of the mart, times in UTC without a zone, and at least one row."""
    with psycopg.connect(settings.database) as connection:
        found = connection.execute(f'SELECT * FROM kmsledger."{name}"'.encode())
        names = [column.name for column in found.description or ()]
        rows = found.fetchall()
    with connect(settings.report.mart) as mart:
        expected = mart.execute(f"SELECT * FROM {name}")
        assert names == [column[0] for column in expected.description or ()]
        assert plain(rows) == plain(expected.fetchall())
    assert rows or name.startswith(("iam_", "resource_policies", "resource_tags"))
    assert not any(isinstance(value, dt.datetime) and value.tzinfo for row in rows for value in row)


def test_a_reader_needs_no_rights_on_the_ledger(settings: Settings) -> None:
    """A role with the documented grants reads every view, and nothing else."""
    with psycopg.connect(settings.database, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS kmsledger_test_reader")
        connection.execute("CREATE ROLE kmsledger_test_reader")
        connection.execute("GRANT USAGE ON SCHEMA kmsledger TO kmsledger_test_reader")
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA kmsledger TO kmsledger_test_reader")
        connection.execute("SET ROLE kmsledger_test_reader")
        for name, _ in postgres_views.selects():
            connection.execute(f'SELECT * FROM kmsledger."{name}"'.encode())
        for query in (b"SELECT * FROM public.run", b"DELETE FROM kmsledger.runs", b"SELECT * FROM kmsledger_base.run"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(query)
        connection.execute("RESET ROLE")
        connection.execute("DROP OWNED BY kmsledger_test_reader")
        connection.execute("DROP ROLE kmsledger_test_reader")


def test_views_and_columns_are_described(settings: Settings) -> None:
    """PostgreSQL shows the same texts as the data dictionary."""
    described = {relation.name: relation for relation in declared()}
    query = (
        "SELECT c.relname, obj_description(c.oid), a.attname, col_description(c.oid, a.attnum) FROM pg_class c "
        "JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid "
        "WHERE n.nspname = 'kmsledger' AND a.attnum > 0"
    )
    with psycopg.connect(settings.database) as connection:
        rows = connection.execute(query).fetchall()
    assert {row[0] for row in rows} == {name for name, _ in postgres_views.selects()}
    for name, about, column, meaning in rows:
        assert about == described[name].about
        assert meaning == next(one.about for one in described[name].columns if one.name == column)


def test_creating_them_again_replaces_them(settings: Settings) -> None:
    """An upgrade replaces the views and leaves none of the old ones."""
    assert postgres_views.create(settings.database) == len(list(postgres_views.selects()))


def test_only_postgresql_has_them(tmp_path: Path) -> None:
    """A ledger in SQLite is rejected with one line."""
    with pytest.raises(MartError, match="not in PostgreSQL"):
        postgres_views.create(f"sqlite:///{tmp_path / 'ledger.db'}")


def test_the_document_lists_them() -> None:
    """docs/postgresql.md names every view, and the command prints its SQL."""
    document = (Path(__file__).parents[3] / "docs" / "postgresql.md").read_text(encoding="utf-8")
    there = document.split("Not there:")[0]
    assert all(f"`{name}`" in there for name in postgres_views.VIEWS)
    printed = CliRunner().invoke(postgresql, ["--print"]).output
    assert printed.count("CREATE VIEW kmsledger.") == len(list(postgres_views.selects()))

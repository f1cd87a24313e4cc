"""The schema comes from the migrations alone, on both engines, and no program works with a schema it does not know."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine, inspect, text

from models import database
from models.base import Base
from models.database import DatabaseError, check, connect, current, head, upgrade
from models.tables import facets


@pytest.fixture
def bare(bare_url: str) -> Iterator[Engine]:
    engine = connect(bare_url)
    yield engine
    engine.dispose()


def tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names())


def downgrade(connection: Connection, revision: str) -> None:
    config = database._config()
    config.attributes["connection"] = connection
    command.downgrade(config, revision)


def upgrade_at(url: str, start: multiprocessing.synchronize.Event) -> None:
    start.wait()
    engine = connect(url)
    upgrade(engine)
    check(engine)
    engine.dispose()


def test_the_migrations_make_what_the_models_say(ledger: Engine) -> None:
    """Tables, columns, types and indexes of the migrations and the models are the same: neither has drifted."""
    with ledger.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []
    assert tables(ledger) == {*Base.metadata.tables, "alembic_version"}


def test_an_open_version_is_unique_in_the_database_itself(ledger: Engine) -> None:
    """Autogenerate does not compare conditions of indexes: each facet's open versions are unique by natural key."""
    for name, facet in facets().items():
        unique = [index for index in inspect(ledger).get_indexes(name) if index["unique"]]
        assert [index["column_names"] for index in unique] == [list(facet.natural)]
        for index in inspect(ledger).get_indexes(name):
            (where,) = [value for key, value in index["dialect_options"].items() if key.endswith("_where")]
            assert "valid_to is null" in str(where).lower(), index["name"]


def test_upgrading_twice_changes_nothing(ledger: Engine) -> None:
    """The upgrade that starts every crawl leaves an up-to-date ledger and its facts alone."""
    with ledger.begin() as connection:
        connection.execute(text("INSERT INTO policy_document VALUES (:hash, 'a', 'b')"), {"hash": b"1" * 16})
    upgrade(ledger)
    check(ledger)
    with ledger.connect() as connection:
        assert current(connection) == head()
        assert connection.execute(text("SELECT count(*) FROM policy_document")).scalar_one() == 1


def test_the_way_back_to_nothing_works(ledger: Engine) -> None:
    """A downgrade removes every table, and the ledger can be made again afterwards."""
    with ledger.begin() as connection:
        downgrade(connection, "base")
    assert tables(ledger) == {"alembic_version"}
    upgrade(ledger)
    check(ledger)


def test_an_empty_database_is_refused_with_what_to_do(bare: Engine) -> None:
    """A report on a database that was never crawled into says so."""
    with pytest.raises(DatabaseError, match=r"is empty: run `kmsledger crawl`, or `kmsledger db upgrade`, first"):
        check(bare)
    assert tables(bare) == set()


def test_a_newer_schema_is_refused_and_left_alone(ledger: Engine) -> None:
    """An old program neither reads nor changes the database of a newer one, and says which to update."""
    with ledger.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for refused in (upgrade, check):
        with pytest.raises(DatabaseError, match=r"written by a newer kmsledger \(schema 9999\): update this program"):
            refused(ledger)
    with ledger.connect() as connection:
        assert current(connection) == "9999"


def test_an_older_schema_is_refused_until_it_is_upgraded(ledger: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report does not guess at a schema that is behind the program's."""
    monkeypatch.setattr(database, "head", lambda: "0002")
    with pytest.raises(DatabaseError, match=r"has schema 0001, this program needs 0002: run `kmsledger db upgrade`"):
        check(ledger)


def test_a_migration_that_fails_leaves_no_half_of_itself(bare: Engine) -> None:
    """Tables come in one transaction: a collision at the end leaves those before it unmade."""
    with bare.begin() as connection:
        connection.execute(text("CREATE TABLE scope_run (mine INTEGER)"))
    with pytest.raises(DatabaseError, match="scope_run"):
        upgrade(bare)
    assert tables(bare) == {"scope_run"}


def test_programs_that_upgrade_at_once_do_not_break_each_other(bare_url: str) -> None:
    """Several crawls started against a new database: one makes the tables, the others wait and find them."""
    spawning = multiprocessing.get_context("spawn")
    start = spawning.Event()
    programs = [spawning.Process(target=upgrade_at, args=(bare_url, start)) for _ in range(4)]
    for program in programs:
        program.start()
    start.set()
    for program in programs:
        program.join(60)
    assert [program.exitcode for program in programs] == [0, 0, 0, 0]

"""The cost of a merge depends on the batch, not on the ledger: no statement scans a fact table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Boolean, Column, Connection, Engine, Integer, LargeBinary, Text, UpdateBase, select, text

from models.store.engine import connect
from models.store.scd2_merge import Batch, Merged, _children, merge, orphaned, statements
from models.store.staging import closed_table, listing_table, stage, stage_table
from models.tables import Base, Key, KeyMetadata, versioned_tables
from models.versioned import VersionedTable
from tests import postgres
from tests.models.store.ledger_builders import batch, key, merge_batch, metadata, scope

ROWS = 10_000
"""Enough for the planner to see that an index is cheaper."""
FACT_TABLES = versioned_tables()
DESCRIBED = [(parent, *child) for parent in FACT_TABLES.values() for child in _children(parent)]


def plan(connection: Connection, statement: UpdateBase) -> list[str]:
    """The query plan of SQLite, one step per line."""
    compiled = statement.compile(dialect=connection.dialect)
    rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", (1,) * len(compiled.params))
    return [row[3] for row in rows]


def assert_driven_by(staged: str, target: str, steps: list[str]) -> None:
    """The plan scans the staged rows and looks the target up in an index."""
    assert steps[0].startswith(f"SCAN {staged}"), steps
    assert not any(step.startswith("SCAN") for step in steps[1:]), steps
    assert any(step.startswith(f"SEARCH {target} USING") for step in steps), steps


@pytest.fixture
def staging(sqlite_url: str) -> Iterator[Connection]:
    """A SQLite ledger with all temporary tables."""
    engine = connect(sqlite_url)
    with engine.begin() as connection:
        for model in FACT_TABLES.values():
            stage(connection, stage_table(model), [])
            if model.listing_key:
                stage(connection, listing_table(model), [])
            for _, _, column in _children(model):
                stage(connection, closed_table(model, column), [])
        yield connection
    engine.dispose()


@pytest.mark.parametrize("name", FACT_TABLES)
def test_sqlite_looks_up_each_staged_fact(staging: Connection, name: str) -> None:
    """In every table, closing changed versions and inserting new ones start from the staged rows."""
    steps = statements(FACT_TABLES[name])
    assert_driven_by(f"stage_{name}", name, plan(staging, steps.close_changed))
    assert_driven_by(f"stage_{name}", name, plan(staging, steps.insert_new))


@pytest.mark.parametrize("name", [name for name, model in FACT_TABLES.items() if model.listing_key])
def test_sqlite_looks_up_each_complete_listing(staging: Connection, name: str) -> None:
    """Closing absent facts starts from the listings and looks the staged rows up by their index."""
    steps = plan(staging, statements(FACT_TABLES[name]).close_absent)
    assert_driven_by(f"listing_{name}", name, steps)
    assert any(step.startswith(f"SEARCH stage_{name} USING") for step in steps), steps


@pytest.mark.parametrize(("parent", "child", "own", "column"), DESCRIBED)
def test_sqlite_looks_up_the_children_of_closed_facts(
    staging: Connection, parent: type[VersionedTable], child: type[VersionedTable], own: str, column: str
) -> None:
    """Closing children starts from the facts that were just closed, not from all closed facts."""
    steps = plan(staging, orphaned(child, own, parent, column))
    assert_driven_by(f"closed_{parent.table().name}", child.table().name, steps)


def filler(model: type[VersionedTable], column: Column[Any]) -> str:
    """The value of a column in row n of many facts: five facts of a key or resource, a hundred of a scope."""
    name = column.name
    last = model.natural_key[-1]
    if name == "content_hash" or isinstance(column.type, LargeBinary):
        return r"'\x00'::bytea"
    if isinstance(column.type, Boolean):
        return "true"
    if isinstance(column.type, Integer):
        return "n % 5" if name == last else "1"
    if not isinstance(column.type, Text):
        return "'2026-01-01Z'::timestamptz + n * interval '1 s'"
    if name == last and (len(model.natural_key) == 1 or not name.endswith("_arn")):
        return f"'{name}-' || n"
    if name in model.natural_key and name.endswith("_arn"):
        return f"'{name}-' || n / 5" if name != last else f"'{name}-' || n"
    return f"'{name}-' || n / 100" if name in {*model.listing_key, *model.natural_key} - {"role"} else "'x'"


@pytest.fixture(scope="module")
def big_ledger(postgresql_server: str, postgresql_template: str) -> Iterator[Engine]:
    """A PostgreSQL ledger with ten thousand open facts in each table."""
    with postgres.database(postgresql_server, template=postgresql_template) as url:
        engine = connect(url)
        with engine.begin() as connection:
            for name, model in FACT_TABLES.items():
                columns = [column for column in model.table().columns if column.name not in {"version_id", "valid_to"}]
                names = ", ".join(f'"{column.name}"' for column in columns)
                values = ", ".join(filler(model, column) for column in columns)
                series = f"generate_series(0, {ROWS - 1}) AS n"
                connection.execute(text(f'INSERT INTO "{name}" ({names}) SELECT {values} FROM {series}'))
            connection.execute(text("ANALYZE"))
        yield engine
        engine.dispose()


@pytest.mark.parametrize("name", FACT_TABLES)
def test_postgresql_scans_no_fact_table(big_ledger: Engine, name: str) -> None:
    """In every table, a small merge with changed, new and absent facts reads a large table by index only."""
    model = FACT_TABLES[name]
    target = model.table()
    with big_ledger.connect() as connection, connection.begin() as transaction:
        rows = connection.execute(select(target).where(target.c.version_id < 4)).mappings().all()
        observed = Batch()
        for row in rows:
            observed.add(model, **{column: row[column] for column in model.value_columns()})
        if model.listing_key:
            observed.mark_complete(model, *(rows[0][column] for column in model.listing_key))
        before = sequential_reads(connection)
        merged = merge(connection, 2, observed)
        assert merged.opened == 3, "another hash is another version"
        assert merged.closed >= 3
        assert sequential_reads(connection) == before
        transaction.rollback()


def sequential_reads(connection: Connection) -> dict[str, int]:
    """Rows of each table that this transaction has read without an index."""
    query = "SELECT relname, seq_tup_read FROM pg_stat_xact_user_tables WHERE schemaname = 'public'"
    return {row[0]: row[1] for row in connection.execute(text(query)) if row[0] in Base.metadata.tables}


def test_tables_are_analyzed_as_they_grow(postgresql_url: str) -> None:
    """A first crawl analyzes tables itself, because autovacuum runs too late."""
    engine = connect(postgresql_url)
    for start in range(0, 4000, 1000):
        numbers = range(start, start + 1000)
        facts = [(KeyMetadata, metadata(key(number)["key_arn"])) for number in numbers]
        assert merge_batch(engine, 1, batch(*facts)) == Merged(opened=1000)
    with engine.connect() as connection:
        known = connection.execute(text("SELECT reltuples FROM pg_class WHERE relname = 'key_metadata'")).scalar_one()
    assert known >= 2000
    assert merge_batch(engine, 2, scope(key(1))) == Merged(opened=1)
    engine.dispose()


def test_repeated_staging_does_not_grow(postgresql_url: str) -> None:
    """Many merges over one connection do not grow the temporary tables."""
    engine = connect(postgresql_url)
    with engine.connect() as connection:
        for run_id in range(1, 31):
            with connection.begin():
                merge(connection, run_id, batch(*((Key, key(number)) for number in range(200))))
        size = connection.execute(text("SELECT pg_relation_size('pg_temp.stage_key')")).scalar_one()
    assert size < 500_000
    engine.dispose()

"""A ledger written by schema 0007 (the last one before the standard names) upgrades without loss, on both engines."""

from __future__ import annotations

import base64
import datetime as dt
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from alembic import command
from click.testing import CliRunner
from sqlalchemy import Engine, MetaData, insert, inspect, select

from models.settings import Settings
from models.store import engine as database
from models.store.engine import connect, upgrade
from models.store.staging import stage_rows
from models.tables import Gap, KeyRotation, versioned_tables
from reports.mart.connection import connect as connect_mart
from reports.pipeline import refresh
from tests import postgres

HERE = Path(__file__).parent
FIXTURE = HERE / "ledger_0007.db.gz"
"""The sample organization of tests/reports after three runs, with some rows of the demo's in every other table."""
EXPECTED = HERE / "ledger_0007.upgraded.json.gz"
"""Every table of that ledger under its present name: columns, and rows in the order of their JSON texts."""
LATER_COLUMNS = {"run": ("only_accounts", "only_regions"), "scope_coverage": ("read_run_id",)}
"""Columns of later migrations, by table."""


@pytest.fixture
def old_ledger(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    path.write_bytes(gzip.decompress(FIXTURE.read_bytes()))
    return path


def dump(engine: Engine) -> dict[str, Any]:
    """All rows of all tables as JSON values, equal on both engines."""
    metadata = MetaData()
    metadata.reflect(engine)
    tables = {}
    with engine.connect() as connection:
        for table in metadata.sorted_tables:
            if table.name != "alembic_version":
                names = sorted(str(column.name) for column in table.columns)
                rows = [
                    [plain(row[name]) for name in names] for row in connection.execute(select(table)).mappings().all()
                ]
                tables[str(table.name)] = {"columns": names, "rows": sorted(rows, key=orjson.dumps)}
    return tables


def plain(value: Any) -> Any:
    """A value of either engine: times in UTC as text, bytes in base64, booleans as numbers."""
    if isinstance(value, bytes | memoryview):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, dt.datetime):
        return (
            value.replace(tzinfo=dt.UTC).isoformat() if value.tzinfo is None else value.astimezone(dt.UTC).isoformat()
        )
    return value


def expected() -> dict[str, Any]:
    """The tables of the file; tables of later migrations are empty, and so are their columns."""
    tables: dict[str, Any] = orjson.loads(gzip.decompress(EXPECTED.read_bytes()))
    for name, later in LATER_COLUMNS.items():
        columns, rows = tables[name]["columns"], tables[name]["rows"]
        every = sorted([*columns, *later])
        values = [dict(zip(columns, row, strict=True)) for row in rows]
        extended = [[row.get(column) for column in every] for row in values]
        tables[name] = {"columns": every, "rows": sorted(extended, key=orjson.dumps)}
    return tables | {
        name: {"columns": sorted(column.name for column in model.table().columns), "rows": []}
        for name, model in versioned_tables().items()
        if name not in tables
    }


def test_a_sqlite_ledger_keeps_every_row_and_value(old_ledger: Path) -> None:
    """After the upgrade, each table has its rows and values under the current names."""
    engine = connect(f"sqlite:///{old_ledger}")
    upgrade(engine)
    assert dump(engine) == expected()
    engine.dispose()


@pytest.fixture
def bare_postgresql(postgresql_server: str) -> Iterator[Engine]:
    """A PostgreSQL database without any table."""
    with postgres.database(postgresql_server) as url:
        engine = connect(url)
        yield engine
        engine.dispose()


def test_a_postgresql_ledger_keeps_every_row_and_value(old_ledger: Path, bare_postgresql: Engine) -> None:
    """The same rows, written into a PostgreSQL database of schema 0007, are also upgraded to the current names."""
    with bare_postgresql.begin() as connection:
        config = database._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0007")
    metadata = MetaData()
    metadata.reflect(bare_postgresql)
    source = connect(f"sqlite:///{old_ledger}")
    old = MetaData()
    old.reflect(source)
    with source.connect() as reading, bare_postgresql.begin() as writing:
        for table in metadata.sorted_tables:
            if table.name != "alembic_version":
                rows = [dict(row) for row in reading.execute(select(old.tables[table.name])).mappings()]
                for row in rows:
                    for column in table.columns:
                        row[column.name] = of_postgresql(row[column.name], column.type.python_type)
                if rows:
                    writing.execute(insert(table), rows)
    source.dispose()
    upgrade(bare_postgresql)
    assert dump(bare_postgresql) == expected()


def of_postgresql(value: Any, kind: type) -> Any:
    """The PostgreSQL value for a value of SQLite, where times have no zone and booleans are numbers."""
    if value is None:
        return None
    if kind is dt.datetime:
        return (dt.datetime.fromisoformat(value) if isinstance(value, str) else value).replace(tzinfo=dt.UTC)
    return bool(value) if kind is bool else value


def test_no_index_keeps_a_former_name(old_ledger: Path) -> None:
    """Indexes follow their tables and columns: a later migration finds them by their names in the models."""
    engine = connect(f"sqlite:///{old_ledger}")
    upgrade(engine)
    inspector = inspect(engine)
    for name, model in versioned_tables().items():
        assert {index["name"] for index in inspector.get_indexes(name)} == {
            index.name for index in model.table().indexes
        }
    engine.dispose()


@pytest.mark.parametrize("model", [KeyRotation, Gap])
def test_an_unchanged_fact_is_still_the_same_version(old_ledger: Path, model: type[KeyRotation | Gap]) -> None:
    """The hash of a renamed value equals the one that a crawl computes, so the next run adds no version."""
    engine = connect(f"sqlite:///{old_ledger}")
    upgrade(engine)
    with engine.connect() as connection:
        rows = list(connection.execute(select(model.table())).mappings())
    engine.dispose()
    assert rows
    for row in rows:
        (staged,) = stage_rows(model, [{name: row[name] for name in model.value_columns()}], "sqlite")
        assert staged[-1] == row["content_hash"]


@pytest.mark.deep
def test_mart_and_report_work_on_the_upgraded_ledger(old_ledger: Path, tmp_path: Path) -> None:
    """`kmsledger mart`, `sql` and `report` work on a ledger that an earlier version wrote."""
    from reports.cli import report
    from reports.mart.cli import sql

    engine = connect(f"sqlite:///{old_ledger}")
    upgrade(engine)
    engine.dispose()
    config = tmp_path / "kmsledger.yaml"
    config.write_text(
        f"database: sqlite:///{old_ledger}\nreport:\n  mart: {tmp_path / 'mart.duckdb'}\n  directory: {tmp_path}\n"
    )
    refresh(
        Settings.model_validate(
            {"database": f"sqlite:///{old_ledger}", "report": {"mart": str(tmp_path / "mart.duckdb")}}
        )
    )
    with connect_mart(tmp_path / "mart.duckdb") as mart:
        assert mart.execute("SELECT count(*) FROM keys").fetchall() == [(13,)]
    answered = CliRunner().invoke(
        sql, ["--config", str(config), "SELECT rotation_status, count(*) AS n FROM keys GROUP BY ALL ORDER BY 1"]
    )
    assert answered.exit_code == 0, answered.output
    assert "enabled" in answered.output
    written = CliRunner().invoke(report, ["--config", str(config)])
    assert written.exit_code == 0, written.output
    assert (tmp_path / "kmsledger-overview.html").is_file()

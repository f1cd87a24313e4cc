"""Building and publishing the mart: from both databases, with concurrent readers, and after errors."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest
from sqlalchemy import insert

from models.errors import UserError
from models.settings import Settings
from models.store.engine import connect as store
from models.store.engine import upgrade
from models.tables import KeyMetadata, Run
from reports.mart import connection as mart_connection
from reports.mart import partial_refresh
from reports.mart.build import build
from reports.mart.connection import Limits, connect
from reports.mart.errors import MartError
from reports.pipeline import draft_mart, refresh, run_rules, store_findings
from tests.reports.ledger_builder import FIRST_RUN, LedgerBuilder, settings_of
from tests.reports.mart_schema import offer_schema
from tests.reports.sample_ledger import sample_ledger, sample_world, second_run, third_run


def everything(path: Path) -> dict[str, list[str]]:
    connection = connect(path)
    names = [row[0] for row in connection.execute("SELECT table_name FROM information_schema.tables").fetchall()]
    found = {
        name: sorted(map(str, connection.execute(f'SELECT * FROM "{name}"').fetchall()))
        for (name,) in connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'main'"
        ).fetchall()
    }
    connection.close()
    assert names
    return found


@pytest.mark.deep
def test_both_databases_give_the_same_mart(sample_mart: Path, tmp_path: Path, postgresql_url: str) -> None:
    """SQLite and PostgreSQL give equal marts, times, flags, bytes and leading zeros included."""
    world = sample_world(tmp_path / "unused.db")
    world.url = postgresql_url
    world.crawl()
    second_run(world)
    world.crawl()
    third_run(world)
    world.crawl()
    refresh(settings_of(database=postgresql_url, report={"mart": tmp_path / "other.duckdb"}))
    assert everything(tmp_path / "other.duckdb") == everything(sample_mart)


def definitions(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every view, macro, column and description of a mart; the run of the views is a macro."""
    connection = duckdb.connect(str(path), read_only=True)
    queries = {
        "views": "SELECT schema_name, view_name, sql, comment FROM duckdb_views() WHERE NOT internal",
        "columns": "SELECT schema_name, table_name, column_name, data_type, comment FROM duckdb_columns() WHERE NOT internal",
        "tables": "SELECT schema_name, table_name, comment FROM duckdb_tables() WHERE NOT internal",
        "macros": "SELECT schema_name, function_name, parameters, macro_definition FROM duckdb_functions() "
        "WHERE database_name = current_database() AND NOT internal",
    }
    found = {name: sorted(connection.execute(query).fetchall(), key=str) for name, query in queries.items()}
    # DuckDB writes the columns of EXCLUDE and REPLACE in any order.
    found["macros"] = [(*macro[:3], sorted(re.findall(r"\w+|\S", macro[3]))) for macro in found["macros"]]
    connection.close()
    return found


@pytest.mark.deep
def test_a_copied_schema_is_the_created_one(sample_settings: Settings, tmp_path: Path) -> None:
    """A full rebuild over the mart of another ledger equals a first build: rows, views, macros and descriptions."""
    created, copied = tmp_path / "created.duckdb", tmp_path / "copied.duckdb"
    build(sample_settings.database, created, sample_settings)
    offer_schema(copied)
    assert everything(copied) != everything(created)
    build(sample_settings.database, copied, sample_settings)
    assert everything(copied) == everything(created)
    assert definitions(copied) == definitions(created)


@pytest.mark.deep
def test_the_schema_of_another_version_is_not_copied(sample_settings: Settings, tmp_path: Path) -> None:
    """A mart of another program version, or a file that is no mart, is replaced, and nothing of it remains."""
    created = tmp_path / "created.duckdb"
    build(sample_settings.database, created, sample_settings)
    for name, statements in {
        "version": [
            "UPDATE internal.build_manifest SET program = 'other'",
            "CREATE OR REPLACE VIEW keys_history AS SELECT 1",
        ],
        "unrelated": ["DROP TABLE internal.build_manifest", "CREATE VIEW extra AS SELECT 1"],
    }.items():
        path = tmp_path / f"{name}.duckdb"
        offer_schema(path)
        with duckdb.connect(str(path)) as connection:
            for statement in statements:
                connection.execute(statement)
        build(sample_settings.database, path, sample_settings)
        assert definitions(path) == definitions(created), name


def test_a_column_that_starts_with_nulls_is_read(tmp_path: Path) -> None:
    """A column with a text after many NULLs is read as text; the driver alone would infer a number and fail."""
    world = LedgerBuilder(f"sqlite:///{tmp_path / 'ledger.db'}")
    world.account("111122223333", "Shop", "eu-west-1")
    for number in range(3000):
        world.key("111122223333", "eu-west-1", f"k{number:04}", policy=None, rotation="unknown")
    world.change(KeyMetadata, "arn:aws:kms:eu-west-1:111122223333:key/k2999", xks_key_id="late", multi_region=None)
    world.crawl()
    offer_schema(tmp_path / "mart.duckdb")
    build(world.url, tmp_path / "mart.duckdb", Settings())
    connection = connect(tmp_path / "mart.duckdb")
    late = "SELECT xks_key_id, multi_region FROM internal.key_metadata WHERE key_arn LIKE '%k2999'"
    assert connection.execute(late).fetchall() == [("late", None)]
    assert connection.execute("SELECT count(*) FROM keys").fetchall() == [(3000,)]
    connection.close()


def test_a_reader_keeps_the_mart_that_it_opened(sample_settings: Settings, tmp_path: Path) -> None:
    """A new mart replaces the file while an open reader keeps the old one; new readers open the new one."""
    path = tmp_path / "mart.duckdb"
    offer_schema(path)
    build(sample_settings.database, path, sample_settings, as_of=1)
    old = connect(path)
    assert old.execute("SELECT max(run_id) FROM runs").fetchone() == (1,)
    info = build(sample_settings.database, path, sample_settings)
    new = connect(path)
    assert (info.as_of, info.keys) == (3, 14 - 1)
    assert old.execute("SELECT max(run_id) FROM runs").fetchone() == (1,)
    assert new.execute("SELECT max(run_id) FROM runs").fetchone() == (3,)
    assert [file.name for file in tmp_path.iterdir()] == ["mart.duckdb"]
    old.close()
    new.close()


def test_any_client_opens_the_file(sample_mart: Path) -> None:
    """A plain DuckDB connection reads views and macros, and the file has the old storage version."""
    plain = duckdb.connect(str(sample_mart), read_only=True)
    assert plain.execute("SELECT count(*) FROM keys").fetchone() == (13,)
    assert plain.execute("SELECT count(*) FROM keys_as_of(1)").fetchone() == (12,)
    tags = plain.execute("SELECT tags FROM duckdb_databases() WHERE NOT internal").fetchone()
    plain.close()
    assert tags is not None
    assert "v1.0.0" in str(tags[0])


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_text('/etc/hostname')",
        "COPY keys TO 'out.csv'",
        "ATTACH 'other.duckdb'",
        "DELETE FROM internal.key",
        "SET enable_external_access = true",
        "INSTALL httpfs",
    ],
)
def test_a_reader_cannot_leave_the_file(query: str, mart: duckdb.DuckDBPyConnection) -> None:
    """A query neither writes nor reads anything but the mart."""
    with pytest.raises(duckdb.Error):
        mart.execute(query)


def test_the_mart_answers_for_the_latest_ended_run(tmp_path: Path) -> None:
    """A later interrupted run does not count unless it is requested."""
    url = sample_ledger(tmp_path / "ledger.db")
    engine = store(url)
    with engine.begin() as connection:
        connection.execute(
            insert(Run).values(started_at=FIRST_RUN, status="interrupted", version="1", accounts=0, scopes=0)
        )
    engine.dispose()
    offer_schema(tmp_path / "mart.duckdb")
    assert build(url, tmp_path / "mart.duckdb", Settings()).as_of == 3
    assert build(url, tmp_path / "mart.duckdb", Settings(), as_of=4).as_of == 4


def test_errors_are_one_line_and_keep_the_old_mart(tmp_path: Path) -> None:
    """Errors of missing and empty ledgers, bad targets and unknown runs name the fix."""
    url = sample_ledger(tmp_path / "ledger.db")
    path = tmp_path / "mart.duckdb"
    offer_schema(path)
    build(url, path, Settings())
    before = path.read_bytes()
    empty = f"sqlite:///{tmp_path / 'empty.db'}"
    upgrade(store(empty))
    (tmp_path / "zero.db").touch()
    cases: list[tuple[str, Path, dict[str, Any], str]] = [
        (f"sqlite:///{tmp_path / 'none.db'}", path, {}, "kmsledger crawl"),
        (f"sqlite:///{tmp_path / 'zero.db'}", path, {}, "is empty"),
        (empty, path, {}, "no run yet"),
        (url, tmp_path / "no" / "such" / "mart.duckdb", {}, "cannot be written"),
        (url, tmp_path / "internal.duckdb", {}, "cannot be named"),
        (url, path, {"as_of": 9}, "no run 9"),
    ]
    for database_url, target, options, expected in cases:
        with pytest.raises(UserError, match=expected) as caught:
            build(database_url, target, Settings(), **options)
        assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert sorted(file.suffix for file in tmp_path.iterdir() if "mart" in file.name) == [".duckdb"]


def test_a_build_that_needs_more_memory_is_repeated(
    sample_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """DuckDB cannot spill everything: a build that needs more is repeated with more, and the log says so."""
    path = tmp_path / "mart.duckdb"
    settings = sample_settings.model_copy(update={"report": sample_settings.report.model_copy(update={"mart": path})})
    with monkeypatch.context() as limited:
        limited.setattr(mart_connection, "_MIN_MEMORY", 3_000_000)
        build(sample_settings.database, path, settings)
    assert "mart.duckdb needs more than 3 MB of memory: it is built again, with more" in caplog.text
    build(sample_settings.database, tmp_path / "other.duckdb", settings)
    assert everything(path) == everything(tmp_path / "other.duckdb")


def test_results_that_need_more_memory_are_computed_again(
    sample_settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Rules and findings that need more memory than the build may use are computed again with more, and are the same."""

    def evaluated(name: str, limit: str) -> dict[str, list[str]]:
        mart = tmp_path / f"{name}.duckdb"
        offer_schema(mart)
        shutil.copy(sample_settings.database.removeprefix("sqlite:///"), tmp_path / f"{name}.db")
        settings = sample_settings.model_copy(
            update={
                "database": f"sqlite:///{tmp_path / name}.db",
                "report": sample_settings.report.model_copy(update={"mart": mart}),
            }
        )
        with draft_mart(settings) as draft:
            draft.duck.execute(f"SET memory_limit = '{limit}'")
            run_rules(draft, settings)
            store_findings(draft, settings)
        return everything(mart)

    assert evaluated("limited", "8MB") == evaluated("free", "1GB")
    assert (
        "the results for limited.duckdb need more memory than planned: they are computed again, with more"
        in caplog.text
    )


def test_access_paths_are_the_same_in_chunks_of_any_size(
    sample_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The access paths of all keys are computed in chunks for which the memory suffices."""
    whole, single = tmp_path / "whole.duckdb", tmp_path / "single.duckdb"
    offer_schema(whole)
    offer_schema(single)
    build(sample_settings.database, whole, sample_settings)
    monkeypatch.setattr(partial_refresh, "_BYTES_PER_KEY", 10**12)
    build(sample_settings.database, single, sample_settings)
    assert everything(single) == everything(whole)


def test_threads_are_limited_by_the_memory(sample_settings: Settings) -> None:
    """Each thread has its own buffers: on a machine with many processors, a small limit would not suffice for all of them."""
    for memory, threads in ((100_000_000, 1), (50_000_000, 1), (160_000_000, min(2, len(os.sched_getaffinity(0))))):
        with connect(sample_settings.report.mart, Limits(memory)) as duck:
            assert duck.execute("SELECT current_setting('threads')").fetchall() == [(threads,)]


def test_a_missing_or_invalid_mart_names_the_fix(tmp_path: Path) -> None:
    """A missing mart and an invalid file have different messages."""
    with pytest.raises(MartError, match="kmsledger crawl"):
        connect(tmp_path / "none.duckdb")
    (tmp_path / "junk.duckdb").write_text("junk" * 5000)
    with pytest.raises(MartError, match="kmsledger mart"):
        connect(tmp_path / "junk.duckdb")

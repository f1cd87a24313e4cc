"""Views published to a real PostgreSQL: the rows of the mart, swapped at once, readable and nothing more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import orjson
import psycopg
import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from models.errors import UserError
from models.settings import Settings
from reports.exports import postgresql as postgresql_export
from reports.exports.postgresql import publish
from reports.exports.views_cli import postgresql
from reports.mart.connection import connect
from reports.mart.errors import MartError, QueryError
from reports.mart.query import described
from tests import postgres as server

READER = "KMS reader %s"
Run = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def url(postgresql_server: str) -> Iterator[str]:
    with server.database(postgresql_server) as url:
        yield url


@pytest.fixture(scope="module")
def published(postgresql_server: str, sample_mart: Path) -> Iterator[psycopg.Connection]:
    """The sample mart, published once for the tests that only read."""
    with server.database(postgresql_server) as url:
        publish(sample_mart, url)
        with psycopg.connect(url, autocommit=True) as connection:
            yield connection


@pytest.fixture
def pg(url: str) -> Iterator[Run]:
    """Run a statement in a connection of its own."""

    def run(statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    yield run
    if run("SELECT 1 FROM pg_roles WHERE rolname = %s", READER):  # roles belong to the server, not to the database
        run(f'DROP OWNED BY "{READER}"')
        run(f'DROP ROLE "{READER}"')


def schemas(run: Run) -> set[str]:
    return {name for (name,) in run("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'kmsledger%'")}


def comparable(value: Any) -> Any:
    """Both drivers return the same Python values, except that DuckDB has maps where PostgreSQL has JSON."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS) if isinstance(value, dict) else value


def rows_of(cursor: Any) -> tuple[list[str], list[str]]:
    names = [column[0] for column in cursor.description]
    return names, sorted(repr([comparable(value) for value in row]) for row in cursor.fetchall())


def test_each_view_has_the_rows_of_the_mart(published: psycopg.Connection, sample_mart: Path) -> None:
    """Every public view and history is a table with the same name, columns, comments and rows."""
    _, declared = described(sample_mart)
    expected = {(row[0], row[2]): (row[1], row[4]) for row in declared if "." not in row[0]}
    comments = published.execute(
        "SELECT c.relname, a.attname, obj_description(c.oid), col_description(c.oid, a.attnum) FROM pg_class c "
        "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 WHERE c.relkind = 'r' AND c.relnamespace = "
        "'kmsledger'::regnamespace"
    ).fetchall()
    assert {(row[0], row[1]): (row[2], row[3]) for row in comments} == expected
    views = {view for view, _ in expected}
    assert {"keys", "grants", "findings", "changes", "effective_access", "keys_history"} <= views
    with connect(sample_mart) as mart:
        for view in views:
            query = f'SELECT * FROM {{}}"{view}"'
            assert rows_of(published.execute(query.format("kmsledger.").encode())) == rows_of(
                mart.execute(query.format(""))
            )


def test_keys_and_resources_are_indexed(published: psycopg.Connection) -> None:
    """The lookup of a key or a resource needs no scan of the table; the schema's comment names the run."""
    query = "SELECT count(*) FROM pg_indexes WHERE schemaname = 'kmsledger' AND tablename = 'resource_keys'"
    assert published.execute(query).fetchone() == (2,)
    comment = published.execute("SELECT obj_description('kmsledger'::regnamespace)").fetchone()
    assert comment is not None
    assert comment[0].startswith("kmsledger: the views as of run ")


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("VARCHAR", "", ""),
        ("VARCHAR", None, None),
        ("VARCHAR", "\\N", "\\N"),
        ("VARCHAR", "NULL", "NULL"),
        ("VARCHAR", "\\.", "\\."),
        ("VARCHAR", "x\n\\.\ny", "x\n\\.\ny"),
        ("VARCHAR", 'a,"b"\r\n\t\\é😀; DROP TABLE', 'a,"b"\r\n\t\\é😀; DROP TABLE'),
        ("VARCHAR", "a\0b", "a\ufffdb"),
        ("VARCHAR[]", [], []),
        ("VARCHAR[]", None, None),
        (
            "VARCHAR[]",
            ["", "NULL", None, "{}", 'a"b\\', "c,d\n", "\0"],
            ["", "NULL", None, "{}", 'a"b\\', "c,d\n", "\ufffd"],
        ),
        ("MAP(VARCHAR, VARCHAR)", {}, {}),
        (
            "MAP(VARCHAR, VARCHAR)",
            {"\\u0000": "\\\0\\\\u0000", 'k"': None},
            {"\\u0000": "\\\ufffd\\\\u0000", 'k"': None},
        ),
        ("MAP(VARCHAR, VARCHAR[])", {"k": ["\0", '"', ""]}, {"k": ["\ufffd", '"', ""]}),
    ],
)
def test_hostile_values_arrive_unchanged(url: str, tmp_path: Path, kind: str, value: Any, expected: Any) -> None:
    """Quotes, separators, NULL-like words and end marks are data; a NUL character becomes U+FFFD."""
    mart = made_mart(tmp_path / "mart.duckdb", f"CREATE TABLE odd AS SELECT 1 AS n, CAST($value AS {kind}) AS v", value)
    publish(mart, url)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT v FROM kmsledger.odd").fetchone() == (expected,)


def made_mart(path: Path, create: str, value: Any = None) -> Path:
    """A file with what every mart has, and one more public view."""
    with duckdb.connect(path) as duck:
        duck.execute("CREATE SCHEMA internal")
        duck.execute(
            "CREATE TABLE internal.run AS SELECT 1 AS run_id, TIMESTAMP '2026-01-01' AS started_at, "
            "TIMESTAMP '2026-01-01' AS finished_at, 'complete' AS status"
        )
        duck.execute("CREATE VIEW runs AS SELECT run_id FROM internal.run")
        duck.execute(create, {"value": value} if "$value" in create else None)
    return path


def test_a_reader_sees_the_old_or_the_new_tables(url: str, pg: Run, tmp_path: Path) -> None:
    """While marts are published, every query is answered from one publication; afterwards only the last one exists."""
    marts = [
        made_mart(tmp_path / f"{n}.duckdb", f"CREATE VIEW v AS SELECT {n} AS n FROM range(1000)") for n in range(2)
    ]
    publish(marts[0], url)
    results: set[tuple[int, int]] = set()
    ended = threading.Event()

    def read() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            while not ended.is_set():
                results.update(connection.execute("SELECT min(n), count(*) FROM kmsledger.v").fetchall())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for n in (1, 0, 1):
            publish(marts[n], url)
    finally:
        ended.set()
        reader.join()
    assert results <= {(0, 1000), (1, 1000)}
    assert schemas(pg) == {"kmsledger"}
    assert pg("SELECT min(n) FROM kmsledger.v") == [(1,)]


def test_a_transaction_that_began_before_sees_the_new_rows(url: str, tmp_path: Path) -> None:
    """A repeatable-read transaction never finds the new tables empty; what it holds open is dropped by the next publication."""
    mart = made_mart(tmp_path / "mart.duckdb", "CREATE VIEW v AS SELECT 1 AS n")
    publish(mart, url)
    with pytest.MonkeyPatch.context() as patch, psycopg.connect(url) as reader:
        patch.setattr(postgresql_export, "_DROP_TIMEOUT", "10ms")
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.execute("SELECT * FROM kmsledger.runs")
        (kept,) = publish(mart, url).kept
        assert reader.execute("SELECT n FROM kmsledger.v").fetchall() == [(1,)]
        assert reader.execute(f"SELECT n FROM {kept}.v".encode()).fetchall() == [(1,)]
    assert publish(mart, url).kept == []


@pytest.mark.parametrize(
    ("view", "message"),
    [
        ("CREATE VIEW v AS SELECT CAST(repeat('x', 10) AS INTEGER) AS n", "the views cannot be read: Conversion Error"),
        ("CREATE VIEW v AS SELECT CASE i WHEN 300000 THEN CAST('x' || i AS INTEGER) END AS n FROM range(400000) t(i)",
         "the views cannot be read: Conversion Error"),
    ],
)  # fmt: skip
def test_a_failure_leaves_the_old_tables(url: str, pg: Run, tmp_path: Path, view: str, message: str) -> None:
    """A view that fails, at once or after many rows, and a rejected role change nothing and leave nothing."""
    publish(made_mart(tmp_path / "old.duckdb", "CREATE VIEW v AS SELECT 1 AS n"), url)
    with pytest.raises(MartError, match=message):
        publish(made_mart(tmp_path / "new.duckdb", view), url)
    with pytest.raises(MartError, match='role "nobody here" does not exist'):
        publish(tmp_path / "old.duckdb", url, readers=["nobody here"])
    assert pg("SELECT n FROM kmsledger.v") == [(1,)]
    assert schemas(pg) == {"kmsledger"}


def test_a_lost_connection_leaves_the_old_tables(url: str, pg: Run, tmp_path: Path) -> None:
    """If the connection ends during the publication, the server removes the unfinished schema."""
    mart = made_mart(tmp_path / "mart.duckdb", "CREATE VIEW v AS SELECT 1 AS n")
    publish(mart, url)

    def lose(connection: sa.Connection, *_rest: object) -> int:
        return connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())").rowcount

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgresql_export, "_fill", lose)
        with pytest.raises(UserError, match=r"terminating connection|ended the connection"):
            publish(mart, url)
    assert schemas(pg) == {"kmsledger"}
    assert publish(mart, url).kept == []


def test_publications_exclude_each_other(url: str, pg: Run, tmp_path: Path) -> None:
    """A second publication at the same time is rejected, and creates nothing."""
    mart = made_mart(tmp_path / "mart.duckdb", "CREATE VIEW v AS SELECT 1 AS n")
    with psycopg.connect(url) as other:
        other.execute("SELECT pg_advisory_xact_lock(7262019)")
        with pytest.raises(MartError, match="another process publishes"):
            publish(mart, url)
    assert schemas(pg) == set()


def test_other_schemas_and_views_stay(url: str, pg: Run, tmp_path: Path) -> None:
    """A schema of somebody else is not replaced; a view on an old table is reported, not dropped."""
    mart = made_mart(tmp_path / "mart.duckdb", "CREATE VIEW v AS SELECT 1 AS n")
    pg("CREATE SCHEMA kmsledger")
    with pytest.raises(MartError, match="the schema kmsledger was not created by this command"):
        publish(mart, url)
    publish(mart, url, "user")
    pg('CREATE VIEW public.mine AS SELECT n FROM "user".v')
    with pytest.raises(
        MartError, match=r"the schema user is published, but user_old_\w+ .* because view mine depends on"
    ):
        publish(mart, url, "user")
    assert pg("SELECT n FROM public.mine") == [(1,)]


def test_a_reader_can_only_read(url: str, pg: Run, sample_mart: Path) -> None:
    """A role of any name that is given to --reader reads every table, also after the next publication, and does nothing else."""
    pg(f'CREATE ROLE "{READER}"')
    for _ in range(2):
        publish(sample_mart, url, readers=[READER])
    tables = [name for (name,) in pg("SELECT tablename FROM pg_tables WHERE schemaname = 'kmsledger'")]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'SET ROLE "{READER}"'.encode())
        for table in tables:
            connection.execute(f'SELECT * FROM kmsledger."{table}" LIMIT 1'.encode())
        for query in (b"DELETE FROM kmsledger.keys", b"DROP TABLE kmsledger.keys", b"CREATE TABLE kmsledger.x ()"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(query)


def test_a_user_without_privileges_is_told_what_is_missing(url: str, pg: Run, sample_mart: Path) -> None:
    """The message names the privilege that publishing needs."""
    pg(f"CREATE ROLE \"{READER}\" LOGIN PASSWORD 'x'")
    address = url.partition("@")[2]
    with pytest.raises(MartError, match=r"permission denied for database .*; publishing needs CREATE on the database"):
        publish(sample_mart, f"postgresql://KMS%20reader%20%25s:x@{address}")


@pytest.mark.parametrize(("url", "schema"), [("sqlite:///x.db", "kmsledger"), ("postgresql://a@localhost/b", "a;b")])
def test_only_postgresql_and_plain_names(tmp_path: Path, url: str, schema: str) -> None:
    """Another database and a schema that would need quotes are rejected before anything is opened."""
    with pytest.raises(QueryError, match=r"expected a database in PostgreSQL|cannot name the schema"):
        publish(tmp_path / "none.duckdb", url, schema)


def test_the_command(url: str, sample_settings: Settings, tmp_path: Path) -> None:
    """It publishes the configured mart, to the ledger's database or another one, and says how much."""
    config = tmp_path / "kmsledger.yaml"
    config.write_text(f"database: {sample_settings.database}\nreport: {{mart: {sample_settings.report.mart}}}\n")
    runner = CliRunner()
    assert "expected a database in PostgreSQL" in str(runner.invoke(postgresql, ["--config", str(config)]).exception)
    done = runner.invoke(postgresql, ["--config", str(config), "--database", url])
    assert done.exit_code == 0
    assert done.output.startswith("schema kmsledger: ")

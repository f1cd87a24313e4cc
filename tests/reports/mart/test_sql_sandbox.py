"""Ways out of the sandbox of kmsledger sql: all are rejected with one sentence, and nothing is read or written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from reports.mart.connection import Limits, connect
from reports.mart.errors import QueryError
from reports.mart.query import explained, run, write

SECRET = "hunter2"
FILES = [
    "SELECT * FROM read_csv('{secret}')",
    "SELECT * FROM read_csv_auto('{secret}')",
    "SELECT * FROM read_text('{secret}')",
    "SELECT * FROM read_blob('{secret}')",
    "SELECT * FROM read_json('{secret}')",
    "SELECT * FROM read_ndjson('{secret}')",
    "SELECT * FROM read_json_objects('{secret}')",
    "SELECT * FROM read_parquet('{secret}')",
    "SELECT * FROM parquet_metadata('{secret}')",
    "SELECT * FROM parquet_schema('{secret}')",
    "SELECT * FROM sniff_csv('{secret}')",
    "SELECT * FROM glob('{folder}/*')",
    "SELECT * FROM '{secret}'",
    'SELECT * FROM "{secret}"',
    "FROM '{secret}'",
    "TABLE '{secret}'",
    "DESCRIBE '{secret}'",
    "SUMMARIZE '{secret}'",
    "PIVOT '{secret}' ON password",
    "UNPIVOT '{secret}' ON password",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM read_text('/proc/self/environ')",
    "SELECT * FROM read_blob('/proc/self/mem')",
    "SELECT * FROM read_text('/dev/stdin')",
    "SELECT * FROM read_text('file://{secret}')",
    "SELECT * FROM sqlite_scan('{secret}', 'a')",
    "SELECT * FROM postgres_scan('host=example.org', 'a', 'b')",
    "COPY internal.key FROM '{secret}'",
    "IMPORT DATABASE '{folder}/all'",
]
NETWORK = [
    "SELECT * FROM read_csv('https://example.org/a.csv')",
    "SELECT * FROM 'https://example.org/a.parquet'",
    "SELECT * FROM read_text('http://169.254.169.254/latest/meta-data')",
    "SELECT * FROM read_parquet('s3://bucket/*.parquet')",
    "ATTACH 'https://example.org/other.duckdb'",
    "INSTALL httpfs FROM 'http://example.org'",
]
HIDDEN = [
    "SELECT (SELECT content FROM read_text('{secret}'))",
    "SELECT * FROM keys, LATERAL read_text('{secret}')",
    "SELECT * FROM keys WHERE EXISTS (FROM read_text('{secret}'))",
    "WITH a AS MATERIALIZED (SELECT * FROM read_text('{secret}')) SELECT 1 FROM a",
    "WITH a AS (SELECT 1) INSERT INTO internal.key SELECT * FROM internal.key",
    "SELECT * FROM query('SELECT * FROM read_text(''{secret}'')')",
    "SELECT * FROM query('DROP VIEW keys')",
    "SELECT * FROM query_table('{secret}')",
    "SELECT * FROM query_table(['{secret}'])",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('FROM read_text(''{secret}'')'))",
    "SELECT * FROM \"read_text\"('{secret}')",
    "SELECT * FROM system.main.read_text('{secret}')",
    "SELECT/**/*/**/FROM/**/read_text('{secret}')",
    "SELECT * FROM read_text(concat('{folder}', chr(47), 'secret.csv'))",
    "SELECT * FROM ｒead_text('{secret}')",  # noqa: RUF001  (a full-width letter)
    "SELECT * FROM read\u200b_text('{secret}')",
    "/* SELECT */ DROP VIEW keys -- SELECT",
    "-- SELECT\nDROP VIEW keys",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{folder}/out.csv'",
    "EXPLAIN ANALYZE CREATE TABLE a AS SELECT 1",
    "EXPLAIN DROP VIEW keys",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP VIEW keys",
    "SELECT * FROM python_variable",
    "SELECT * FROM connection",
]
WRITES = [
    "DROP TABLE keys",
    "INSERT INTO internal.key SELECT * FROM internal.key",
    "UPDATE internal.key SET region = 'x'",
    "DELETE FROM internal.key",
    "TRUNCATE internal.key",
    "MERGE INTO internal.key USING internal.key r ON true WHEN MATCHED THEN DELETE",
    "CREATE TABLE x AS SELECT 1 AS a",
    "CREATE OR REPLACE TEMP VIEW keys AS SELECT 1 AS a",
    "CREATE MACRO a() AS 1",
    "CREATE SCHEMA s",
    "ALTER VIEW keys RENAME TO other",
    "COMMENT ON VIEW keys IS 'x'",
    "COPY keys TO '{folder}/out.csv'",
    "COPY (SELECT 1) TO '{folder}/out.parquet' (FORMAT parquet)",
    "COPY keys TO '/dev/stdout'",
    "COPY FROM DATABASE mart TO memory",
    "EXPORT DATABASE '{folder}/all'",
    "CHECKPOINT",
    "FORCE CHECKPOINT",
    "CALL force_checkpoint('mart')",
    "VACUUM",
    "BEGIN",
    "COMMIT",
]
CODE_AND_SETTINGS = [
    "ATTACH '{folder}/other.duckdb'",
    "ATTACH ':memory:' AS other",
    "ATTACH OR REPLACE ':memory:' AS mart",
    "DETACH mart",
    "USE memory",
    "INSTALL httpfs",
    "FORCE INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '{folder}/evil.duckdb_extension'",
    "UPDATE EXTENSIONS",
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "RESET lock_configuration",
    "RESET enable_external_access",
    "SET allowed_directories = ['/']",
    "SET allowed_paths = ['{secret}']",
    "SET memory_limit = '100GB'",
    "SET SESSION threads = 100",
    "SET GLOBAL temp_directory = '{folder}'",
    "SET VARIABLE x = 1",
    "PRAGMA enable_external_access = true",
    "PRAGMA memory_limit = '1TB'",
    "PRAGMA import_database('{folder}')",
    "CALL enable_profiling()",
    "CALL enable_logging()",
    "SELECT * FROM enable_logging()",
    "CREATE SECRET s (TYPE S3)",
    "CREATE PERSISTENT SECRET s (TYPE S3)",
    "DROP SECRET s",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM duckdb_extensions()",
    "SELECT * FROM load_aws_credentials()",
    "SELECT getenv('HOME')",
    "SELECT system('id')",
    "SELECT set_config('threads', '100')",
    "PREPARE a AS SELECT 1",
    "EXECUTE a",
]


@pytest.fixture(scope="module")
def locked(sample_mart: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(sample_mart, Limits(500_000_000)) as connection:
        yield connection


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "secret.csv").write_text(f"password\n{SECRET}\n", encoding="utf-8")
    return folder


def assert_rejected(error: QueryError, folder: Path) -> None:
    assert error.exit_code == 2
    assert "\n" not in str(error)
    assert SECRET not in str(error)
    assert [path.name for path in folder.iterdir()] == ["secret.csv"]


@pytest.mark.parametrize("query", [*FILES, *NETWORK, *HIDDEN, *WRITES, *CODE_AND_SETTINGS])
def test_a_way_out_is_closed(query: str, locked: duckdb.DuckDBPyConnection, folder: Path, sample_mart: Path) -> None:
    """Files, network, environment, settings, code and changes are out of reach, however the attempt is written."""
    python_variable = [(SECRET,)]
    before = sample_mart.stat().st_mtime_ns
    with pytest.raises(QueryError) as caught, explained():
        list(run(locked, query.format(folder=folder, secret=folder / "secret.csv"))[1])
    assert_rejected(caught.value, folder)
    assert (python_variable, sample_mart.stat().st_mtime_ns) == ([(SECRET,)], before)


@pytest.mark.parametrize(
    "query", [FILES[0], FILES[12], HIDDEN[5], HIDDEN[-4], WRITES[0], WRITES[12], "SELECT 1;;SELECT 2"]
)
def test_a_way_out_into_parquet_is_closed(query: str, folder: Path, sample_mart: Path, tmp_path: Path) -> None:
    """The only file that a Parquet export can write is its output."""
    output = tmp_path / "answer.parquet"
    connection = connect(sample_mart, Limits(500_000_000, output=output))
    text = query.format(folder=folder, secret=folder / "secret.csv")
    with pytest.raises(QueryError) as caught:
        write(connection, text, form="parquet", limit=0, path=output, parameters=None)
    assert_rejected(caught.value, folder)
    assert not output.exists()


@pytest.mark.parametrize(
    "query",
    [
        "SELECT name, value FROM duckdb_settings()",
        "SELECT current_setting('secret_directory'), current_setting('home_directory'), current_setting('temp_directory')",
        "SELECT * FROM duckdb_temporary_files()",
        "SELECT * FROM duckdb_logs",
        "SELECT * FROM checkpoint()",
    ],
)
def test_settings_reveal_nothing_but_the_mart(query: str, locked: duckdb.DuckDBPyConnection, sample_mart: Path) -> None:
    """DuckDB's own functions name no path besides the mart that the user named."""
    _, rows = run(locked, query)
    shown = str(list(rows)).replace(str(sample_mart), "")
    for path in (str(Path.home()) + "/", str(Path.cwd()), str(Path(duckdb.__file__).parent)):
        assert path not in shown

"""Parquet files of the views: complete, repeatable, with safe names."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner, Result

from models.errors import UserError
from reports.exports import EXPORTS, export
from reports.exports import parquet as exporting
from reports.exports.parquet import _encoded
from reports.mart.connection import connect
from reports.mart.view_loader import views
from tests.reports.sample_ledger import PAYMENTS

DATE = "run_date=2026-11-22"


def run(mart: Path, folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(export, ["parquet", "--mart", str(mart), "--output", str(folder), *arguments])


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows_of(folder: Path, view: str) -> list[tuple[Any, ...]]:
    paths = [str(path).replace("[", "[[]").replace("*", "[*]") for path in (folder / view).rglob("*.parquet")]
    if not paths:  # a view without rows has no partitions
        return []
    query = "SELECT * FROM read_parquet($paths, hive_partitioning = false, union_by_name = true) ORDER BY ALL"
    return duckdb.connect().execute(query, {"paths": paths}).fetchall()


@pytest.mark.parametrize(
    "partition",
    [*(pytest.param(columns, marks=pytest.mark.deep) for columns in ([], ["account"])), ["account", "region"]],
    ids="-".join,
)
def test_the_files_hold_what_the_views_hold(sample_mart: Path, tmp_path: Path, partition: list[str]) -> None:
    """Every view, read back by DuckDB with all columns, has the rows of the mart, however it is partitioned."""
    folder = tmp_path / "it's a [lake] *"
    done = run(sample_mart, folder, *(word for name in partition for word in ("--partition", name)))
    assert done.exception is None, done.exception
    with connect(sample_mart) as mart:
        for view in (view for view in views() if not view.internal):
            assert rows_of(folder, view.name) == mart.execute(f"SELECT * FROM {view.name} ORDER BY ALL").fetchall()
    made = {path.name for path in folder.iterdir()}
    assert made <= {view.name for view in views()}
    assert partition or len(made) == len([view for view in views() if not view.internal])
    assert {path.name for path in folder.rglob("*") if path.is_file()} == {"part.parquet"}


def test_partitions_are_folders_and_ids_keep_their_zeros(sample_mart: Path, tmp_path: Path) -> None:
    """Date, account and region are parts of the path; DuckDB reads account ids of partitions as text."""
    run(sample_mart, tmp_path, "--views", "keys, coverage", "--partition", "account", "--partition", "region")
    assert (tmp_path / "keys" / DATE / f"account={PAYMENTS}" / "region=eu-west-1" / "part.parquet").exists()
    assert (tmp_path / "coverage" / DATE / "account=222233334444" / "region=eu-west-1" / "part.parquet").exists()
    assert list((tmp_path / "coverage" / DATE).glob("*/region=%2A"))
    query = f"SELECT account_id, CAST(run_date AS VARCHAR) FROM '{tmp_path}/keys/**/*.parquet' WHERE alias = 'alias/payments'"
    assert duckdb.connect().execute(query).fetchall() == [(PAYMENTS, "2026-11-22")]


def test_again_gives_the_same_files(sample_mart: Path, tmp_path: Path) -> None:
    """A repeated export changes nothing; other partitions replace the files of the date; other dates stay."""
    run(sample_mart, tmp_path, "--views", "keys")
    first = files(tmp_path)
    run(sample_mart, tmp_path, "--views", "keys")
    assert files(tmp_path) == first
    older = run(sample_mart, tmp_path, "--views", "keys", "--as-of", "1")
    assert older.exception is None
    run(sample_mart, tmp_path, "--views", "keys", "--partition", "account")
    after = set(files(tmp_path))
    assert "keys/run_date=2026-11-20/part.parquet" in after
    assert f"keys/{DATE}/part.parquet" not in after
    assert f"keys/{DATE}/account={PAYMENTS}/part.parquet" in after
    run(sample_mart, tmp_path, "--views", "keys")
    assert set(files(tmp_path)) == {f"keys/{DATE}/part.parquet", "keys/run_date=2026-11-20/part.parquet"}
    assert [path.name for path in (tmp_path / "keys" / DATE).iterdir()] == ["part.parquet"]


def test_a_failure_leaves_the_old_files_whole(
    sample_mart: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If an export fails, the earlier files stay complete, and no temporary file is left."""
    run(sample_mart, tmp_path, "--views", "keys,accounts")
    before = files(tmp_path)

    def full(*_: Any) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting, "_moved", full)
    done = run(sample_mart, tmp_path, "--views", "keys,accounts")
    assert isinstance(done.exception, UserError)
    assert "No space left on device" in str(done.exception)
    assert files(tmp_path) == before
    assert {path.name for path in tmp_path.iterdir()} == {"keys", "accounts"}


def test_foreign_files_are_left_alone(sample_mart: Path, tmp_path: Path) -> None:
    """An export deletes only files that an export has written."""
    other = tmp_path / "keys" / DATE / "account=1" / "notes.txt"
    other.parent.mkdir(parents=True)
    other.write_text("mine", encoding="utf-8")
    run(sample_mart, tmp_path, "--views", "keys")
    assert other.read_text(encoding="utf-8") == "mine"
    shutil.rmtree(other.parent)


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("eu-west-1", "eu-west-1"),
        ("*", "%2A"),
        ("../../etc", "%2E%2E%2F%2E%2E%2Fetc"),
        ("..", "%2E%2E"),
        ("a=b/c\x00\n", "a%3Db%2Fc%00%0A"),
        (None, "__HIVE_DEFAULT_PARTITION__"),
        ("", "__HIVE_DEFAULT_PARTITION__"),
    ],
)
def test_no_value_leads_out_of_its_folder(value: str | None, part: str) -> None:
    """A value in a path is a single safe name."""
    assert _encoded(value) == part


def test_mistakes_are_one_sentence(sample_mart: Path, tmp_path: Path) -> None:
    """An unknown view, and a file in place of the folder, give one sentence, and nothing is written."""
    unknown = run(sample_mart, tmp_path / "lake", "--views", "keys,../secret").exception
    assert isinstance(unknown, UserError)
    assert unknown.exit_code == 2
    (tmp_path / "file").write_text("", encoding="utf-8")
    blocked = run(sample_mart, tmp_path / "file" / "lake").exception
    assert isinstance(blocked, UserError)
    assert {path.name for path in tmp_path.iterdir()} == {"file"}


def test_the_group_lists_its_forms() -> None:
    """`export --help` lists every format with its description, without importing it."""
    text = CliRunner().invoke(export, ["--help"]).output
    assert all(name in text and about in text for name, (_, _, about) in EXPORTS.items())

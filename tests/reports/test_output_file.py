"""Output files: atomic, and only in place of regular files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from models.errors import UserError
from models.output_file import OutputError, remove_stale_files, replacing
from reports.answers.cookbook_cli import cookbook
from reports.cli import mart
from reports.exports.cli import findings
from reports.mart.cli import schema, sql

COMMANDS: dict[str, tuple[click.Command, list[str]]] = {
    "sql": (sql, ["SELECT 1"]),
    "sql --format parquet": (sql, ["--format", "parquet", "SELECT 1"]),
    "cookbook": (cookbook, ["keys-by-type"]),
    "cookbook --format markdown": (cookbook, ["--format", "markdown"]),
    "schema": (schema, ["keys"]),
    "export findings": (findings, ["--format", "csv"]),
    "mart": (mart, []),
}


@pytest.fixture(params=["device", "pipe", "link"])
def irregular(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A path that is not a regular file."""
    path = tmp_path / "irregular"
    if request.param == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/null")
    return Path("/dev/null") if request.param == "device" else path


def kind(path: Path) -> tuple[int, bool]:
    return path.stat().st_rdev, path.is_symlink()


def test_nothing_but_a_regular_file_is_replaced(irregular: Path) -> None:
    """A device, a pipe or a link to one stays, and the error is one sentence."""
    before = kind(irregular)
    with pytest.raises(OutputError, match="is not a regular file, and is not replaced by one: name another file"):
        replacing(irregular).__enter__()
    assert kind(irregular) == before


def test_a_directory_is_not_replaced(tmp_path: Path) -> None:
    """A directory stays."""
    with pytest.raises(OutputError, match="is not a regular file"):
        replacing(tmp_path).__enter__()
    assert tmp_path.is_dir()


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_replaces_a_device(name: str, sample_settings: Any, tmp_path: Path) -> None:
    """Each command with --output rejects a link to a device."""
    config = tmp_path / "kmsledger.yaml"
    config.write_text(f"database: {sample_settings.database}\nreport:\n  mart: {sample_settings.report.mart}\n")
    device = tmp_path / "device"
    device.symlink_to("/dev/null")
    command, arguments = COMMANDS[name]
    done = CliRunner().invoke(command, ["--config", str(config), "--output", str(device), *arguments])
    assert isinstance(done.exception, UserError), done.output
    assert "is not a regular file" in str(done.exception)
    assert device.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["device", "kmsledger.yaml"]


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    """The file is replaced at the end of the block, and only if it succeeds."""
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(path) as unfinished:
        unfinished.write_text(str(1 / 0))
    assert path.read_text() == "old"
    with replacing(path) as unfinished:
        unfinished.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def dead_process() -> int:
    """The ID of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_files_of_dead_builds_are_deleted(tmp_path: Path) -> None:
    """Marts, logs and spill directories of dead processes are deleted; other files, and those of live processes, stay."""
    dead, live = dead_process(), os.getpid()
    stale = [tmp_path / f".my.duckdb.{dead}.new{suffix}" for suffix in ("", ".tmp", ".wal")]
    kept = [
        tmp_path / name
        for name in (
            "my.duckdb",
            f".my.duckdb.{live}.new",
            f".my.duckdb.{live}.new.wal",
            f".other.duckdb.{dead}.new",
            f".myxduckdb.{dead}.new",
            f".my.duckdb.{dead}.new.txt",
            ".my.duckdb.99999999999999999999.new",
        )
    ]
    for path in (*stale, *kept):
        if path.suffix == ".tmp":
            path.mkdir()
            (path / "duckdb_temp_block-1").touch()
        else:
            path.touch()
    assert remove_stale_files(tmp_path / "my.duckdb") == stale
    assert sorted(tmp_path.iterdir()) == sorted(kept)
    assert remove_stale_files(tmp_path / "missing" / "my.duckdb") == []


def test_an_output_file_deletes_what_a_killed_process_left(tmp_path: Path) -> None:
    """The next write of the same file deletes the unfinished version of a process that was killed."""
    (tmp_path / f".report.html.{dead_process()}.new").touch()
    with replacing(tmp_path / "report.html") as unfinished:
        unfinished.touch()
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]

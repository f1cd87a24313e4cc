"""What killed builds of a mart leave behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from models.settings import Settings
from reports.mart.build import build
from reports.mart.stale_files import remove_stale_files


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


def test_a_build_deletes_the_files_of_a_killed_one(sample_settings: Settings, tmp_path: Path) -> None:
    """The next build of a mart deletes what a killed build left beside it."""
    (tmp_path / f".my.duckdb.{dead_process()}.new").touch()
    build(sample_settings.database, tmp_path / "my.duckdb", sample_settings)
    assert [path.name for path in tmp_path.iterdir()] == ["my.duckdb"]

"""The copy of the published mart that an incremental build updates, and what killed builds leave behind."""

from __future__ import annotations

import errno
import resource
from pathlib import Path

import pytest

from models.settings import Settings
from reports.mart import draft_file
from reports.mart.build import build
from tests.reports.test_output_file import dead_process


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 8 * 4096, 8 * 4096 + 1, 100_000])
def test_a_copy_has_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """A copy has neither gaps nor overlaps, whatever the size of the last block."""
    monkeypatch.setattr(draft_file, "BLOCK", 2 * 4096)
    content = bytes(number % 251 for number in range(size))
    (tmp_path / "mart").write_bytes(content)
    draft_file.copy(tmp_path / "mart", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content


def test_a_file_system_without_direct_io(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The copy falls back to ordinary reads and writes, and discards the failed attempt."""

    def unable(_source: Path, target: Path) -> None:
        target.write_bytes(b"a beginning")
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(draft_file, "_copy_direct", unable)
    (tmp_path / "mart").write_bytes(b"x" * 5000)
    draft_file.copy(tmp_path / "mart", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"x" * 5000


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    """An existing target file stays unchanged."""
    (tmp_path / "mart").write_bytes(b"new")
    (tmp_path / "copy").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        draft_file.copy(tmp_path / "mart", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"old"


def test_a_file_size_limit_is_reported(tmp_path: Path) -> None:
    """The operating system's error is raised."""
    (tmp_path / "mart").write_bytes(b"x" * 1_000_000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            draft_file.copy(tmp_path / "mart", tmp_path / "copy")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_build_deletes_the_files_of_a_killed_one(sample_settings: Settings, tmp_path: Path) -> None:
    """The next build of a mart deletes what a killed build left beside it."""
    (tmp_path / f".my.duckdb.{dead_process()}.new").touch()
    build(sample_settings.database, tmp_path / "my.duckdb", sample_settings)
    assert [path.name for path in tmp_path.iterdir()] == ["my.duckdb"]

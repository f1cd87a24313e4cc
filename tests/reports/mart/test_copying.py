"""The copy of a mart that the next one goes on from."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.mart import copying


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 3 * 4096, 3 * 4096 + 1, 50_000])
def test_a_copy_has_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Pieces are put together without gap or overlap, whatever is left over at the end."""
    monkeypatch.setattr(copying, "PIECE", 4096)
    monkeypatch.setattr(copying, "_BLOCK", 1000)
    content = bytes(number % 251 for number in range(size))
    (tmp_path / "mart").write_bytes(content)
    copying.copy(tmp_path / "mart", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content


def test_nothing_is_written_over(tmp_path: Path) -> None:
    """A file that is there is left alone."""
    (tmp_path / "mart").write_bytes(b"new")
    (tmp_path / "copy").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        copying.copy(tmp_path / "mart", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"old"


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    """An error of any reader is raised, not lost in its thread."""
    (tmp_path / "mart").write_bytes(b"x" * 100_000)
    with pytest.raises(OSError, match="No space left"):
        copying.copy(tmp_path / "mart", Full(tmp_path / "copy"))


class Full(type(Path())):  # type: ignore[misc] # the class of paths is chosen by the system
    """A path that opens the device on which there is never any space."""

    def open(self, *_args: object, **_options: object) -> object:
        """The device, as a file to write to."""
        return Path("/dev/full").open("r+b", buffering=0)

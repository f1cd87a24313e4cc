"""Writes output files: completely or not at all, and never over something that is not a regular file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from models.errors import UserError


class OutputError(UserError):
    """An output file cannot be written."""


_FIX = "create its directory, free disk space or give this user write permission"


@contextmanager
def replacing(path: Path, *, fix: str = _FIX) -> Iterator[Path]:
    """A temporary path beside a file, which replaces the file when the block ends without an error.

    Readers see the old or the new content, never a part of it. Raises OutputError if the file cannot be written, or if the path
    is a device, a pipe, a directory or a link to one of them.
    """
    unfinished = path.with_name(f".{path.name[:100]}.{os.getpid()}.new")
    try:
        with explained(path, fix):
            reject_irregular(path)
            unfinished.touch()  # fails before the work instead of after it
            unfinished.unlink()
            yield unfinished
            unfinished.replace(path)
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def keep_compiled(path: Path, content: bytes) -> None:
    """Keep what can be computed again, beside compiled modules; without effect where Python cannot or may not write those."""
    if sys.dont_write_bytecode:
        return
    with suppress(OSError, OutputError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as unfinished:
            unfinished.write_bytes(content)


def reject_irregular(path: Path) -> None:
    """Raise OutputError if a file cannot take the place of what the path names: a file must not replace /dev/null."""
    if path.exists() and not path.is_file():
        raise OutputError(f"{path} is not a regular file, and is not replaced by one: name another file")


@contextmanager
def explained(path: Path, fix: str = _FIX) -> Iterator[None]:
    """Raise an OSError of the block as an OutputError about the path."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror}): {fix}") from error

"""Writes output files: completely or not at all, and never over something that is not a regular file."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from models.errors import UserError
from models.file_access import publish, share


class OutputError(UserError):
    """An output file cannot be written."""


_FIX = "create its directory, free disk space or give this user write permission"

_NAME = 100
"""Characters of a file's name that are in the name of its unfinished version, which is longer."""


@contextmanager
def replacing(path: Path, *, fix: str = _FIX) -> Iterator[Path]:
    """A temporary path beside a file, which replaces the file when the block ends without an error.

    Readers see the old or the new content, never a part of it. Raises OutputError if the file cannot be written, or if the path
    is a device, a pipe, a directory or a link to one of them.
    """
    unfinished = unfinished_version(path)
    try:
        with explained(path, fix):
            reject_irregular(path)
            remove_stale_files(path)
            unfinished.touch()  # fails before the work instead of after it
            unfinished.unlink()
            yield unfinished
            share(unfinished)
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
        publish(path)  # other users run the same program


def unfinished_version(path: Path) -> Path:
    """The path at which this process writes a file before it replaces the one at the path."""
    return path.with_name(f".{path.name[:_NAME]}.{os.getpid()}.new")


def remove_stale_files(target: Path) -> list[Path]:
    """Delete unfinished versions of a file whose process is gone, because it was killed; returns what was deleted.

    They are named ``.NAME.PID.new``; a mart also has ``.NAME.PID.new.wal`` and ``.NAME.PID.new.tmp/``. Files of running processes
    are kept, as are those of which the process cannot be determined.
    """
    pattern = re.compile(rf"\.{re.escape(target.name[:_NAME])}\.([1-9][0-9]*)\.new(?:\.wal|\.tmp)?")
    deleted = []
    with suppress(OSError):  # a directory that cannot be read has its message when the file is written
        for path in sorted(target.absolute().parent.iterdir()):
            match = pattern.fullmatch(path.name)
            if match and not _is_running(int(match[1])) and _delete(path):
                deleted.append(path)
    return deleted


def _is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def _delete(path: Path) -> bool:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError:
        return False  # another process deleted it, or it belongs to another user
    return True


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

"""Files that are expensive to create, created once for all processes of a test run.

Helpers that are no fixtures, and so cannot use `shared_directory`, share files by name (`shared_file`).
"""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Callable
from pathlib import Path

_directories: list[Path] = []
"""The directory of the test run, if there is one."""


def share(directory: Path) -> None:
    """Keep shared files in this directory from now on."""
    _directories[:] = [directory]


def shared_file(name: str, make: Callable[[Path], None]) -> bytes:
    """Return the content of a file of the test run, created by `make(path)` in the first process that needs it."""
    if _directories:
        return made_once(_directories[0] / name, make).read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        return made_once(Path(folder) / name, make).read_bytes()


def made_once(path: Path, make: Callable[[Path], None]) -> Path:
    """Return the file or directory, created by `make(path)` in the first process; the other processes wait."""
    with path.with_name(f"{path.name}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            unfinished = path.with_name(f"{path.name}.unfinished")
            make(unfinished)
            unfinished.rename(path)
    return path

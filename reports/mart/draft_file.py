"""The file of a mart that is being built: starts as a copy of the published one; killed builds leave theirs behind."""

from __future__ import annotations

import errno
import mmap
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

BLOCK = 4 * 2**20
"""Bytes per read: a multiple of every disk's block size."""
_PAGE = 4096
_DIRECT = getattr(os, "O_DIRECT", 0)
_UNABLE = {errno.EINVAL, errno.ENOTSUP}


def copy(source: Path, target: Path) -> None:
    """Copy a file's bytes; the target must not exist. Raises OSError, and leaves a partial copy to the caller.

    Direct I/O takes an eighth of the CPU time of the page cache and half of the elapsed time, and does not evict other data
    from it (docs/benchmarks.md). Some file systems do not support it: in-memory and some network file systems.
    """
    if _DIRECT and source.stat().st_size % _PAGE == 0:
        try:
            _copy_direct(source, target)
        except OSError as error:
            if error.errno not in _UNABLE:
                raise
            target.unlink(missing_ok=True)
        else:
            return
    with source.open("rb") as read, target.open("xb") as write:
        shutil.copyfileobj(read, write, BLOCK)


def _copy_direct(source: Path, target: Path) -> None:
    def opener(path: str, flags: int) -> int:
        return os.open(path, flags | _DIRECT, 0o666)

    with (
        open(source, "rb", buffering=0, opener=opener) as read,
        open(target, "xb", buffering=0, opener=opener) as write,
        mmap.mmap(-1, BLOCK) as pages,
        memoryview(pages) as block,
    ):
        while got := read.readinto(block):
            done = 0
            while done < got:
                done += write.write(block[done:got])


def remove_stale_files(mart_path: Path) -> list[Path]:
    """Delete unfinished marts, their write-ahead logs and spill directories whose process is gone; returns what was deleted.

    A build writes ``.NAME.PID.new``, ``.NAME.PID.new.wal`` and ``.NAME.PID.new.tmp/``. Files of running processes are kept,
    as are those of which the process cannot be determined.
    """
    pattern = re.compile(rf"\.{re.escape(mart_path.name)}\.([1-9][0-9]*)\.new(?:\.wal|\.tmp)?")
    deleted = []
    with suppress(OSError):  # a directory that cannot be read has its message when the build writes to it
        for path in sorted(mart_path.absolute().parent.iterdir()):
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
        return False  # another build deleted it, or it belongs to another user
    return True

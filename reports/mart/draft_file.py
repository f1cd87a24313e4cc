"""The file of a mart that is being built starts as a copy of the published one."""

from __future__ import annotations

import errno
import mmap
import os
import shutil
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

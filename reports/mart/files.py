"""The mart's file: a copy to go on from.

The file that a new mart replaced is not used again instead, though that would spare the copy: somebody may still have it
open, and the locks that would tell are given up by a process that has it open twice and closes one.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_AT_ONCE = 1 << 30


def copied(source: Path, target: Path) -> None:
    """Copy a file inside the kernel, which shares the blocks where the file system can. Raises OSError."""
    if not hasattr(os, "copy_file_range"):
        shutil.copyfile(source, target)
        return
    with source.open("rb") as read, target.open("wb") as write:
        left = os.fstat(read.fileno()).st_size
        while left > 0:
            done = os.copy_file_range(read.fileno(), write.fileno(), min(left, _AT_ONCE))
            if done == 0:
                break
            left -= done

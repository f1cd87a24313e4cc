"""A copy of the published mart: gigabytes, read in several places at once, which a disk answers faster than one by one."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PIECE = 64 * 2**20
"""Bytes that one reader copies before it takes the next place."""
_BLOCK = 2**20
READERS = 4


def copy(source: Path, target: Path) -> None:
    """Copy a file's bytes; the target must not exist. Raises OSError, and leaves what was written to the caller."""
    with source.open("rb", buffering=0) as read, target.open("xb", buffering=0) as written:
        size = os.fstat(read.fileno()).st_size

        def piece(start: int) -> None:
            block = memoryview(bytearray(_BLOCK))
            at, end = start, min(start + PIECE, size)
            while at < end:
                got = os.preadv(read.fileno(), [block[: end - at]], at)
                if not got:
                    raise OSError(f"{source} became shorter while it was copied")
                done = 0
                while done < got:
                    done += os.pwrite(written.fileno(), block[done:got], at + done)
                at += got

        with ThreadPoolExecutor(READERS) as readers:
            for _ in readers.map(piece, range(0, size, PIECE)):
                pass

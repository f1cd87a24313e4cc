"""Keeps freed memory from adding up in the C library. Only glibc has these functions; elsewhere, they do nothing."""

from __future__ import annotations

import ctypes
from typing import Final

_M_ARENA_MAX: Final = -8  # malloc.h


def use_one_heap() -> None:
    """Have all threads allocate from one heap: glibc gives each its own, which keeps what the thread frees.

    With 32,000 keys, a run needs 40 MB less. Only effective before the first thread allocates.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_M_ARENA_MAX, 1)


def release_memory() -> None:
    """Return freed memory to the system: otherwise each stage adds to what earlier ones needed.

    With 32,000 keys, a crawl leaves 110 MB, and the access analysis 70 MB.
    """
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)

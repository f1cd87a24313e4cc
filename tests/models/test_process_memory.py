"""Memory that the C library keeps."""

from __future__ import annotations

import subprocess
import sys

HEAPS = """
import ctypes, os, sys, threading
from models.process_memory import use_one_heap
if sys.argv[1] == "one":
    use_one_heap()
library = ctypes.CDLL(None)
library.malloc.restype = library.fdopen.restype = ctypes.c_void_p
barrier = threading.Barrier(4)
def allocate():
    barrier.wait()
    for size in range(1_000, 90_000, 1_000):
        library.malloc(size)
threads = [threading.Thread(target=allocate) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
reading, writing = os.pipe()
library.malloc_info(0, ctypes.c_void_p(library.fdopen(writing, b"w")))
library.fflush(None)
print(os.read(reading, 1_000_000).count(b"<heap nr="))
"""


def heaps(number: str) -> int:
    """The heaps of a process with four threads."""
    return int(subprocess.run([sys.executable, "-c", HEAPS, number], capture_output=True, check=True).stdout)


def test_threads_share_a_heap() -> None:
    """Otherwise what each thread has freed adds up: glibc keeps it in the heap of the thread."""
    assert heaps("one") == 1
    assert heaps("many") > 1

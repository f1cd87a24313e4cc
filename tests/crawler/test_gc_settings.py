"""The garbage collector settings of a crawl end with the crawl."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from crawler.worker import relaxed_gc


def test_the_settings_are_restored() -> None:
    """The relaxed settings apply within the block and are restored after it, also after an error."""
    before = gc.get_threshold()
    during = []

    def crawl() -> None:
        with relaxed_gc():
            during.extend([gc.get_freeze_count() > 0, gc.get_threshold()[0] >= 10_000])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        crawl()
    assert during == [True, True]
    assert (gc.get_freeze_count(), gc.get_threshold()) == (0, before)


def test_objects_are_freed_at_exit() -> None:
    """Objects from before a crawl are freed at exit: DuckDB would report leaks on standard error."""
    program = (
        "import duckdb; from crawler.worker import relaxed_gc\n"
        "duckdb.connect().execute('SELECT 1')\n"
        "with relaxed_gc(): pass"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (process.stdout, process.stderr) == ("", "")

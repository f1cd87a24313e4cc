"""What a crawl asks of the garbage collector ends with it."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from crawler.worker import relaxed_gc


def test_the_collector_is_left_as_it_was() -> None:
    """Fewer looks at fewer objects while it lasts, then the usual ones at all, also after an error."""
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


def test_libraries_find_nothing_to_complain_about_at_the_end() -> None:
    """What was there before a crawl is freed when the program ends: DuckDB lists on standard error what is not."""
    program = (
        "import duckdb; from crawler.worker import relaxed_gc\n"
        "duckdb.connect().execute('SELECT 1')\n"
        "with relaxed_gc(): pass"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")

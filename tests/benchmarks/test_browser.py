"""The benchmark of reports in the browser finds the action that blocks the page."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.browser import longest_tasks

pytestmark = [
    pytest.mark.deep,
    pytest.mark.skipif(
        os.environ.get("KMSLEDGER_NO_BROWSER") == "1", reason="KMSLEDGER_NO_BROWSER=1: no browser on this machine"
    ),
]

PAGE = """<!doctype html>
<input type="search">
<div class="table" data-name="keys"><table><th><button>Key</button></th></table></div>
<script>
document.querySelector("button").addEventListener("click", () => {
  const began = performance.now();
  while (performance.now() - began < 700);
});
</script>
"""


def test_the_action_that_blocks_the_page_is_found(tmp_path: Path) -> None:
    """Sorting, which takes 700 ms here, has the longest task; a table without a filter is filtered at once."""
    page = tmp_path / "page.html"
    page.write_text(PAGE, encoding="utf-8")
    longest = longest_tasks(page, seconds=1)
    assert list(longest) == ["load", "search 'a'", "search ''", "filter keys", "sort keys"]
    assert max(longest, key=lambda action: longest[action]) == "sort keys"
    assert longest["sort keys"] > 100

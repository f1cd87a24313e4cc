"""The recipe "A report section": a query, a template, and its two lines in the report."""

from __future__ import annotations

import pytest

from tests.recipes.scratch import Scratch

QUERY = """-- Keys by spec, the most frequent first.
SELECT key_spec, count(*) AS amount, count(*) OVER () AS total FROM keys
GROUP BY key_spec ORDER BY amount DESC, key_spec LIMIT $limit
"""
SECTION = """<section id="specs">
<h2>Keys by spec</h2>
<ul>
{% for row in data.table("specs").rows %}
<li>{{ row.key_spec }}: {{ row.amount | number }}</li>
{% endfor %}
</ul>
</section>
"""
REPORT = """
import sys
from pathlib import Path
from reports.html.registry import find, write
from reports.pipeline import refresh
from tests.reports.ledger_builder import settings_of
from tests.reports.sample_ledger import sample_ledger

folder = Path(sys.argv[1])
settings = settings_of(database=sample_ledger(folder / "ledger.db"), report={"mart": folder / "mart.duckdb"})
refresh(settings)
print(write([find("overview")], settings.report.mart, folder / "out", settings)[-1].read_text(encoding="utf-8"))
"""


@pytest.mark.deep
def test_a_section_needs_no_python(scratch: Scratch) -> None:
    """The new section is in the report and in its table of contents."""
    templates = "reports/html/templates"
    scratch.create("reports/html/queries/specs.sql", QUERY)
    scratch.create(f"{templates}/overview/specs.j2", SECTION)
    include, entry = '{% include "overview/specs.j2" %}\n', '<li><a href="#specs">Keys by spec</a></li>\n'
    scratch.insert(f"{templates}/overview.html.j2", "overview/coverage.j2", include)
    scratch.insert(f"{templates}/overview/contents.j2", 'href="#coverage"', entry)
    page = scratch.python("-c", REPORT, str(scratch.root))
    assert "<h2>Keys by spec</h2>" in page
    assert "SYMMETRIC_DEFAULT: " in page
    assert page.count(entry.strip()) == 1
    assert sorted(scratch.added.values()) == [1, 1, 3, 8]

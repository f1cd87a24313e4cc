"""The recipe "A question": one prepared query."""

from __future__ import annotations

from tests.recipes.scratch import Scratch

QUESTION = """-- title: Keys by spec
-- topic: history
-- question: How many keys are there of each spec?
-- answer: One row per key spec.
SELECT key_spec, count(*) AS keys FROM keys GROUP BY key_spec ORDER BY key_spec
"""


def test_a_question_is_one_file(scratch: Scratch) -> None:
    """A prepared query is listed and documented as soon as its file exists."""
    scratch.create("reports/answers/cookbook/keys-by-spec.sql", QUESTION)
    assert "keys-by-spec" in scratch.kmsledger("cookbook")
    scratch.kmsledger("cookbook", "--format", "markdown", "--output", "docs/cookbook.md")
    assert "How many keys are there of each spec?" in (scratch.root / "docs/cookbook.md").read_text(encoding="utf-8")
    assert scratch.added == {"reports/answers/cookbook/keys-by-spec.sql": 5}

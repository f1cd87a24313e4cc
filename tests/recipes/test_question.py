"""The recipe "A question": one file, whether SQL or Python answers it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.recipes.scratch import Scratch
from tests.reports.answers.conftest import organization_mart

IN_SQL = """-- title: Keys by spec
-- topic: history
-- question: How many keys are there of each spec?
-- answer: One row per key spec.
SELECT key_spec, count(*) AS keys FROM keys GROUP BY key_spec ORDER BY key_spec
"""
IN_PYTHON = '''"""Show how long the ARNs of the keys are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.cli_options import AS_OF
from reports.answers.question import question
from reports.answers.repository import opened


@dataclass
class Lengths:
    keys: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        return {"keys": self.keys}

    def to_text(self) -> str:
        return "\\n".join(f"{key['key_arn']}: {key['length']}" for key in self.keys)


@question(AS_OF, columns=("key_arn", "length"), rows=lambda document: document["keys"])
def arn_lengths(mart: Path, as_of: str | None) -> Lengths:
    """Show how many characters the ARN of each key has."""
    with opened(mart, as_of) as facts:
        arns = facts.duck.execute("SELECT key_arn FROM keys ORDER BY key_arn").fetchall()
        return Lengths([{"key_arn": arn, "length": len(arn)} for (arn,) in arns])
'''


@pytest.fixture
def mart_path(tmp_path: Path) -> Path:
    """The mart of a sample organization."""
    organization_mart(tmp_path / "answers", iam=False)
    return tmp_path / "answers" / "answers.duckdb"


def test_a_question_for_sql_is_one_file(scratch: Scratch) -> None:
    """A prepared query is listed and documented as soon as its file exists."""
    scratch.create("reports/answers/cookbook/keys-by-spec.sql", IN_SQL)
    assert "keys-by-spec" in scratch.kmsledger("cookbook")
    scratch.kmsledger("cookbook", "--format", "markdown", "--output", "docs/cookbook.md")
    assert "How many keys are there of each spec?" in (scratch.root / "docs/cookbook.md").read_text(encoding="utf-8")
    assert scratch.added == {"reports/answers/cookbook/keys-by-spec.sql": 5}


@pytest.mark.deep
def test_a_question_for_python_is_one_file(scratch: Scratch, mart_path: Path) -> None:
    """A module is a command in the help, with the common options and formats, as soon as its file exists."""
    scratch.create("reports/answers/questions/arn_lengths.py", IN_PYTHON)
    assert "arn-lengths     Show how long the ARNs of the keys are." in scratch.kmsledger("--help")
    answers = {
        form: scratch.kmsledger("arn-lengths", "--mart", str(mart_path), "--as-of", "1", "--format", form)
        for form in ("table", "json", "csv")
    }
    (arn, length), *_ = rows = [line.rsplit(": ", 1) for line in answers["table"].splitlines()]
    assert int(length) == len(arn)
    assert json.loads(answers["json"])["keys"] == [{"key_arn": arn, "length": int(length)} for arn, length in rows]
    assert answers["csv"].splitlines()[1] == f'"{arn}",{length}'
    assert list(scratch.added) == ["reports/answers/questions/arn_lengths.py"]

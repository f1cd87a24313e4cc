"""The data dictionary: complete, correct, and equal to its document."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from models.errors import UserError
from reports.mart import schema as dictionary
from reports.mart.cli import schema
from reports.mart.query import described
from reports.mart.schema import Relation, chosen, declared, markdown

DOCUMENT = Path(__file__).parents[3] / "docs" / "schema.md"


def test_the_document_is_up_to_date() -> None:
    """docs/schema.md has the views that this version declares."""
    assert DOCUMENT.read_text(encoding="utf-8") == markdown(declared()), (
        "views have changed: regenerate docs/schema.md with `kmsledger schema --format markdown --output docs/schema.md`"
    )


def test_it_is_what_a_mart_says_of_itself(sample_mart: Path) -> None:
    """The dictionary has every view and column of a real mart with type and description, and nothing else."""
    _, rows = described(sample_mart)
    listed = {(view.name, column.name, column.type, column.about) for view in declared() for column in view.columns}
    assert listed == {(row[0], row[2], row[3], row[4]) for row in rows}
    assert all(view.about and all(column.about for column in view.columns) for view in declared())


def test_it_is_kept_for_this_program_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The views are described once for a version of the program; a damaged file, or one of another version, is replaced."""
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    relations = declared()
    calls: list[int] = []

    def described() -> tuple[Relation, ...]:
        calls.append(1)
        return relations[:3]

    monkeypatch.setattr(dictionary, "_described", described)
    for _ in range(2):
        assert declared.__wrapped__() == relations[:3]
    assert len(calls) == 1
    (kept,) = tmp_path.rglob("schema.json")
    for content in (b"", b"{", kept.read_bytes().replace(b'"program":"', b'"program":"x')):
        kept.write_bytes(content)
        assert declared.__wrapped__() == relations[:3]
    assert len(calls) == 4


def test_histories_and_macros_are_named() -> None:
    """A view has the names of its macro and its history; a history has neither."""
    keys, grants = chosen(["keys", "grants_history"])
    assert (keys.as_of, keys.history) == ("keys_as_of(run)", "keys_history")
    assert (grants.as_of, grants.history) == (None, None)


def test_text_and_json() -> None:
    """The selected views are listed in the given order, as text and as JSON with the name of its format."""
    text = CliRunner().invoke(schema, ["runs", "keys"]).output
    assert text.index("runs: ") < text.index("keys: ")
    assert "  as of another run: keys_as_of(run)" in text
    assert "accounts: " not in text
    found = json.loads(CliRunner().invoke(schema, ["keys", "--format", "json"]).output)
    assert found["format"] == "kmsledger.schema/1"
    assert found["views"][0]["columns"][0] == {
        "name": "key_arn",
        "type": "VARCHAR",
        "about": "The ARN of the key; it identifies the key.",
    }


def test_an_unknown_view_is_reported(tmp_path: Path) -> None:
    """An unknown view gives one sentence with the command that lists the views, exit code 2, and no file."""
    error = CliRunner().invoke(schema, ["nothing", "--output", str(tmp_path / "a")]).exception
    assert isinstance(error, UserError)
    assert error.exit_code == 2
    assert str(error) == "there is no view 'nothing': `kmsledger schema` lists the views"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sign", ["|", "*", "<b>"])
def test_no_sign_breaks_the_document(sign: str) -> None:
    """Characters with a meaning in Markdown are escaped."""
    about = f"a {sign} b"
    view = chosen(["runs"])[0]
    changed = type(view)(view.name, about, view.columns, None, None)
    assert f"a \\{sign[0]}" in markdown([changed])

"""The threat model names the tests that guard its statements."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
POINTER = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
GUARDED = (
    "Hostile text from AWS",
    "What each credential can do",
    "What the tool never does",
    "Queries, rules and packs",
)


@cache
def functions(path: str) -> set[str]:
    """The names of all functions of a file."""
    tree = ast.parse((ROOT / path).read_bytes())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize(("path", "name"), sorted(set(POINTER.findall(PAGE))))
def test_every_named_test_exists(path: str, name: str) -> None:
    """A test that is renamed or deleted must not leave a statement that nothing guards."""
    assert name in functions(path)


def test_every_statement_is_guarded() -> None:
    """Each statement about what the tool does or never does has at least one test."""
    sections = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
    assert set(GUARDED) <= sections.keys()
    for title in (*GUARDED, "The service"):
        statements = re.split(r"^- ", sections[title], flags=re.MULTILINE)[1:]
        assert statements, title
        for statement in statements:
            assert POINTER.search(statement), statement

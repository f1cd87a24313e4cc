"""The recipe "A rule": one query and its examples."""

from __future__ import annotations

import pytest

from tests.recipes.scratch import Scratch


@pytest.mark.deep
def test_a_rule_is_two_files(scratch: Scratch) -> None:
    """`rules new` writes a rule and its examples, which pass, also with every response removed."""
    folder = scratch.root / "own"
    scratch.kmsledger("rules", "new", "key-described", "--directory", str(folder))
    assert sorted(path.name for path in folder.iterdir()) == ["key-described.examples.yaml", "key-described.sql"]
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in folder.iterdir()) <= 70
    said = scratch.kmsledger("rules", "test", "--gaps", str(folder / "key-described.sql"))
    assert "key-described" in said

"""A scratch copy of the repository for each recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.recipes.scratch import Scratch, scratch_copy


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    copy = tmp_path / "copy"
    copy.mkdir()
    return scratch_copy(copy)

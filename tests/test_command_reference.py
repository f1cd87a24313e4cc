"""docs/commands.md is generated from the help of the commands."""

from __future__ import annotations

from tests.command_reference import DOCUMENT, document


def test_the_reference_is_that_of_this_version() -> None:
    """Each command and option of this version is in the page, and nothing else."""
    assert DOCUMENT.read_text(encoding="utf-8") == document(), "commands have changed: run `make reference`"

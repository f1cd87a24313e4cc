"""docs/commands.md is generated from the help of the commands."""

from __future__ import annotations

import re

from tests.command_reference import DOCUMENT, document


def test_the_reference_is_that_of_this_version() -> None:
    """Each command and option of this version is in the page, and nothing else."""
    assert DOCUMENT.read_text(encoding="utf-8") == document(), "commands have changed: run `make reference`"


def test_code_is_printed_as_it_is_typed() -> None:
    """Markdown shows a backslash in code, so names in code, such as `exit_code`, are not escaped."""
    code = re.findall("`([^`\n]+)`", document())
    assert "exit_code" in code
    assert not [text for text in code if re.search(r"\\[<*_[]", text)]

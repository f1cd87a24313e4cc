"""The commands and queries in the README work as written."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Workspace

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^ *```(\w*)\n(.*?)^ *```$", README, flags=re.MULTILINE | re.DOTALL)
QUERIES = [text for language, text in BLOCKS if language == "sql"]
COMMANDS = [line.strip() for language, text in BLOCKS if not language for line in text.splitlines() if line.strip()]
MAKE = {"make demo", "make test"}


@pytest.mark.deep  # the whole organization of the demo
@pytest.mark.parametrize("query", QUERIES)
def test_every_query_runs_and_answers_in_the_demo(crawled: Workspace, query: str) -> None:
    """Each SQL example runs on the mart of the demo organization; all except the changes of a first run return rows."""
    rows = crawled.sql(query)
    assert rows or "FROM changes" in query


def test_there_are_queries_and_commands() -> None:
    """The README contains queries and commands, including the two setup commands."""
    assert len(QUERIES) >= 5
    assert set(COMMANDS) >= MAKE


@pytest.mark.deep
@pytest.mark.parametrize("command", sorted({*COMMANDS} - MAKE))
def test_every_command_runs(workspace: Workspace, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command of the README exits with a documented code other than failure; a file that it reads is written before."""
    monkeypatch.chdir(workspace.directory)
    *_, last = command.split()
    writers = [other for other in COMMANDS if other != command and other.endswith(f"--output {last}")]
    for line in (*writers, command):
        program, *arguments = shlex.split(line)
        assert program == "kmsledger"
        if arguments == ["init"]:  # writes a new file; the organization of a settings file is not known before
            workspace.settings.unlink()
            arguments.append("--offline")
        done = workspace.run(*arguments)
        assert done.returncode in {0, 1, 3}, done.stderr
        assert "Traceback" not in done.stderr


def test_links_and_images_exist() -> None:
    """No link from the README to a project file is broken."""
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (Path(__file__).parents[2] / target).exists(), target

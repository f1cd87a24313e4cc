"""The tutorial works as written: one shell runs its commands in order, against the servers that it starts itself."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from email import message_from_bytes, policy
from pathlib import Path

import pytest

TUTORIAL = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TUTORIAL, flags=re.MULTILINE | re.DOTALL)
INSTALLATION = "make setup\n. .venv/bin/activate\n"
"""Replaced by the environment of the tests, which `make setup` created."""
PORTS = ("5600", "5625")
TIMEOUT_S = 400
WITH_GAPS = {
    "kmsledger doctor > doctor.txt",
    "kmsledger crawl",
    "kmsledger coverage > coverage.txt",
    "kmsledger denials > denials.txt",
    "kmsledger nightly",
}
"""The commands that exit with 3, because the organization denies some calls."""


def steps() -> list[tuple[str, list[str]]]:
    """Each block of commands with the lines of its output that the tutorial shows."""
    found: list[tuple[str, list[str]]] = []
    for language, text in BLOCKS:
        if language == "text":
            found[-1][1].extend(text.splitlines())
        else:
            assert not language
            found.append((text, []))
    return found


def pattern(line: str) -> str:
    """Match a line of the tutorial in the output: "..." stands for anything, a space for several."""
    parts = [" +".join(map(re.escape, part.split())) for part in line.split("...")]
    return rf"^ *{'.*'.join(parts)} *$"


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port


def test_the_output_of_the_tutorial_is_compared() -> None:
    """Most steps show lines of their output, and "..." does not stand for a whole line."""
    shown = [lines for _, lines in steps()]
    assert sum(map(bool, shown)) >= len(shown) / 2
    assert all(re.search(r"\w", line) for lines in shown for line in lines)
    assert re.search(pattern("a ... (b)  c"), "  a 1 (b)     c")
    assert not re.search(pattern("a ... (b)"), "a 1 b")
    assert not re.search(pattern("a (b)"), "a (b) c")


@pytest.mark.deep  # two crawls
def test_every_command_runs_in_order_and_the_report_is_delivered(tmp_path: Path) -> None:
    """Every command exits with the code that the tutorial states and prints the lines that it shows; the mail has the report."""
    script = ["trap 'echo \"@exit $? $BASH_COMMAND\"' ERR"]
    for number, (commands, _) in enumerate(steps()):
        script += [f"echo '@step {number}'", "" if commands == INSTALLATION else commands]
    text = "\n".join(script)
    for port in PORTS:
        assert text.count(port) == 2  # of the server and in the settings
        text = text.replace(port, str(free_port()))
    output, home = tmp_path / "output.txt", tmp_path / "home"
    home.mkdir()
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "KMSLEDGER_"))}
    with output.open("wb") as stream:
        shell = subprocess.Popen(
            [shutil.which("bash") or "bash", "-c", text],
            cwd=home,
            env={**environment, "HOME": str(home), "PATH": binaries},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            shell.wait(TIMEOUT_S)
        finally:
            if _alive(shell.pid):  # the servers, if a command before the last one failed
                os.killpg(shell.pid, signal.SIGKILL)
    transcript = output.read_text(encoding="utf-8")
    assert "Traceback" not in transcript
    outputs = re.split(r"^@step \d+\n", transcript, flags=re.MULTILINE)[1:]
    assert len(outputs) == len(steps()), transcript
    failed = re.findall(r"^@exit (\d+) (.+)$", transcript, re.MULTILINE)
    assert set(failed) == {("3", command) for command in WITH_GAPS}
    for (commands, lines), printed in zip(steps(), outputs, strict=True):
        for line in lines:
            assert re.search(pattern(line), printed, re.MULTILINE), (
                f"{line}\nnot in the output of\n{commands}\n{printed}"
            )
    (received,) = (home / "first-crawl" / "mail" / "new").iterdir()
    message = message_from_bytes(received.read_bytes(), policy=policy.default)
    assert message["To"] == "security@example.org"
    (report,) = message.iter_attachments()
    assert report.get_content() == (home / "first-crawl/reports-out/kmsledger-overview.html").read_text(
        encoding="utf-8"
    )


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True

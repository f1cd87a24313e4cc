"""The log: one line for each record, whatever its message contains."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from models import console
from models.logging_setup import OWN, set_up, set_up_own_loggers


@pytest.fixture
def loggers() -> Iterator[None]:
    """The root logger and the level of ours, as they were before."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    hooks = threading.excepthook, sys.unraisablehook
    yield
    threading.excepthook, sys.unraisablehook = hooks
    logging.captureWarnings(capture=False)
    console.use_json(enabled=False)
    console.set_run(None)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in OWN:
        logger = logging.getLogger(name)
        logger.setLevel(logging.NOTSET)
        logger.handlers.clear()
        logger.propagate = True


@pytest.mark.usefixtures("loggers")
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_message_cannot_forge_a_line_or_control_a_terminal(
    capsys: pytest.CaptureFixture[str], log_format: str
) -> None:
    """Line feeds and control characters in a name from AWS are escapes in the log; JSON has the same value."""
    set_up("info", log_format)
    name = "alias/a\n12:00:00 INFO all is well\x1b[2J\x9b\u202e\u00e9"
    logging.getLogger("crawler").warning("key %s", name)
    try:
        int(name)
    except ValueError:
        logging.getLogger("crawler").exception("failed")
    lines = capsys.readouterr().err.splitlines()
    assert all(line.isprintable() for line in lines)
    if log_format == "json":
        assert [json.loads(line)["message"] for line in lines] == [f"key {name}", "failed"]
    else:
        assert lines[0].endswith("\\n12:00:00 INFO all is well\\x1b[2J\\x9b\\u202e\u00e9")
        assert lines[1].endswith("ERROR failed")


PROGRAM = """
import logging, sys, threading, warnings
import click
from models import cli_main, console
from models.errors import UserError
from models.logging_setup import OWN, set_up, set_up_own_loggers

@click.command()
@click.option("--log-format")
@click.option("--fail")
def command(log_format, fail):
    set_up("info", log_format or "text")
    console.set_run(7)
    console.say("a summary")
    console.complain("a failed\\x1bmail")
    logging.getLogger("crawler").info("a record")
    warnings.warn("an old function", DeprecationWarning, stacklevel=1)
    thread = threading.Thread(target=lambda: 1 / 0, name="writer")
    thread.start()
    thread.join()
    raise {"user": UserError("cause: fix"), "bug": ZeroDivisionError("boom")}[fail]

cli_main.main(command)
"""


@pytest.mark.parametrize("arguments", [["--fail", "user"], ["--fail", "bug"], ["--fail"], ["--no-such-option"]])
def test_every_line_is_json(arguments: list[str]) -> None:
    """Summary, errors, warnings of Python, failed threads, usage errors and crashes are lines of JSON with the run's number."""
    command = [sys.executable, "-W", "always", "-c", PROGRAM, "--log-format", "json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in (done.stdout + done.stderr).splitlines()]
    assert lines
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    messages = [line["message"] for line in lines]
    if len(arguments) > 1:
        assert {line["run_id"] for line in lines} == {7}
        assert messages[:3] == ["a summary", "a failed\x1bmail", "a record"]
        assert "an old function" in messages[3]
        assert messages[4] == "unexpected ZeroDivisionError in the thread writer: division by zero"
        assert messages[5].startswith("cause: fix" if arguments[1] == "user" else "unexpected ZeroDivisionError: boom;")
        assert done.returncode == 4
    else:
        assert len(lines) == 1
        assert done.returncode == 2


def test_text_lines_name_the_run() -> None:
    """In the text format, records of the log name the run, and the summary is plain."""
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, "--fail", "user"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "a summary\n"
    first, second, *_, last = done.stderr.splitlines()
    assert first == "kmsledger: a failed\\x1bmail"
    assert second.endswith(" INFO run 7: a record")
    assert last == "kmsledger: cause: fix"


@pytest.mark.usefixtures("loggers")
def test_a_process_of_another_program_keeps_its_logging(capsys: pytest.CaptureFixture[str]) -> None:
    """Our lines are JSON with the run, once, even if set up repeatedly; the root logger, its handlers and the hooks stay."""
    root = logging.getLogger()
    theirs = logging.StreamHandler(sys.stderr)
    root.handlers[:] = [theirs]
    before = root.level, threading.excepthook, sys.unraisablehook, logging.getLogger("distributed").level
    set_up_own_loggers("debug", "json", 6)
    set_up_own_loggers("debug", "json", 7)
    logging.getLogger("crawler.aws.client").debug("retrying")
    logging.getLogger("distributed.worker").warning("theirs")
    ours, other = capsys.readouterr().err.splitlines()
    assert (json.loads(ours)["run_id"], json.loads(ours)["message"], other) == (7, "retrying", "theirs")
    assert root.handlers == [theirs]
    assert before == (root.level, threading.excepthook, sys.unraisablehook, logging.getLogger("distributed").level)

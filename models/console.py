"""Status lines and error sentences of a command: as text, or as lines of JSON where the log is JSON."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from models.safe_text import printable_lines

if TYPE_CHECKING:
    import click


class _Output:
    """How this process writes; set once by the command."""

    def __init__(self) -> None:
        self.as_json = False
        self.run_id: int | None = None


_OUTPUT = _Output()


def use_json(enabled: bool) -> None:
    """Write lines of JSON from now on, or text."""
    _OUTPUT.as_json = enabled


def use_json_if_requested(arguments: Sequence[str]) -> None:
    """Write lines of JSON if the command line asks for it: errors in the rest of it and in the settings file come first."""
    separate = ("--log-format", "json") in itertools.pairwise(arguments)
    use_json(separate or "--log-format=json" in arguments)


def log_format() -> str:
    """The format of lines, for the processes that this one starts."""
    return "json" if _OUTPUT.as_json else "text"


def set_run(run_id: int | None) -> None:
    """Name the run in all further lines of JSON and of the log."""
    _OUTPUT.run_id = run_id


def current_run() -> int | None:
    """The run that lines are about, once it is known."""
    return _OUTPUT.run_id


def json_line(created: float, level: str, logger: str, message: str, **more: Any) -> str:
    """A line of JSON: time (UTC, ISO 8601), level, logger, run_id once it is known, message."""
    time = dt.datetime.fromtimestamp(created, dt.UTC).isoformat(timespec="milliseconds")
    run = {} if _OUTPUT.run_id is None else {"run_id": _OUTPUT.run_id}
    return json.dumps({"time": time, "level": level, "logger": logger, **run, "message": message, **more})


def say(text: str) -> None:
    """Print a line about the progress or the result of the command to standard output."""
    _write(text, text, "info", error=False)


def complain(sentence: str, traceback: str = "") -> None:
    """Print an error to standard error, in text with the name of the program; a traceback is a field, or lines before it."""
    more = {"exception": traceback} if traceback else {}
    _write(f"{traceback}kmsledger: {sentence}", sentence, "error", error=True, **more)


def _write(text: str, message: str, level: str, *, error: bool, **more: str) -> None:
    line = printable_lines(text)
    if _OUTPUT.as_json:
        line = json_line(dt.datetime.now(dt.UTC).timestamp(), level, "kmsledger", message, **more)
    stream = sys.stderr if error else sys.stdout
    try:
        if stream is not None:
            stream.write(f"{line}\n")
            stream.flush()
    except BrokenPipeError:
        raise
    except OSError:
        # The disk of the log is full, for example. The exit code reports what happened; an error here would hide it.
        discard_output()


def discard_output() -> None:
    """Let nothing fail when buffered output is written at the end: where it cannot be written, it is discarded."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            setattr(sys, name, None)


def show_usage_error(error: click.ClickException, text: str) -> None:
    """Print the message of an error of the command line; in text with the usage."""
    if _OUTPUT.as_json:
        complain(error.format_message())
    else:
        with suppress(OSError):
            sys.stderr.write(printable_lines(text))

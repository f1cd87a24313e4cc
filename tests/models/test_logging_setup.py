"""The log: one line for each record, whatever its message contains."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from models.logging_setup import set_up


@pytest.fixture
def loggers() -> Iterator[None]:
    """The root logger and the level of ours, as they were before."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in ("crawler", "models", "reports", "kmsledger"):
        logging.getLogger(name).setLevel(logging.NOTSET)


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

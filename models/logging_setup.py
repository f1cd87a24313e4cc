"""Logging to standard error, as text or JSON lines."""

from __future__ import annotations

import io
import logging
import sys
import threading
from typing import Any, Final, TextIO

from models import console
from models.safe_text import printable, printable_lines

log = logging.getLogger(__name__)


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON, as :func:`models.console.json_line` does."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        more = {"exception": self.formatException(record.exc_info)} if record.exc_info else {}
        return console.json_line(record.created, record.levelname.lower(), record.name, record.getMessage(), **more)


class TextFormatter(logging.Formatter):
    """Formats a record as one line with its run, and an exception as further lines, without control characters."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name of the base class
        """The line."""
        run_id = console.current_run()
        record.run = "" if run_id is None else f"run {run_id}: "
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name of the base class
        """The lines of the exception."""
        return printable_lines(super().formatException(ei))


class StandardErrorHandler(logging.StreamHandler[TextIO]):
    """Writes to what standard error is at the time of a record."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]  # an attribute in the base class
        """Standard error; somewhere harmless if there is none."""
        return sys.stderr or _NOWHERE


_NOWHERE = io.StringIO()


OWN: Final = ("crawler", "models", "reports", "kmsledger")
"""Our own loggers."""


def set_up(level: str, log_format: str, run_id: int | None = None) -> None:
    """Log our own records from a level on to standard error, warnings of Python and libraries, and failures of threads."""
    root = logging.getLogger()
    root.handlers[:] = [_handler(log_format, run_id)]
    root.setLevel(logging.WARNING)
    for name in OWN:
        logging.getLogger(name).setLevel(level.upper())
    logging.captureWarnings(True)
    # Python would print a traceback. A test runner that has replaced these functions keeps them.
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _thread_failed
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _cleanup_failed


def set_up_own_loggers(level: str, log_format: str, run_id: int | None) -> None:
    """Log our own records as :func:`set_up` does, in a process that is not ours: its other loggers and hooks stay as they are."""
    handler = _handler(log_format, run_id)
    for name in OWN:
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.propagate = False
        logger.setLevel(level.upper())


def _handler(log_format: str, run_id: int | None) -> logging.Handler:
    console.use_json(log_format == "json")
    console.set_run(run_id)
    handler = StandardErrorHandler()
    text = TextFormatter("%(asctime)s %(levelname)s %(run)s%(message)s", "%H:%M:%S")
    handler.setFormatter(JsonFormatter() if log_format == "json" else text)
    return handler


def _thread_failed(failure: threading.ExceptHookArgs) -> None:
    name = failure.thread.name if failure.thread else "unknown"
    log.error("unexpected %s in the thread %s: %s", failure.exc_type.__name__, name, failure.exc_value)


def _cleanup_failed(failure: Any) -> None:
    log.warning("unexpected %s while an object was deleted: %s", failure.exc_type.__name__, failure.exc_value)

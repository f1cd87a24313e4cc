"""Runs the command `kmsledger` in the process of the tests, without loading all modules again."""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from unittest import mock

from models import console

OWN_LOGGERS = ("", "crawler", "models", "reports", "kmsledger")


def run(*arguments: str, env: Mapping[str, str], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the function of the console script with these arguments and this environment; standard input is empty."""
    (script,) = metadata.entry_points(group="console_scripts", name="kmsledger")
    main = script.load()
    output, errors = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    code: object = 0
    with (
        _process_state(),
        mock.patch.dict(os.environ, env, clear=True),
        mock.patch.object(sys, "argv", ["kmsledger", *arguments]),
        mock.patch.object(sys, "stdin", io.StringIO()),
        contextlib.chdir(cwd or Path.cwd()),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
        mock.patch("models.cli_main.watch_signals"),  # it would end the process of the tests
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code
    assert isinstance(code, int)
    return subprocess.CompletedProcess(["kmsledger", *arguments], code, _text(output), _text(errors))


@contextlib.contextmanager
def _process_state() -> Iterator[None]:
    """Restore the process-wide state that a command changes: signal handlers, logging, garbage collection."""
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
    replaced, umask = [signal.getsignal(number) for number in numbers], os.umask(0o077)
    os.umask(umask)
    loggers = [logging.getLogger(name) for name in OWN_LOGGERS]
    levels, handlers, collecting = [logger.level for logger in loggers], loggers[0].handlers[:], gc.get_threshold()
    try:
        yield
    finally:
        for number, handler in zip(numbers, replaced, strict=True):
            signal.signal(number, handler)
        os.umask(umask)
        logging.captureWarnings(capture=False)
        console.use_json(enabled=False)
        console.set_run(None)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        loggers[0].handlers[:] = handlers
        gc.set_threshold(*collecting)


def _text(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()

"""Starts `kmsledger` in processes of its own that need not import it again: forks of a process that has only imported."""

from __future__ import annotations

import ctypes
import datetime as dt
import gc
import importlib
import io
import multiprocessing
import os
import resource
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tests.end_to_end.conftest import Installation

_PRELOADED = (
    "alembic.command",
    "boto3",
    "crawler.aws.transport_curl",
    "crawler.crawl",
    "kmsledger",
    "reports.notify.failure_notice",
    "reports.pipeline",
    "tests.end_to_end.night_process",
)
TIMEOUT_S = 120.0


@dataclass
class Night:
    """A started command."""

    process: BaseProcess
    output: Path
    errors: Path

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self.process.is_alive()

    def send(self, number: signal.Signals) -> None:
        """Send a signal; without effect if the process has ended."""
        if self.process.pid is not None and self.process.is_alive():
            os.kill(self.process.pid, number)

    def wait(self) -> Ended:
        """Wait for the end."""
        self.process.join(TIMEOUT_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
            raise TimeoutError(f"the command did not end: {self.errors.read_text()}")
        assert self.process.exitcode is not None
        return Ended(self.process.exitcode, self.output.read_text(), self.errors.read_text())

    def wait_until(self, reached: Callable[[], bool]) -> bool:
        """Wait until something has happened, or the process has ended; returns whether it still runs."""
        until = time.monotonic() + TIMEOUT_S
        while self.running and not reached():
            assert time.monotonic() < until
            time.sleep(0.005)
        return self.running


@dataclass(frozen=True)
class Ended:
    """Exit code (negative: the signal that killed it) and output of a command."""

    code: int
    output: str
    errors: str


_CONTEXT: list[ForkServerContext] = []
_FOLDER: list[tempfile.TemporaryDirectory[str]] = []


def start(installation: Installation, *arguments: str, before: Callable[[], None] | None = None) -> Night:
    """Start `kmsledger` with arguments and the settings of an installation; ``before`` runs in its process first."""
    if not _CONTEXT:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(_PRELOADED))
        _CONTEXT.append(context)
    if not _FOLDER:
        # Not in the directory of the installation, whose disk may be full.
        _FOLDER.append(tempfile.TemporaryDirectory(prefix="kmsledger-nights-"))
    number = len(list(Path(_FOLDER[0].name).iterdir()))
    output, errors = (Path(_FOLDER[0].name) / f"{name}-{number}" for name in ("output", "errors"))
    output.touch()
    errors.touch()
    command = [*arguments, "--config", str(installation.settings)]
    process = _CONTEXT[0].Process(target=_run, args=(command, installation.environment, output, errors, before))
    process.start()
    return Night(process, output, errors)


def run(installation: Installation, *arguments: str, before: Callable[[], None] | None = None) -> Ended:
    """Run `kmsledger` to its end."""
    return start(installation, *arguments, before=before).wait()


def _run(
    arguments: list[str], environment: dict[str, str], output: Path, errors: Path, before: Callable[[], None] | None
) -> None:
    """In the new process: what the console script does."""
    for descriptor, path in ((1, output), (2, errors)):
        with path.open("wb") as file:
            os.dup2(file.fileno(), descriptor)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = io.TextIOWrapper(io.FileIO(descriptor, "w", closefd=False), encoding="utf-8", write_through=True)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        signal.signal(number, handler)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["kmsledger", *arguments]
    if before is not None:
        before()
    (script,) = metadata.entry_points(group="console_scripts", name="kmsledger")
    script.load()()


def set_clock_back() -> None:
    """Let this process see the time of a day ago, as after a correction of its clock; called before the command."""
    now = dt.datetime.now

    def earlier(_cls: type, tz: dt.tzinfo | None = None) -> dt.datetime:
        return now(tz) - dt.timedelta(days=1)

    # A subclass in place of the class would fail checks of types; the attributes of a built-in class are written like this.
    gc.get_referents(dt.datetime.__dict__)[0]["now"] = classmethod(earlier)
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(dt.datetime))


def limit_file_size() -> None:
    """Let writes beyond the first 100 kB of a file fail in this process: a full disk where none can be mounted."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))


ENDLESS = {
    "python": "while True: time.sleep(0.02)",
    "duckdb": "new_connection().execute('SELECT sum(hash(range)) FROM range(1000000000000)')",
    # A call of a C library that Python cannot interrupt.
    "sqlite": "sqlite3.connect(':memory:').execute("
    "'WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n')",
}


def hold(target: str, how: str) -> None:
    """Let a function of this process print that it has begun, and then never end; called before the command."""
    from reports.connections import new_connection

    def held(*_arguments: Any, **_options: Any) -> None:
        print("held", file=sys.stderr, flush=True)  # noqa: T201 - the test waits for it
        exec(ENDLESS[how], {"time": time, "sqlite3": sqlite3, "new_connection": new_connection})  # noqa: S102 - from above

    module, _, name = target.rpartition(".")
    setattr(importlib.import_module(module), name, held)

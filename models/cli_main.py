"""Running a command as a console program: signals, failures as one sentence, exit codes, limits of time and memory."""

from __future__ import annotations

import fcntl
import io
import os
import re
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click

from models import file_access
from models.console import complain, discard_output, show_usage_error, use_json_if_requested
from models.errors import UserError
from models.interruption import SIGNALS, described, handle_signals, terminate, watch_signals

DONE = 0
FAILED = 4
"""The exit code of a command that failed or was interrupted."""
_QUERY_INTERRUPTED = "Query interrupted"
"""The message of the error into which DuckDB turns the KeyboardInterrupt that ends a query."""


class InterruptedCommandError(UserError):
    """A command was interrupted; the message says what was kept, and how to finish."""

    exit_code = FAILED
    is_reported = False


@contextmanager
def interruptible(message: str) -> Iterator[None]:
    """Report an interruption of the block with this message. Raises InterruptedCommandError."""
    try:
        with described(message):
            yield
    except KeyboardInterrupt as error:
        raise InterruptedCommandError(message) from error
    except RuntimeError as error:
        if not _is_interruption(error):
            raise
        raise InterruptedCommandError(message) from error


def main(command: click.Command) -> None:
    """Run a command and exit; a failure is one sentence on standard error, with --debug its traceback too."""
    use_json_if_requested(sys.argv[1:])
    file_access.restrict()
    handle_signals()
    # Until the process ends, not only this function: the interpreter waits for threads.
    watch_signals(complain)
    code = _exit_code(lambda: command(standalone_mode=False))
    discard_output()
    sys.exit(code)


def run_limited(prepare: Callable[[], Callable[[], None]], *, seconds: float, memory: int) -> None:
    """Run a function in a child process, which the kernel ends at the limits, whatever library function it is in.

    ``prepare`` runs in the child, without limits, and returns the function. This may take ``seconds``, not counting the time
    that the reader of standard output takes, and ``memory`` bytes besides those in use. Both print to standard output and report
    their errors themselves. Raises Exit with their exit code, LimitExceededError, or KeyboardInterrupt; the child has ended then.

    A caller that has replaced standard output (a test) reads the output in its own process: then nothing is limited.
    """
    if sys.__stdout__ is None or sys.stdout is not sys.__stdout__:
        prepare()()
        return
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        signal.signal(signal.SIGHUP, terminate)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where it is ignored, the kernel reports no end of a child
    sys.__stdout__.flush()
    parent, child = os.getpid(), 0
    reader, writer = os.pipe()
    # Blocked until each process has its handlers. The parent takes them by sigwait: a signal between the last check of the
    # interpreter and a blocking waitpid would be noticed only after the child has ended.
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, *SIGNALS})
    try:
        child = os.fork()
        if not child:
            os.close(writer)
            end_with(parent, reader)
            _run_child(prepare, seconds, memory)
        code = _wait(child)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        os.close(reader)
        os.close(writer)
    if -code in SIGNALS:
        raise KeyboardInterrupt
    if code < 0:
        raise LimitExceededError(signal.Signals(-code))
    if code:
        raise click.exceptions.Exit(code)


def _wait(child: int) -> int:
    """Wait for a child, with SIGCHLD and interruptions blocked; returns its exit code. An interruption ends the child."""
    expected = {signal.SIGCHLD} | _heeded_interruptions()
    while signal.sigwait(expected) is signal.SIGCHLD:  # sent when a child is stopped, too
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise KeyboardInterrupt


def _heeded_interruptions() -> set[signal.Signals]:
    return {number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN}


class LimitExceededError(Exception):
    """A child process was ended by a signal: SIGALRM at its time limit, another one most likely at its memory limit."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.timed_out = number is signal.SIGALRM


class _PatientOutput(io.RawIOBase):
    """A file descriptor to write to; while its reader is slow (a pager, a pipe), the time limit does not run."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: Any, /) -> int:
        remaining, _ = signal.setitimer(signal.ITIMER_REAL, 0)
        try:
            return os.write(self._descriptor, data)
        finally:
            signal.setitimer(signal.ITIMER_REAL, remaining)


def end_with(parent: int, pipe: int) -> None:
    """Let the kernel end this process when its parent ends, in whatever way, and so closes the other end of a pipe: by SIGIO."""
    signals = {signal.SIGALRM, signal.SIGIO, signal.SIGCHLD} | _heeded_interruptions()
    for number in signals:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, fcntl.F_SETFL, os.O_ASYNC)
    if os.getppid() != parent:  # it ended before
        os._exit(FAILED)


def _run_child(prepare: Callable[[], Callable[[], None]], seconds: float, memory: int) -> NoReturn:
    code = FAILED

    def work() -> None:
        function = prepare()
        limit_memory(memory)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        function()
        sys.stdout.flush()

    try:
        stdout = sys.stdout
        output = io.BufferedWriter(_PatientOutput(stdout.fileno()))
        sys.stdout = io.TextIOWrapper(output, encoding=stdout.encoding, errors=stdout.errors)
        code = _exit_code(work)
    finally:
        os._exit(code)


def limit_memory(more: int) -> None:
    """Let allocations fail beyond the memory that this process uses now and some bytes more (on Linux)."""
    status = Path("/proc/self/status")
    if status.exists() and (used := re.search(r"^VmData:\s*([0-9]+) kB", status.read_text(), re.MULTILINE)):
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limit = int(used[1]) * 1024 + more
        resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _exit_code(run: Callable[[], Any]) -> int:
    stdout = sys.stdout
    try:
        result = run()
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(file=shown)
        show_usage_error(error, shown.getvalue())
        return error.exit_code
    except click.exceptions.Exit as error:
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _interrupted()
    except UserError as error:
        return _failed(str(error), error.exit_code)
    except BrokenPipeError:
        # The reader has closed the pipe.
        sys.stdout = None  # nothing is left to be flushed at exit
        return DONE
    except SystemExit:
        # If the reader closes the pipe, click replaces the stream and exits with 1, which would mean findings.
        if sys.stdout is stdout:
            raise
        return DONE
    except Exception as error:  # noqa: BLE001  (users read one sentence, never a traceback)
        if _is_interruption(error):
            return _interrupted()
        return _failed(
            f"unexpected {type(error).__name__}: {error}; run the command again with --debug and report its output",
            FAILED,
        )
    return result if isinstance(result, int) else DONE


def _is_interruption(error: Exception) -> bool:
    return isinstance(error, RuntimeError) and str(error) == _QUERY_INTERRUPTED


def _interrupted() -> int:
    return _failed("interrupted: run the command again", FAILED)


def _failed(sentence: str, code: int) -> int:
    shown = ""
    if "--debug" in sys.argv[1:]:
        import traceback

        shown = traceback.format_exc()
    complain(sentence, shown)
    return code

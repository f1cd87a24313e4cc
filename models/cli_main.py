"""Running a command as a console program: signals, failures as one sentence, exit codes."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click

from models.errors import UserError

DONE = 0
FAILED = 4
"""The exit code of a command that failed or was interrupted."""
_QUERY_INTERRUPTED = "Query interrupted"
"""The message of the error into which DuckDB turns the KeyboardInterrupt that ends a query."""


class InterruptedCommandError(UserError):
    """A command was interrupted; the message says what was kept, and how to finish."""

    exit_code = FAILED


@contextmanager
def interruptible(message: str) -> Iterator[None]:
    """Report an interruption of the block with this message. Raises InterruptedCommandError."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise InterruptedCommandError(message) from error
    except RuntimeError as error:
        if not _is_interruption(error):
            raise
        raise InterruptedCommandError(message) from error


def main(command: click.Command) -> None:
    """Run a command and exit; a failure is one sentence on standard error, with --debug its traceback too."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(_run(command, debug="--debug" in sys.argv[1:]))


_ON_INTERRUPT: list[Callable[[], None]] = []


def on_interrupt(callback: Callable[[], None]) -> None:
    """Let Ctrl-C and SIGTERM call a function before they raise KeyboardInterrupt.

    asyncio replaces only the default handler of SIGINT. Therefore call this when no event loop runs any more.
    """
    if callback not in _ON_INTERRUPT:
        _ON_INTERRUPT.append(callback)
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    for callback in _ON_INTERRUPT:
        callback()
    raise KeyboardInterrupt


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    """End as Ctrl-C does: what was saved is kept, and the crawl lock is released."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A background job of a script ignores Ctrl-C, but not a request to terminate.
        _interrupt(_signal, _frame)
    # Not raised here: asyncio handles SIGINT itself, and cancels its tasks in order.
    signal.raise_signal(signal.SIGINT)


def _run(command: click.Command, *, debug: bool) -> int:
    stdout = sys.stdout
    try:
        result: Any = command(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _interrupted()
    except UserError as error:
        if debug:
            raise
        return _failed(str(error), error.exit_code)
    except BrokenPipeError:
        # The reader closed the pipe.
        sys.stdout = None  # nothing is left to be flushed at exit
        return DONE
    except SystemExit:
        # If the reader closes the pipe, click replaces the stream and exits with 1, which would mean findings.
        if sys.stdout is stdout:
            raise
        return DONE
    except Exception as error:
        if _is_interruption(error):
            return _interrupted()
        if debug:
            raise
        return _failed(
            f"unexpected {type(error).__name__}: {error}; run the command again with --debug and report its output",
            FAILED,
        )
    return result if isinstance(result, int) else 0


def _is_interruption(error: Exception) -> bool:
    return isinstance(error, RuntimeError) and str(error) == _QUERY_INTERRUPTED


def _interrupted() -> int:
    return _failed("interrupted: run the command again", FAILED)


def _failed(sentence: str, code: int) -> int:
    click.echo(f"kmsledger: {sentence}", err=True)
    return code

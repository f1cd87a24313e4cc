"""Interrupts a command: by a signal, by the deadline of a whole run, and by force when an interruption takes too long."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from models.errors import UserError

SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
"""The signals that interrupt a command."""
GRACE_S = 8.0
"""Seconds from the first of them to the forced end: a call of a C library cannot be interrupted, and the sender waits."""
DEADLINE_GRACE_S = 300.0
"""Seconds from a deadline to the forced end: the failure is reported meanwhile."""
EXIT_CODE = 4

_MESSAGES: list[str] = []
"""The messages of the blocks that are running, the innermost last."""


class DeadlineError(UserError):
    """A run was interrupted by its deadline."""


_ON_INTERRUPT: list[Callable[[], None]] = []


def on_interrupt(callback: Callable[[], None]) -> None:
    """Let Ctrl-C, SIGTERM and SIGHUP call a function before they raise KeyboardInterrupt.

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


def terminate(_signal: int, _frame: FrameType | None) -> None:
    """End as Ctrl-C does: what was saved is kept, and the locks are released."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A background job of a script ignores Ctrl-C, but not a request to terminate.
        _interrupt(_signal, _frame)
    # Not raised here: asyncio handles SIGINT itself, and cancels its tasks in order.
    signal.raise_signal(signal.SIGINT)


def handle_signals() -> None:
    """Let SIGTERM and, unless it is ignored (nohup), SIGHUP interrupt the command."""
    signal.signal(signal.SIGTERM, terminate)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, terminate)


@contextmanager
def described(message: str) -> Iterator[None]:
    """While the block runs, a forced end prints this message."""
    _MESSAGES.append(message)
    try:
        yield
    finally:
        _MESSAGES.remove(message)


def watch_signals(show: Callable[[str], None]) -> None:
    """End the process GRACE_S seconds after a signal of SIGNALS, if it has not ended by then, and show the described message.

    A thread is notified by the kernel's signal handler, because Python's handlers wait for the main thread to return from C.
    Whatever the process was doing, nothing is lost: every stage can be killed.
    """
    global _watched  # noqa: PLW0603 - one for each process, like the signal handlers
    if _watched or threading.current_thread() is not threading.main_thread():
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader, show), name="signals", daemon=True).start()
    _watched = True


_watched = False


def _watch(reader: int, show: Callable[[str], None]) -> None:
    while number := os.read(reader, 1):
        if number[0] == signal.SIGALRM:
            threading.Thread(target=_end_after, args=(DEADLINE_GRACE_S, show), daemon=True).start()
        elif number[0] in SIGNALS:
            _end_after(GRACE_S, show)


def _end_after(seconds: float, show: Callable[[str], None]) -> None:
    time.sleep(seconds)
    try:
        show(_MESSAGES[-1] if _MESSAGES else "interrupted: run the command again")
    finally:
        os._exit(EXIT_CODE)


@contextmanager
def deadline(seconds: float, setting: str) -> Iterator[None]:
    """Interrupt the block as a signal does when it has taken so many seconds. Raises DeadlineError, which names the setting."""
    passed = threading.Event()

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        passed.set()
        watched = signal.set_wakeup_fd(-1)  # time remains to report the failure
        try:
            terminate(_signal, _frame)
        finally:
            signal.set_wakeup_fd(watched)

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except (KeyboardInterrupt, UserError) as error:
        if not passed.is_set():
            raise
        detail = f"; {error.message}" if isinstance(error, UserError) else ""
        raise DeadlineError(f"not finished within {seconds:g} s ({setting}){detail}") from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)

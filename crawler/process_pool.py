"""An executor of processes that each work on many tasks at once.

``concurrent.futures.ProcessPoolExecutor`` gives a process one task at a time; scopes mostly wait for AWS, so that a process
has to hold many of them for its event loop to be busy. Otherwise this is an executor like any other.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)

_SPAWN = multiprocessing.get_context("spawn")
"""The parent has threads, and forking copies only one of them."""


class Processes(Executor):
    """``count`` processes with ``at_once`` tasks each. A process that dies fails its own tasks and is replaced."""

    def __init__(
        self, count: int, at_once: int, initializer: Callable[..., None] | None = None, initargs: tuple[Any, ...] = ()
    ) -> None:
        self._lock = threading.Lock()
        self._closed = False
        self._set_up = (at_once, initializer, initargs)
        self._processes = [self._start() for _ in range(count)]

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have ``fn`` called in the process that has least to do; arguments and result are pickled."""
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("no more tasks after the executor was shut down")
            process = min(self._processes, key=lambda one: len(one.tasks))
            process.send(future, (fn, args, kwargs))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes: once their tasks are done, or at once with ``cancel_futures``."""
        with self._lock:
            self._closed = True
        for process in self._processes:
            process.close(at_once=cancel_futures)
        if wait:
            for process in self._processes:
                process.join()

    @property
    def process_ids(self) -> list[int]:
        """Of the processes that are alive."""
        return [process.pid for process in self._processes]

    def _start(self) -> _Process:
        at_once, initializer, initargs = self._set_up
        return _Process(at_once, initializer, initargs, self._died)

    def _died(self, process: _Process) -> None:
        with self._lock:
            if not self._closed and process in self._processes:
                log.warning(
                    "process %s ended unasked (exit code %s): another takes its place", process.pid, process.code
                )
                self._processes[self._processes.index(process)] = self._start()
        # After it is replaced, because what waits for these may submit them again at once.
        process.fail()


class _Process:
    """The parent's side of one process."""

    def __init__(
        self,
        at_once: int,
        initializer: Callable[..., None] | None,
        initargs: tuple[Any, ...],
        died: Callable[[_Process], None],
    ) -> None:
        self.tasks: dict[int, Future[Any]] = {}
        self._here, there = _SPAWN.Pipe()
        self._process = _SPAWN.Process(
            target=_serve, args=(there, at_once, initializer, initargs), name="kmsledger-crawl", daemon=True
        )
        # The C library gives threads arenas of their own, each of which keeps the most that it ever held.
        os.environ.setdefault("MALLOC_ARENA_MAX", "2")
        self._process.start()
        there.close()
        self._died = died
        self._numbers = 0
        self._sending = threading.Lock()
        self._reader = threading.Thread(target=self._read, name="results", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid or 0

    @property
    def code(self) -> int | None:
        """How it ended."""
        return self._process.exitcode

    def send(self, future: Future[Any], call: tuple[Any, ...]) -> None:
        """Hand over a task. Where it is dead, reading notices that and fails the task."""
        with self._sending:
            self._numbers += 1
            self.tasks[self._numbers] = future
            data = pickle.dumps((self._numbers, call))
            try:
                self._here.send_bytes(data)
            except OSError:
                log.debug("process %s took no more tasks", self.pid)

    def close(self, *, at_once: bool) -> None:
        """Ask it to end."""
        if at_once:
            self._process.kill()
            return
        with self._sending:
            try:
                self._here.send_bytes(b"")
            except OSError:
                log.debug("process %s had ended before it was asked to", self.pid)

    def join(self) -> None:
        """Wait for its end."""
        self._process.join()
        self._reader.join()

    def fail(self) -> None:
        """Fail what it had not done."""
        for number in list(self.tasks):
            future = self.tasks.pop(number)
            if not future.cancelled():
                future.set_exception(BrokenExecutor(f"the process ended with exit code {self.code}"))

    def _read(self) -> None:
        while True:
            try:
                data, *buffers = _received(self._here)
            except (EOFError, OSError):
                break
            number, good, result = pickle.loads(data, buffers=buffers)  # noqa: S301 - from our own child
            del data, buffers
            future = self.tasks.pop(number)
            if future.cancelled():
                continue
            if good:
                future.set_result(result)
            else:
                future.set_exception(result)
        self._process.join()
        self._died(self)


def _serve(
    connection: Connection, at_once: int, initializer: Callable[..., None] | None, initargs: tuple[Any, ...]
) -> None:
    # Ctrl-C goes to all processes of a terminal; only the parent knows what to do about it, and its end is ours.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if initializer is not None:
        initializer(*initargs)
    sending = threading.Lock()

    def run(number: int, call: tuple[Any, ...]) -> None:
        function, args, kwargs = call
        try:
            answer = (number, True, function(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - carried to the parent, which raises it
            answer = (number, False, error)
        frames = _pickled(answer)
        del answer
        with sending:
            connection.send_bytes(len(frames).to_bytes(4))
            for frame in frames:
                connection.send_bytes(frame)

    with ThreadPoolExecutor(at_once, thread_name_prefix="task") as threads:
        while True:
            try:
                data = connection.recv_bytes()
            except (EOFError, OSError):
                # The parent is gone: nobody wants what is being done here.
                os._exit(1)
            if not data:
                break
            number, call = pickle.loads(data)  # noqa: S301 - from our own parent
            threads.submit(run, number, call)
    connection.close()
    # Threads of libraries must not keep the process.
    os._exit(0)


def _received(connection: Connection) -> list[bytes]:
    """A result: its pickle, and the buffers that this was pickled without."""
    return [connection.recv_bytes() for _ in range(int.from_bytes(connection.recv_bytes()))]


def _pickled(answer: tuple[int, bool, Any]) -> list[Any]:
    buffers: list[pickle.PickleBuffer] = []
    try:
        data = pickle.dumps(answer, pickle.HIGHEST_PROTOCOL, buffer_callback=buffers.append)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        failure = RuntimeError(f"the result cannot be sent: {error}: {answer[2]!r:.200}")
        return [pickle.dumps((answer[0], False, failure))]
    return [data, *(buffer.raw() for buffer in buffers)]

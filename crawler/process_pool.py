"""A process pool whose processes each run many tasks concurrently.

``concurrent.futures.ProcessPoolExecutor`` runs one task per process. Scopes mostly wait for AWS, so a process needs many of
them to keep its event loop busy. Otherwise the pool is a regular executor.
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
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)

_SPAWN = multiprocessing.get_context("spawn")
"""The parent has threads; a fork would copy only one of them."""


class AsyncProcessPool(Executor):
    """Runs tasks in ``count`` processes, ``tasks_per_process`` in each; a process that dies fails its tasks and is replaced."""

    def __init__(self, count: int, tasks_per_process: int, initializer: Callable[[], None] | None = None) -> None:
        self._lock = threading.Lock()
        self._closed = False
        self._start = partial(_Process, tasks_per_process, initializer, self._on_exit)
        self._processes = [self._start() for _ in range(count)]

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call ``fn`` in the least busy process; arguments and result are pickled."""
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("cannot submit a task after shutdown")
            process = min(self._processes, key=lambda candidate: len(candidate.tasks))
            process.send(future, (fn, args, kwargs))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Stop the processes after their tasks, or immediately with ``cancel_futures``."""
        with self._lock:
            self._closed = True
        for process in self._processes:
            process.close(kill=cancel_futures)
        if wait:
            for process in self._processes:
                process.join()

    @property
    def process_ids(self) -> list[int]:
        """The ids of the running processes."""
        return [process.pid for process in self._processes]

    def _on_exit(self, process: _Process) -> None:
        with self._lock:
            if not self._closed and process in self._processes:
                log.warning("worker %s exited unexpectedly (code %s); restarting", process.pid, process.exit_code)
                self._processes[self._processes.index(process)] = self._start()
        # After the replacement: callers may resubmit the failed tasks immediately.
        process.fail_tasks()


class _Process:
    """The parent's handle of one process."""

    def __init__(
        self, tasks_per_process: int, initializer: Callable[[], None] | None, on_exit: Callable[[_Process], None]
    ) -> None:
        self.tasks: dict[int, Future[Any]] = {}
        self._connection, child_connection = _SPAWN.Pipe()
        self._process = _SPAWN.Process(
            target=_serve,
            args=(child_connection, tasks_per_process, initializer),
            name="kmsledger-crawl",
            daemon=True,
        )
        # By default the C library keeps a memory arena per thread, each at its peak size.
        os.environ.setdefault("MALLOC_ARENA_MAX", "2")
        self._process.start()
        child_connection.close()
        self._on_exit = on_exit
        self._numbers = 0
        self._sending = threading.Lock()
        self._reader = threading.Thread(target=self._read, name="results", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid or 0

    @property
    def exit_code(self) -> int | None:
        """The exit code; ``None`` while the process runs."""
        return self._process.exitcode

    def send(self, future: Future[Any], call: tuple[Any, ...]) -> None:
        """Send a task. If the process is dead, the reader thread notices and fails the task."""
        with self._sending:
            self._numbers += 1
            self.tasks[self._numbers] = future
            try:
                self._connection.send((self._numbers, call))
            except OSError:
                log.debug("worker %s stopped accepting tasks", self.pid)

    def close(self, *, kill: bool) -> None:
        """Tell the process to exit after its tasks, or kill it."""
        if kill:
            self._process.kill()
            return
        with self._sending:
            try:
                self._connection.send(None)
            except OSError:
                log.debug("worker %s exited before the shutdown", self.pid)

    def join(self) -> None:
        """Wait for the process to exit."""
        self._process.join()
        self._reader.join()

    def fail_tasks(self) -> None:
        """Fail the unfinished tasks."""
        for number in list(self.tasks):
            future = self.tasks.pop(number)
            if not future.cancelled():
                future.set_exception(BrokenExecutor(f"the worker process exited with code {self.exit_code}"))

    def _read(self) -> None:
        while True:
            try:
                number, succeeded, result = self._connection.recv()
            except (EOFError, OSError):
                break
            future = self.tasks.pop(number)
            if future.cancelled():
                continue
            if succeeded:
                future.set_result(result)
            else:
                future.set_exception(result)
        self._process.join()
        self._on_exit(self)


def _serve(connection: Connection, tasks_per_process: int, initializer: Callable[[], None] | None) -> None:
    # Ctrl-C reaches all processes of a terminal; only the parent handles it, and the workers exit with the parent.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if initializer is not None:
        initializer()
    send_lock = threading.Lock()

    def run(number: int, call: tuple[Any, ...]) -> None:
        function, args, kwargs = call
        try:
            outcome = (number, True, function(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - carried to the parent, which raises it
            outcome = (number, False, error)
        with send_lock:
            try:
                connection.send(outcome)
            except (pickle.PicklingError, TypeError, AttributeError) as error:
                failure = RuntimeError(f"the result cannot be sent: {error}: {outcome[2]!r:.200}")
                connection.send((number, False, failure))

    with ThreadPoolExecutor(tasks_per_process, thread_name_prefix="task") as threads:
        while True:
            try:
                task = connection.recv()
            except (EOFError, OSError):
                # The parent exited: the results are no longer needed.
                os._exit(1)
            if task is None:
                break
            threads.submit(run, *task)
    connection.close()
    # Library threads must not keep the process alive.
    os._exit(0)

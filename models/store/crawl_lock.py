"""The locks of a ledger: one run at a time, and one process that computes results; stale locks are detected.

A run holds ``Lock.RUN`` from its crawl to its last delivery, and so does maintenance in the name of the last run. A process that
writes access analyses, findings or the mart holds ``Lock.RESULTS``: a run after its crawl, or `kmsledger mart`, which may run
while another process crawls.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path

from sqlalchemy import ColumnElement, Connection, Engine, and_, delete, func, insert, select, update

from models.errors import UserError
from models.store.engine import check, opened, translate_errors
from models.tables.runs import CrawlLock, Run, RunStatus

STALE_AFTER = dt.timedelta(minutes=10)
"""The lock of another host is stale after this time without a heartbeat."""

HEARTBEAT_INTERVAL = 60.0
"""Seconds between heartbeats; another host considers the lock stale after ``STALE_AFTER``."""

_CLOCK_TOLERANCE = dt.timedelta(seconds=2)
"""Tolerance for the start time of a process, which the kernel counts in clock ticks."""


_WAIT_INTERVAL = 0.5
"""Seconds between attempts to acquire a lock that another process holds."""

log = logging.getLogger(__name__)


class Lock(IntEnum):
    """What a process excludes others from; the key of its row."""

    RUN = 1
    """Crawls, nightly runs and maintenance."""
    RESULTS = 2
    """Access analysis, mart and findings."""


_HOLDERS = {
    Lock.RUN: "run {run_id} has been crawling into this database, or finishing its later stages,",
    Lock.RESULTS: "the results of run {run_id} have been computed by another process",
}


class LockedError(UserError):
    """Another process holds the lock of this database."""

    exit_code = 2
    is_reported = False


def acquire(connection: Connection, run_id: int, lock: Lock = Lock.RUN) -> None:
    """Acquire a lock for a run. Raises LockedError while another process holds it; marks the run of a stale lock as interrupted.

    The transaction must be a write transaction from its start (``engine.begin()``): of two crawls that start at the same
    time, the second then waits until it sees the lock of the first.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7262018)")
    table = CrawlLock.__table__
    now = dt.datetime.now(dt.UTC)
    held = connection.execute(select(table).where(table.c.lock_id == lock)).mappings().one_or_none()
    if held is not None:
        if _alive(held["host"], held["process_id"], held["heartbeat"], now):
            raise LockedError(
                f"{_HOLDERS[lock].format(run_id=held['run_id'])} since {held['acquired_at']:%Y-%m-%d %H:%M:%S} UTC "
                f"(process {held['process_id']} on {held['host']}): wait for it to end"
            )
        connection.execute(delete(CrawlLock).where(table.c.lock_id == lock))
        connection.execute(
            update(Run)
            .where(Run.run_id == held["run_id"], Run.status == RunStatus.RUNNING)
            .values(
                status=str(RunStatus.INTERRUPTED),
                finished_at=held["heartbeat"],
                message="the crawl ended unexpectedly; saved data is kept",
            )
        )
    connection.execute(
        insert(CrawlLock).values(
            lock_id=int(lock),
            run_id=run_id,
            host=socket.gethostname(),
            process_id=os.getpid(),
            acquired_at=now,
            heartbeat=now,
        )
    )


def heartbeat(connection: Connection, run_id: int, lock: Lock = Lock.RUN) -> None:
    """Update the heartbeat. Raises LockedError if the lock was lost, so that the transaction is not committed."""
    alive = update(CrawlLock).where(_held(run_id, lock)).values(heartbeat=dt.datetime.now(dt.UTC))
    if connection.execute(alive).rowcount == 0:
        raise LockedError(
            f"run {run_id} sent no heartbeat for too long and another crawl took the lock: start it again after that crawl "
            "ends; saved data is kept"
        )


def release(engine: Engine, run_id: int, lock: Lock = Lock.RUN) -> None:
    """Release the lock of a run."""
    with engine.begin() as connection:
        connection.execute(delete(CrawlLock).where(_held(run_id, lock)))


def _held(run_id: int, lock: Lock) -> ColumnElement[bool]:
    return and_(CrawlLock.run_id == run_id, CrawlLock.lock_id == int(lock))


@contextmanager
def results(database: str, *, wait: float = 0) -> Iterator[None]:
    """Hold the lock for computing results, in the name of the last run; a ledger without runs needs none.

    Waits for another process for ``wait`` seconds. Raises LockedError.
    """
    run_id = _acquire_results(database, wait)
    if run_id is None:
        yield
        return
    with kept(database, run_id, Lock.RESULTS):
        yield


def _acquire_results(database: str, wait: float) -> int | None:
    until = time.monotonic() + wait
    waiting = False
    with opened(database, must_exist=True) as engine:
        check(engine)
        while True:
            try:
                with translate_errors(engine), engine.begin() as connection:
                    run_id: int | None = connection.execute(select(func.max(Run.run_id))).scalar()
                    if run_id is not None:
                        acquire(connection, run_id, Lock.RESULTS)
                    return run_id
            except LockedError as error:
                if time.monotonic() >= until:
                    raise
                if not waiting:
                    log.info("%s; waiting", error.message.removesuffix(": wait for it to end"))
                waiting = True
            time.sleep(_WAIT_INTERVAL)


@contextmanager
def kept(database: str, run_id: int, lock: Lock = Lock.RUN) -> Iterator[None]:
    """Keep a lock that this process has acquired for the run until the block ends, and release it.

    Heartbeats are sent only to PostgreSQL: other hosts do not use a SQLite file, and on this host the process shows whether a
    lock is stale. A connection to SQLite, when closed, would also drop the file locks of DuckDB's own copy of SQLite in this
    process.
    """
    with opened(database) as engine:
        stopped = threading.Event()
        arguments = (engine, run_id, lock, stopped)
        sender = threading.Thread(target=_send_heartbeats, args=arguments, name="lock", daemon=True)
        if engine.dialect.name == "postgresql":
            sender.start()
        try:
            yield
        finally:
            stopped.set()
            if sender.is_alive():
                sender.join()
            try:
                with translate_errors(engine):
                    release(engine, run_id, lock)
            except UserError as error:
                log.warning("the lock of run %s could not be released: %s", run_id, error.message)


def _send_heartbeats(engine: Engine, run_id: int, lock: Lock, stopped: threading.Event) -> None:
    while not stopped.wait(HEARTBEAT_INTERVAL):
        try:
            with translate_errors(engine), engine.begin() as connection:
                heartbeat(connection, run_id, lock)
        except UserError as error:
            log.warning("the lock of run %s could not be renewed: %s", run_id, error.message)


class MaintenanceLock:
    """The lock while it is held."""

    def __init__(self, engine: Engine, run_id: int | None) -> None:
        self._engine = engine
        self._run_id = run_id
        self._last_heartbeat = time.monotonic()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A write transaction that includes a heartbeat."""
        with translate_errors(self._engine), self._engine.begin() as connection:
            yield connection
            if self._run_id is not None:
                for lock in Lock:
                    heartbeat(connection, self._run_id, lock)
        self._last_heartbeat = time.monotonic()

    def heartbeat(self) -> None:
        """Update the heartbeat if the last one is older than HEARTBEAT_INTERVAL."""
        if time.monotonic() - self._last_heartbeat > HEARTBEAT_INTERVAL:
            with self.transaction():
                pass


@contextmanager
def exclusive(engine: Engine) -> Iterator[MaintenanceLock]:
    """Hold both locks. Raises LockedError while another process holds one of them. A ledger without runs needs no lock."""
    with translate_errors(engine), engine.begin() as connection:
        run_id: int | None = connection.execute(select(func.max(Run.run_id))).scalar()
        if run_id is not None:
            for lock in Lock:
                acquire(connection, run_id, lock)
    try:
        yield MaintenanceLock(engine, run_id)
    finally:
        if run_id is not None:
            with translate_errors(engine):
                for lock in Lock:
                    release(engine, run_id, lock)


def _alive(host: str, process_id: int, heartbeat: dt.datetime, now: dt.datetime) -> bool:
    if host != socket.gethostname():
        return now - heartbeat < STALE_AFTER
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # the process exists and belongs to another user
    return not _began_after(process_id, heartbeat)


def _began_after(process_id: int, heartbeat: dt.datetime) -> bool:
    """Whether a process started after the heartbeat, so that its ID was reused.

    In a container, the crawl after a killed one often has the same process ID.
    """
    try:
        # The process name may contain blanks and brackets, so split after it. Field 22 is the start time in clock ticks.
        ticks = int(Path(f"/proc/{process_id}/stat").read_bytes().rpartition(b")")[2].split()[19])
        uptime = float(Path("/proc/uptime").read_bytes().split()[0])
    except (OSError, ValueError, IndexError):
        return False
    began = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=uptime - ticks / os.sysconf("SC_CLK_TCK"))
    return began > heartbeat + _CLOCK_TOLERANCE

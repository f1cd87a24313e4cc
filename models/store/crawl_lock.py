"""The lock for one crawl of a database at a time, or for maintenance in the name of the last run; stale locks are detected."""

from __future__ import annotations

import datetime as dt
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, delete, func, insert, select, update

from models.errors import UserError
from models.store.engine import translate_errors
from models.tables.runs import CrawlLock, Run, RunStatus

STALE_AFTER = dt.timedelta(minutes=10)
"""The lock of another host is stale after this time without a heartbeat."""

HEARTBEAT_INTERVAL = 60.0
"""Seconds between heartbeats; another host considers the lock stale after ``STALE_AFTER``."""

_CLOCK_TOLERANCE = dt.timedelta(seconds=2)
"""Tolerance for the start time of a process, which the kernel counts in clock ticks."""


class LockedError(UserError):
    """Another crawl holds the lock of this database."""

    exit_code = 2


def acquire(connection: Connection, run_id: int) -> None:
    """Acquire the lock for a run. Raises LockedError while another run holds it; marks the run of a stale lock as interrupted.

    The transaction must be a write transaction from its start (``engine.begin()``): of two crawls that start at the same
    time, the second then waits until it sees the lock of the first.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7262018)")
    table = CrawlLock.__table__
    now = dt.datetime.now(dt.UTC)
    held = connection.execute(select(table)).mappings().one_or_none()
    if held is not None:
        if _alive(held["host"], held["process_id"], held["heartbeat"], now):
            raise LockedError(
                f"run {held['run_id']} has been crawling into this database since {held['acquired_at']:%Y-%m-%d %H:%M:%S} UTC "
                f"(process {held['process_id']} on {held['host']}): wait for it to end"
            )
        connection.execute(delete(CrawlLock))
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
            lock_id=1, run_id=run_id, host=socket.gethostname(), process_id=os.getpid(), acquired_at=now, heartbeat=now
        )
    )


def heartbeat(connection: Connection, run_id: int) -> None:
    """Update the heartbeat. Raises LockedError if the lock was lost, so that the transaction is not committed."""
    alive = update(CrawlLock).where(CrawlLock.run_id == run_id).values(heartbeat=dt.datetime.now(dt.UTC))
    if connection.execute(alive).rowcount == 0:
        raise LockedError(
            f"run {run_id} sent no heartbeat for too long and another crawl took the lock: start it again after that crawl "
            "ends; saved data is kept"
        )


def release(engine: Engine, run_id: int) -> None:
    """Release the lock of a run."""
    with engine.begin() as connection:
        connection.execute(delete(CrawlLock).where(CrawlLock.run_id == run_id))


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
                heartbeat(connection, self._run_id)
        self._last_heartbeat = time.monotonic()

    def heartbeat(self) -> None:
        """Update the heartbeat if the last one is older than HEARTBEAT_INTERVAL."""
        if time.monotonic() - self._last_heartbeat > HEARTBEAT_INTERVAL:
            with self.transaction():
                pass


@contextmanager
def exclusive(engine: Engine) -> Iterator[MaintenanceLock]:
    """Hold the lock. Raises LockedError while a crawl is running. A ledger without runs needs no lock."""
    with translate_errors(engine), engine.begin() as connection:
        run_id: int | None = connection.execute(select(func.max(Run.run_id))).scalar()
        if run_id is not None:
            acquire(connection, run_id)
    try:
        yield MaintenanceLock(engine, run_id)
    finally:
        if run_id is not None:
            with translate_errors(engine):
                release(engine, run_id)


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

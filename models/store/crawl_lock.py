"""One crawl at a time: the lock row, who holds it since when, and when a holder is taken for dead."""

from __future__ import annotations

import datetime as dt
import os
import socket
from pathlib import Path

from sqlalchemy import Connection, Engine, delete, insert, select, update

from models.errors import UserError
from models.tables.runs import CrawlLock, Run, RunStatus

STALE_AFTER = dt.timedelta(minutes=10)
"""A holder on another machine that gave no sign of life for this long is taken for dead."""

_CLOCKS = dt.timedelta(seconds=2)
"""How far the start of a process, which the kernel counts in other ticks, may seem to be off."""


class LockedError(UserError):
    """Another crawl writes into this database."""

    exit_code = 2


def acquire(connection: Connection, run_id: int) -> None:
    """Take the lock for a run; a dead holder's run is marked as interrupted, a living one's refuses us.

    The transaction must be one that writes from its start (``engine.begin()``): of two crawls that come at once, the second
    then waits until it can see the first one's lock.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7262018)")
    table = CrawlLock.__table__
    now = dt.datetime.now(dt.UTC)
    held = connection.execute(select(table)).mappings().one_or_none()
    if held is not None:
        if _alive(held["host"], held["process_id"], held["heartbeat"], now):
            raise LockedError(
                f"run {held['run_id']} is crawling into this database since {held['since']:%Y-%m-%d %H:%M:%S} UTC "
                f"(process {held['process_id']} on {held['host']}): wait for it to end"
            )
        connection.execute(delete(CrawlLock))
        connection.execute(
            update(Run)
            .where(Run.run_id == held["run_id"], Run.status == RunStatus.RUNNING)
            .values(
                status=str(RunStatus.INTERRUPTED),
                finished_at=held["heartbeat"],
                message="the crawl ended without a word; what it had saved is kept",
            )
        )
    connection.execute(
        insert(CrawlLock).values(
            lock_id=1, run_id=run_id, host=socket.gethostname(), process_id=os.getpid(), since=now, heartbeat=now
        )
    )


def heartbeat(connection: Connection, run_id: int) -> None:
    """A sign of life; refused when the lock was lost, so that what this transaction wrote is not committed."""
    alive = update(CrawlLock).where(CrawlLock.run_id == run_id).values(heartbeat=dt.datetime.now(dt.UTC))
    if connection.execute(alive).rowcount == 0:
        raise LockedError(
            f"run {run_id} gave no sign of life for too long and another crawl took its place: start it again when that one "
            "has ended; what was saved is kept"
        )


def release(engine: Engine, run_id: int) -> None:
    """Let the next crawl in."""
    with engine.begin() as connection:
        connection.execute(delete(CrawlLock).where(CrawlLock.run_id == run_id))


def _alive(host: str, process_id: int, heartbeat: dt.datetime, now: dt.datetime) -> bool:
    if host != socket.gethostname():
        return now - heartbeat < STALE_AFTER
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is there, and somebody else's
    return not _began_after(process_id, heartbeat)


def _began_after(process_id: int, heartbeat: dt.datetime) -> bool:
    """Whether a process is too young to have given that sign of life: the number went to another one.

    In a container a killed crawl's successor often has the very same number.
    """
    try:
        # Fields after the name, which may itself contain blanks and brackets; the 22nd of all is the start in clock ticks.
        ticks = int(Path(f"/proc/{process_id}/stat").read_bytes().rpartition(b")")[2].split()[19])
        uptime = float(Path("/proc/uptime").read_bytes().split()[0])
    except (OSError, ValueError, IndexError):
        return False
    began = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=uptime - ticks / os.sysconf("SC_CLK_TCK"))
    return began > heartbeat + _CLOCKS

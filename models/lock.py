"""One crawl at a time: the lock row, who holds it since when, and when a holder is taken for dead."""

from __future__ import annotations

import datetime as dt
import os
import socket

from sqlalchemy import Connection, Engine, delete, insert, select, update

from models.errors import UserError
from models.run import CrawlLock, Run, RunStatus

STALE_AFTER = dt.timedelta(minutes=10)
"""A holder on another machine that gave no sign of life for this long is taken for dead."""


class LockedError(UserError):
    """Another crawl writes into this database."""

    exit_code = 2


def acquire(connection: Connection, run_id: int) -> None:
    """Take the lock for a run; a dead holder's run is marked as interrupted, a living one's refuses us."""
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


def beat(connection: Connection, run_id: int) -> None:
    """A sign of life."""
    connection.execute(update(CrawlLock).where(CrawlLock.run_id == run_id).values(heartbeat=dt.datetime.now(dt.UTC)))


def release(engine: Engine, run_id: int) -> None:
    """Let the next crawl in."""
    with engine.begin() as connection:
        connection.execute(delete(CrawlLock).where(CrawlLock.run_id == run_id))


def _alive(host: str, process_id: int, heartbeat: dt.datetime, now: dt.datetime) -> bool:
    if host != socket.gethostname():
        return now - heartbeat < STALE_AFTER
    if process_id == os.getpid():
        return True
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

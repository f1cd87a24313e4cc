"""The lock for maintenance of the ledger: the lock of the crawls, held in the name of the last run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, func, select

from models.store import crawl_lock
from models.store.engine import translate_errors
from models.tables.runs import Run

HEARTBEAT_INTERVAL = 60.0
"""Seconds between heartbeats; another host considers the lock stale after ``crawl_lock.STALE_AFTER``."""


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
                crawl_lock.heartbeat(connection, self._run_id)
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
            crawl_lock.acquire(connection, run_id)
    try:
        yield MaintenanceLock(engine, run_id)
    finally:
        if run_id is not None:
            with translate_errors(engine):
                crawl_lock.release(engine, run_id)

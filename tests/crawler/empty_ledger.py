"""A real ledger for tests of the crawler: runs are merged and resolved as in a crawl, and history is read back."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, insert, select

from crawler.key_references import resolve_references
from models.store import crawl_lock
from models.store.engine import connect
from models.store.scd2_merge import Batch, merge
from models.tables.runs import CrawlLock, Outcome, Run, RunStatus, ScopeCoverage
from models.versioned import VersionedTable
from tests.reports.empty_ledger import create_ledger

Outcomes = Mapping[tuple[str, str], Outcome]


class Ledger:
    """A migrated SQLite ledger, new or from an existing file; or an existing one in another database."""

    def __init__(self, path: Path, url: str = "") -> None:
        self.path = path
        if not url and not path.exists():
            create_ledger(f"sqlite:///{path}")
        self.engine: Engine = connect(url or f"sqlite:///{path}")

    def record_run(self, batch: Batch, outcomes: Outcomes) -> int:
        """Merge a batch as one run with its coverage, resolve the references, and return the run's id."""
        now = dt.datetime.now(dt.UTC)
        with self.engine.begin() as connection:
            values = {"started_at": now, "status": str(RunStatus.COMPLETE), "version": "test"}
            run_id: int = connection.execute(insert(Run).values(values).returning(Run.run_id)).scalar_one()
            merge(connection, run_id, batch)
            rows = [
                {"run_id": run_id, "account_id": account, "region": region, "outcome": str(outcome)}
                for (account, region), outcome in outcomes.items()
            ]
            if rows:
                connection.execute(insert(ScopeCoverage), rows)
        lock = {"lock_id": 1, "run_id": run_id, "host": "test", "process_id": 1, "acquired_at": now, "heartbeat": now}
        with self.engine.begin() as connection:
            connection.execute(insert(CrawlLock).values(lock))
        resolve_references(self.engine, run_id)
        crawl_lock.release(self.engine, run_id)
        return run_id

    def rows(self, model: type[VersionedTable], **where: Any) -> list[dict[str, Any]]:
        """Return all versions of matching facts, oldest first."""
        table = model.table()
        query = select(table).order_by(table.c.version_id)
        for name, value in where.items():
            query = query.where(table.c[name] == value)
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def current(self, model: type[VersionedTable], **where: Any) -> list[dict[str, Any]]:
        """Return the open versions of matching facts."""
        return [row for row in self.rows(model, **where) if row["valid_to"] is None]

    def close(self) -> None:
        """Close the file."""
        self.engine.dispose()

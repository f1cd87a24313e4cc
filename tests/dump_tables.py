"""What a ledger says, so that two of them can be compared."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, select

from models.tables import versioned_tables
from models.tables.runs import Run, ScopeRun

BOOKKEEPING = {"version_id", "message"}


def rows(engine: Engine) -> dict[str, set[tuple[Any, ...]]]:
    """Every version of every fact with its interval, and what became of every scope."""
    found: dict[str, set[tuple[Any, ...]]] = {}
    with engine.connect() as connection:
        for name, model in versioned_tables().items():
            table = model.table()
            columns = [column for column in table.columns if column.name not in BOOKKEEPING]
            found[name] = {tuple(row) for row in connection.execute(select(*columns))}
        coverage = select(ScopeRun.run_id, ScopeRun.account_id, ScopeRun.region, ScopeRun.outcome, ScopeRun.gaps)
        found["scope_run"] = {tuple(row) for row in connection.execute(coverage)}
        found["run"] = {tuple(row) for row in connection.execute(select(Run.run_id, Run.status, Run.gaps, Run.scopes))}
    return found

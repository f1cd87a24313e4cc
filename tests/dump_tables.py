"""The contents of a ledger, to compare two ledgers."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, select

from models.tables import versioned_tables
from models.tables.runs import Run, ScopeCoverage

BOOKKEEPING = {"version_id", "message"}


def rows(engine: Engine) -> dict[str, set[tuple[Any, ...]]]:
    """All versions of all facts with their intervals, and the outcomes of scopes and runs, by table."""
    dumped: dict[str, set[tuple[Any, ...]]] = {}
    with engine.connect() as connection:
        for name, model in versioned_tables().items():
            table = model.table()
            columns = [column for column in table.columns if column.name not in BOOKKEEPING]
            dumped[name] = {tuple(row) for row in connection.execute(select(*columns))}
        coverage = select(
            ScopeCoverage.run_id,
            ScopeCoverage.account_id,
            ScopeCoverage.region,
            ScopeCoverage.outcome,
            ScopeCoverage.gaps,
        )
        dumped["scope_coverage"] = {tuple(row) for row in connection.execute(coverage)}
        dumped["run"] = {tuple(row) for row in connection.execute(select(Run.run_id, Run.status, Run.gaps, Run.scopes))}
    return dumped

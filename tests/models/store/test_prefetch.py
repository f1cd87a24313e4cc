"""Prefetching reads the rows of a merge in advance; the result never depends on it."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, func, insert

from models.store.engine import connect
from models.store.prefetch import prefetch_pages
from models.store.scd2_merge import Batch, merge
from models.store.staging import MANY
from models.tables.findings import Finding
from models.tables.runs import Run

RULES = ("key-disabled", 'it\'s "quoted", ünïcode and \\ more')
KEYS = [(rule, f"arn:aws:kms:eu-west-1:111122223333:key/{number}") for rule in RULES for number in range(MANY)]


def _store(connection: Connection, keys: list[tuple[str, str]]) -> None:
    values = {"started_at": func.now(), "status": "complete", "version": "test"}
    run_id = connection.execute(insert(Run).values(values).returning(Run.run_id)).scalar_one()
    batch = Batch()
    for rule_id, resource_arn in keys:
        others: dict[str, str | None] = dict.fromkeys(Finding.value_columns())
        said = {"severity": "high", "status": "fail", "verdict": "fail", "reason": "So."}
        batch.add(Finding, **others | said | {"rule_id": rule_id, "resource_arn": resource_arn})
    merge(connection, run_id, batch)


def test_existing_rows_are_read(ledger: Engine) -> None:
    """The rows of existing keys are read, also during a write transaction."""
    with ledger.begin() as connection:
        _store(connection, KEYS[:-10])
    with ledger.begin() as connection:
        _store(connection, KEYS[-10:])
        found = prefetch_pages(connection, Finding, KEYS)
    assert found == (len(KEYS) - 10 if ledger.dialect.name == "sqlite" else 0)


def test_small_batches_are_not_prefetched(ledger: Engine) -> None:
    """A small batch is left to the merge."""
    with ledger.begin() as connection:
        _store(connection, KEYS[:5])
    with ledger.connect() as connection:
        assert prefetch_pages(connection, Finding, KEYS[:5]) == 0


def test_errors_of_the_prefetch_are_ignored(tmp_path: Path) -> None:
    """An error of the additional connections does not affect the merge."""
    path = tmp_path / "ledger.db"
    engine = connect(f"sqlite:///{path}")
    Finding.metadata.create_all(engine)
    with engine.begin() as connection:
        _store(connection, KEYS)
    with engine.connect() as connection:
        assert prefetch_pages(connection, Finding, KEYS) == len(KEYS)
        path.rename(tmp_path / "elsewhere.db")
        assert prefetch_pages(connection, Finding, KEYS) == 0

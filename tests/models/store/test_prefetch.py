"""Reading ahead finds what a merge will look up, gets in nobody's way, and is never what anything depends on."""

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


def test_what_is_there_is_read(ledger: Engine) -> None:
    """Of the keys that are asked for those that the ledger has are read, also while it is being written to."""
    with ledger.begin() as connection:
        _store(connection, KEYS[:-10])
    with ledger.begin() as connection:
        _store(connection, KEYS[-10:])
        found = prefetch_pages(connection, Finding, KEYS)
    assert found == (len(KEYS) - 10 if ledger.dialect.name == "sqlite" else 0)


def test_few_are_not_worth_it(ledger: Engine) -> None:
    """A handful of rows is left to the merge."""
    with ledger.begin() as connection:
        _store(connection, KEYS[:5])
    with ledger.connect() as connection:
        assert prefetch_pages(connection, Finding, KEYS[:5]) == 0


def test_a_ledger_that_cannot_be_opened_again_is_merged_all_the_same(tmp_path: Path) -> None:
    """It is a matter of time only: an error of the other connections is none."""
    path = tmp_path / "ledger.db"
    engine = connect(f"sqlite:///{path}")
    Finding.metadata.create_all(engine)
    with engine.begin() as connection:
        _store(connection, KEYS)
    with engine.connect() as connection:
        assert prefetch_pages(connection, Finding, KEYS) == len(KEYS)
        path.rename(tmp_path / "elsewhere.db")
        assert prefetch_pages(connection, Finding, KEYS) == 0

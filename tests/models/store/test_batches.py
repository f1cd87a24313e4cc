"""A batch of any size is merged in chunks, with the same result."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import Engine, func, insert, select

from models.store import scd2_merge
from models.store.scd2_merge import Batch, merge
from models.tables.keys import Key, KeyPolicy, PolicyDocument
from models.tables.runs import Run

ACCOUNT, REGION = "111122223333", "eu-west-1"


def _run(ledger: Engine, batch: Batch) -> None:
    with ledger.begin() as connection:
        values = {"started_at": func.now(), "status": "complete", "version": "test"}
        merge(connection, connection.execute(insert(Run).values(values).returning(Run.run_id)).scalar_one(), batch)


def _batch(keys: range) -> Batch:
    batch = Batch()
    for number in keys:
        arn = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{number}"
        batch.add(Key, key_arn=arn, key_id=str(number), account_id=ACCOUNT, region=REGION)
        digest = batch.document(json.dumps({"Version": "2012-10-17", "Id": str(number), "Statement": []}))
        batch.add(KeyPolicy, key_arn=arn, policy_hash=digest)
    batch.mark_complete(Key, ACCOUNT, REGION)
    return batch


def test_chunks_are_merged_completely(ledger: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """All facts and policies of many chunks are stored, and facts in none of the chunks are closed."""
    monkeypatch.setattr(scd2_merge, "LOOSE_ROWS", 21)
    monkeypatch.setattr(scd2_merge, "CHUNK_ROWS", 10)
    _run(ledger, _batch(range(50)))
    second = _batch(range(10, 60))
    assert len(second.rows[Key]) < 7
    assert len(second.packed[Key]) == 7
    _run(ledger, second)
    with ledger.connect() as connection:
        known = select(Key.key_id).where(Key.valid_to.is_(None))
        assert {int(key_id) for key_id in connection.scalars(known)} == set(range(10, 60))
        assert connection.scalar(select(func.count()).select_from(Key)) == 60
        policies = select(func.count()).select_from(KeyPolicy).where(KeyPolicy.valid_to.is_(None))
        assert connection.scalar(policies) == 50
        assert connection.scalar(select(func.count()).select_from(PolicyDocument)) == 60


def test_a_fact_in_two_chunks_is_one_fact(ledger: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that a listing returns twice, in different chunks, is one key."""
    monkeypatch.setattr(scd2_merge, "LOOSE_ROWS", 15)
    monkeypatch.setattr(scd2_merge, "CHUNK_ROWS", 5)
    batch = _batch(range(12))
    batch.extend(_batch(range(3)))
    _run(ledger, batch)
    with ledger.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(Key)) == 12

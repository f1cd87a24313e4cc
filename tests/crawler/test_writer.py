"""Saving: a scope's facts and its coverage as one, the lock, and what is said when the database refuses."""

from __future__ import annotations

import datetime as dt
import os
import pickle
import socket
import subprocess
import sys
import time
from typing import Any

import pytest
from sqlalchemy import event, insert, select

from crawler import writer
from crawler.writer import BATCH_SCOPES, Coverage, Finished, ScopeWriter, pack
from models.store import crawl_lock
from models.store.crawl_lock import STALE_AFTER, LockedError
from models.store.engine import DatabaseError
from models.store.scd2_merge import CHUNK_ROWS, Batch
from models.tables.keys import Key, Tag
from models.tables.runs import CrawlLock, Outcome, Run, RunStatus, ScopeCoverage
from tests.crawler.empty_ledger import Ledger

ACCOUNT = "111122223333"


def finished(region: str, *keys: str, outcome: Outcome = Outcome.COMPLETE, whole: bool = True) -> Finished:
    """A scope with these keys."""
    batch = Batch()
    for key_id in keys:
        arn = f"arn:aws:kms:{region}:{ACCOUNT}:key/{key_id}"
        batch.add(Key, key_arn=arn, key_id=key_id, account_id=ACCOUNT, region=region)
    if whole:
        batch.mark_complete(Key, ACCOUNT, region)
    return Finished(Coverage(ACCOUNT, region, outcome, calls=3, gaps=int(not whole)), batch)


def scopes(ledger: Ledger) -> list[tuple[int, str, str]]:
    """Run, region and outcome of every scope."""
    table = ScopeCoverage.__table__
    query = select(table.c.run_id, table.c.region, table.c.outcome).order_by(table.c.run_id, table.c.region)
    with ledger.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(query)]


def refuse(ledger: Ledger, region: str) -> None:
    """Let the database refuse the coverage of a region."""
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql(
            f"CREATE TRIGGER refuse BEFORE INSERT ON scope_coverage WHEN NEW.region = '{region}' "
            "BEGIN SELECT RAISE(ABORT, 'no more rows today'); END"
        )


def run_row(ledger: Ledger, run_id: int) -> dict[str, Any]:
    """A run."""
    with ledger.engine.connect() as connection:
        return dict(connection.execute(select(Run.__table__).where(Run.run_id == run_id)).mappings().one())


def hold(ledger: Ledger, run_id: int, **values: Any) -> None:
    """Let somebody hold the lock."""
    now = dt.datetime.now(dt.UTC)
    held = {
        "lock_id": 1,
        "run_id": run_id,
        "host": socket.gethostname(),
        "process_id": 1,
        "acquired_at": now,
        "heartbeat": now,
    }
    with ledger.engine.begin() as connection:
        connection.execute(insert(CrawlLock).values(**{**held, **values}))


def dead_process() -> int:
    """The id of a process that has just ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    return ended.pid


def test_scopes_are_saved_with_their_coverage(ledger: Ledger) -> None:
    """Facts and coverage of all scopes that were handed over are there when the scope_writer ends, whatever their number."""
    run_id = writer.start(ledger.engine, "test")
    with ScopeWriter(ledger.engine, run_id) as scope_writer:
        for number in range(3 * BATCH_SCOPES):
            scope_writer.put(finished(f"region-{number:03}", "one", "two"))
    scope_writer.check()
    assert (scope_writer.saved, scope_writer.merged.opened) == (3 * BATCH_SCOPES, 6 * BATCH_SCOPES)
    assert len(scopes(ledger)) == 3 * BATCH_SCOPES
    assert len(ledger.current(Key)) == 6 * BATCH_SCOPES


def test_scopes_of_one_transaction_are_saved_together_or_not_at_all(ledger: Ledger) -> None:
    """When the second of two scopes is refused, neither has facts or coverage: no scope is half there."""
    run_id = writer.start(ledger.engine, "test")
    refuse(ledger, "us-east-1")
    with pytest.raises(Exception, match="no more rows today"), ledger.engine.begin() as connection:
        writer.save_scopes(connection, run_id, [finished("eu-west-1", "one"), finished("us-east-1", "two")])
    assert scopes(ledger) == []
    assert ledger.rows(Key) == []
    with ledger.engine.begin() as connection:
        writer.save_scopes(connection, run_id, [finished("eu-west-1", "one")])
    assert [row["key_id"] for row in ledger.current(Key)] == ["one"]


def test_scopes_merged_at_once_stay_apart(ledger: Ledger) -> None:
    """One scope whole, one not: only of the whole one is anything closed."""
    partial = finished("us-east-1", "a", outcome=Outcome.PARTIAL, whole=False)
    for night in (
        [finished("eu-west-1", "a", "b"), finished("us-east-1", "a", "b")],
        [finished("eu-west-1", "a"), partial],
    ):
        run_id = writer.start(ledger.engine, "test")
        with ledger.engine.begin() as connection:
            writer.save_scopes(connection, run_id, night)
        crawl_lock.release(ledger.engine, run_id)
    assert {(row["region"], row["key_id"]) for row in ledger.current(Key)} == {
        ("eu-west-1", "a"),
        ("us-east-1", "a"),
        ("us-east-1", "b"),
    }
    assert scopes(ledger)[2:] == [(2, "eu-west-1", "complete"), (2, "us-east-1", "partial")]


def test_a_scope_saved_twice_counts_once(ledger: Ledger) -> None:
    """A scope that is crawled again in a resumed run replaces its coverage."""
    run_id = writer.start(ledger.engine, "test")
    for outcome in (Outcome.FAILED, Outcome.COMPLETE):
        with ledger.engine.begin() as connection:
            writer.save_scopes(connection, run_id, [finished("eu-west-1", "one", outcome=outcome)])
    assert scopes(ledger) == [(run_id, "eu-west-1", "complete")]


def test_the_first_refusal_is_raised_where_scopes_are_handed_over(ledger: Ledger) -> None:
    """The crawl learns of it as one sentence, nothing blocks however much is waiting, and what was saved before stays."""
    run_id = writer.start(ledger.engine, "test")
    with ScopeWriter(ledger.engine, run_id) as scope_writer:
        scope_writer.put(finished("eu-west-1", "one"))
    scope_writer.check()
    refuse(ledger, "us-east-1")
    with ScopeWriter(ledger.engine, run_id) as scope_writer:
        with pytest.raises(DatabaseError, match="no more rows today") as refusal:
            _put(scope_writer, 100 * BATCH_SCOPES)
        assert "\n" not in refusal.value.message
    with pytest.raises(DatabaseError):
        scope_writer.check()
    assert [row["key_id"] for row in ledger.current(Key)] == ["one"]


def _put(scope_writer: ScopeWriter, count: int) -> None:
    for number in range(count):
        scope_writer.put(finished("us-east-1", f"key-{number}"))


def test_a_ledger_that_cannot_be_written_is_one_sentence(ledger: Ledger) -> None:
    """Without permission to write the user reads which file it is and what to do."""
    event.listen(ledger.engine, "connect", lambda connection, _record: connection.execute("PRAGMA query_only=ON"))
    ledger.engine.dispose()
    with pytest.raises(DatabaseError, match=r"ledger\.db cannot be written: give this user write permission"):
        writer.start(ledger.engine, "test")


def test_a_file_that_is_no_database_is_one_sentence(ledger: Ledger) -> None:
    """A damaged file is named, with what to do."""
    ledger.engine.dispose()
    for extra in ("-wal", "-shm"):
        ledger.path.with_name(ledger.path.name + extra).unlink(missing_ok=True)
    ledger.path.write_bytes(b"this is not a database, whatever its name says" * 100)
    with pytest.raises(DatabaseError, match="is not a SQLite database, or damaged"):
        writer.start(ledger.engine, "test")


def test_the_lock_says_who_holds_it_since_when(ledger: Ledger) -> None:
    """A living crawl refuses another one: run, process, machine and time are in the sentence; no run is left behind."""
    run_id = writer.start(ledger.engine, "test")
    crawl_lock.release(ledger.engine, run_id)
    since = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    hold(ledger, run_id, process_id=os.getppid(), acquired_at=since)
    with pytest.raises(LockedError) as refusal:
        writer.start(ledger.engine, "test")
    for word in (f"run {run_id}", "2026-01-02 03:04:05 UTC", f"process {os.getppid()}", socket.gethostname()):
        assert word in refusal.value.message
    assert refusal.value.exit_code == 2
    with ledger.engine.connect() as connection:
        assert len(connection.execute(select(Run.run_id)).all()) == 1


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_dead_crawl_makes_room_and_reads_interrupted(ledger: Ledger, elsewhere: bool) -> None:
    """A process that is gone, or a machine that was silent for long, holds nothing; its run ended with its last sign of life."""
    first = writer.start(ledger.engine, "test")
    crawl_lock.release(ledger.engine, first)
    last_sign = dt.datetime.now(dt.UTC) - STALE_AFTER - dt.timedelta(minutes=1)
    holder: dict[str, Any] = {"host": "another-machine"} if elsewhere else {"process_id": dead_process()}
    hold(ledger, first, heartbeat=last_sign, **holder)
    second = writer.start(ledger.engine, "test")
    assert second == first + 1
    before = run_row(ledger, first)
    assert (before["status"], before["finished_at"]) == (RunStatus.INTERRUPTED, last_sign)
    assert "what it had saved is kept" in before["message"]
    assert run_row(ledger, second)["status"] == RunStatus.RUNNING


def test_another_machine_is_believed_while_it_gives_signs_of_life(ledger: Ledger) -> None:
    """Its process cannot be looked up: the sign of life decides."""
    first = writer.start(ledger.engine, "test")
    crawl_lock.release(ledger.engine, first)
    hold(ledger, first, host="another-machine", process_id=dead_process())
    with pytest.raises(LockedError, match="another-machine"):
        writer.start(ledger.engine, "test")


def test_saving_is_a_sign_of_life(ledger: Ledger) -> None:
    """A crawl that saves is alive for those who look at it from another machine."""
    run_id = writer.start(ledger.engine, "test")
    long_ago = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    with ledger.engine.begin() as connection:
        connection.execute(CrawlLock.__table__.update().values(heartbeat=long_ago))  # type: ignore[attr-defined]  # a Table
    with ScopeWriter(ledger.engine, run_id) as scope_writer:
        scope_writer.put(finished("eu-west-1", "one"))
    with ledger.engine.connect() as connection:
        (heartbeat,) = connection.execute(select(CrawlLock.heartbeat)).one()
    assert dt.datetime.now(dt.UTC) - heartbeat < dt.timedelta(minutes=1)


def test_a_crawl_with_nothing_to_save_is_alive_too(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """One large scope may take longer than a silent machine is believed: signs of life come in between."""
    monkeypatch.setattr(writer, "HEARTBEAT_S", 0.02)
    run_id = writer.start(ledger.engine, "test")
    with ledger.engine.connect() as connection:
        (began,) = connection.execute(select(CrawlLock.heartbeat)).one()
    with ScopeWriter(ledger.engine, run_id) as scope_writer:
        time.sleep(0.3)
    scope_writer.check()
    with ledger.engine.connect() as connection:
        (heartbeat,) = connection.execute(select(CrawlLock.heartbeat)).one()
    assert heartbeat > began


def test_a_crawl_that_lost_its_lock_stops(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """When another crawl took over, this one saves nothing more, and learns of it even while it has nothing to save."""
    monkeypatch.setattr(writer, "HEARTBEAT_S", 0.02)
    run_id = writer.start(ledger.engine, "test")
    crawl_lock.release(ledger.engine, run_id)
    with ScopeWriter(ledger.engine, run_id) as scope_writer:
        time.sleep(0.3)
    with pytest.raises(LockedError, match="another crawl took the lock"):
        scope_writer.check()
    assert scopes(ledger) == []


@pytest.mark.parametrize(("whole", "status"), [(True, RunStatus.COMPLETE), (False, RunStatus.PARTIAL)])
def test_a_run_ends_with_its_totals(ledger: Ledger, whole: bool, status: RunStatus) -> None:
    """Status and totals come from the coverage rows; accounts that were left out count as nothing."""
    run_id = writer.start(ledger.engine, "test")
    left_out = Finished(Coverage("999900001111", "*", Outcome.EXCLUDED, "left out"), Batch())
    with ledger.engine.begin() as connection:
        writer.save_scopes(
            connection, run_id, [finished("eu-west-1", "one", whole=whole), finished("us-east-1"), left_out]
        )
        writer.finish(connection, run_id)
    row = run_row(ledger, run_id)
    assert (row["status"], row["accounts"], row["scopes"], row["calls"], row["gaps"]) == (
        status,
        1,
        2,
        6,
        int(not whole),
    )
    assert row["finished_at"] is not None


def test_what_is_packed_of_a_large_scope_is_handed_on_as_it_is() -> None:
    """A giant account-region is neither copied when it is packed, nor when it is unpacked, and arrives as it was."""
    batch = Batch()
    for number in range(2 * CHUNK_ROWS + 1):
        batch.add(Tag, resource_arn=f"arn:aws:kms:eu-west-1:111122223333:key/{number}", tag_key="t", tag_value="v")
    chunks = batch.packed[Tag]
    finished = Finished(Coverage("111122223333", "eu-west-1", Outcome.COMPLETE), batch)
    packed = pack(finished)
    assert [id(buffer) for buffer in packed.buffers] == [id(chunk) for chunk in chunks]
    buffers: list[pickle.PickleBuffer] = []
    sent = pickle.dumps(packed, 5, buffer_callback=buffers.append)
    assert len(sent) < packed.size / 10
    arrived = pickle.loads(sent, buffers=[bytes(buffer) for buffer in buffers])  # noqa: S301 - made three lines above
    unpacked = arrived.unpack()
    assert [id(chunk) for chunk in unpacked.batch.packed[Tag]] == [id(buffer) for buffer in arrived.buffers]
    assert list(unpacked.batch.iter_chunks(Tag)) == list(batch.iter_chunks(Tag))
    for protocol in (4, 5):
        assert pickle.loads(pickle.dumps(packed, protocol)) == packed  # noqa: S301 - made here


def test_what_waits_for_a_giant_takes_little_room() -> None:
    """A scope that comes from another process waits compressed, and is what it was when it is saved."""
    batch = Batch()
    for number in range(CHUNK_ROWS - 1):
        batch.add(Tag, resource_arn=f"arn:aws:kms:eu-west-1:111122223333:key/{number}", tag_key="t", tag_value="v")
    finished = Finished(Coverage("111122223333", "eu-west-1", Outcome.COMPLETE), batch)
    packed = pack(finished)
    assert packed.size < len(pickle.dumps(finished)) / 4
    assert packed.unpack() == finished

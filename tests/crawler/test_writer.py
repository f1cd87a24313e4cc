"""The writer: facts and coverage of a scope in one transaction, the crawl lock, and database errors."""

from __future__ import annotations

import datetime as dt
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from sqlalchemy import event, insert, select

from crawler import writer
from crawler.writer import BATCH_SCOPES, Coverage, Finished, ScopeWriter, pack
from models.store import crawl_lock
from models.store.crawl_lock import STALE_AFTER, LockedError
from models.store.engine import DatabaseError
from models.store.scd2_merge import LOOSE_ROWS, Batch
from models.tables.keys import Key, Tag
from models.tables.runs import CrawlLock, Outcome, Run, RunStatus, ScopeCoverage
from tests.crawler.empty_ledger import Ledger

ACCOUNT = "111122223333"


def finished(region: str, *keys: str, outcome: Outcome = Outcome.COMPLETE, complete: bool = True) -> Finished:
    """Return a finished scope with these keys."""
    batch = Batch()
    for key_id in keys:
        arn = f"arn:aws:kms:{region}:{ACCOUNT}:key/{key_id}"
        batch.add(Key, key_arn=arn, key_id=key_id, account_id=ACCOUNT, region=region)
    if complete:
        batch.mark_complete(Key, ACCOUNT, region)
    return Finished(Coverage(ACCOUNT, region, outcome, calls=3, gaps=int(not complete)), batch)


def scopes(ledger: Ledger) -> list[tuple[int, str, str]]:
    """Return run, region and outcome of every scope."""
    table = ScopeCoverage.__table__
    query = select(table.c.run_id, table.c.region, table.c.outcome).order_by(table.c.run_id, table.c.region)
    with ledger.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(query)]


def reject(ledger: Ledger, region: str) -> None:
    """Make the database reject the coverage of a region."""
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql(
            f"CREATE TRIGGER reject BEFORE INSERT ON scope_coverage WHEN NEW.region = '{region}' "
            "BEGIN SELECT RAISE(ABORT, 'no more rows today'); END"
        )


def run_row(ledger: Ledger, run_id: int) -> dict[str, Any]:
    """Return the row of a run."""
    with ledger.engine.connect() as connection:
        return dict(connection.execute(select(Run.__table__).where(Run.run_id == run_id)).mappings().one())


def hold(ledger: Ledger, run_id: int, **values: Any) -> None:
    """Insert a lock of another process."""
    now = dt.datetime.now(dt.UTC)
    lock = {
        "lock_id": 1,
        "run_id": run_id,
        "host": socket.gethostname(),
        "process_id": 1,
        "acquired_at": now,
        "heartbeat": now,
    }
    with ledger.engine.begin() as connection:
        connection.execute(insert(CrawlLock).values(**{**lock, **values}))


def dead_process() -> int:
    """Return the id of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    return ended.pid


def test_scopes_are_saved_with_their_coverage(ledger: Ledger) -> None:
    """Facts and coverage of all enqueued scopes are saved when the writer stops, whatever their number."""
    run_id = writer.start(ledger.engine, "test")
    with ScopeWriter(ledger.engine, run_id) as scope_writer:
        for number in range(3 * BATCH_SCOPES):
            scope_writer.put(finished(f"region-{number:03}", "one", "two"))
    scope_writer.check()
    assert scope_writer.merged.opened == 6 * BATCH_SCOPES
    assert len(scopes(ledger)) == 3 * BATCH_SCOPES
    assert len(ledger.current(Key)) == 6 * BATCH_SCOPES


def test_scopes_of_one_transaction_are_saved_together_or_not_at_all(ledger: Ledger) -> None:
    """If the database rejects the second of two scopes, neither has facts or coverage."""
    run_id = writer.start(ledger.engine, "test")
    reject(ledger, "us-east-1")
    with pytest.raises(Exception, match="no more rows today"), ledger.engine.begin() as connection:
        writer.save_scopes(connection, run_id, [finished("eu-west-1", "one"), finished("us-east-1", "two")])
    assert scopes(ledger) == []
    assert ledger.rows(Key) == []
    with ledger.engine.begin() as connection:
        writer.save_scopes(connection, run_id, [finished("eu-west-1", "one")])
    assert [row["key_id"] for row in ledger.current(Key)] == ["one"]


def test_scopes_of_one_batch_are_independent(ledger: Ledger) -> None:
    """Of a complete and an incomplete scope, only the complete one closes facts."""
    partial = finished("us-east-1", "a", outcome=Outcome.PARTIAL, complete=False)
    for scopes_of_run in (
        [finished("eu-west-1", "a", "b"), finished("us-east-1", "a", "b")],
        [finished("eu-west-1", "a"), partial],
    ):
        run_id = writer.start(ledger.engine, "test")
        with ledger.engine.begin() as connection:
            writer.save_scopes(connection, run_id, scopes_of_run)
        crawl_lock.release(ledger.engine, run_id)
    assert {(row["region"], row["key_id"]) for row in ledger.current(Key)} == {
        ("eu-west-1", "a"),
        ("us-east-1", "a"),
        ("us-east-1", "b"),
    }
    assert scopes(ledger)[2:] == [(2, "eu-west-1", "complete"), (2, "us-east-1", "partial")]


def test_a_scope_saved_twice_counts_once(ledger: Ledger) -> None:
    """A scope crawled again in a resumed run replaces its coverage."""
    run_id = writer.start(ledger.engine, "test")
    for outcome in (Outcome.FAILED, Outcome.COMPLETE):
        with ledger.engine.begin() as connection:
            writer.save_scopes(connection, run_id, [finished("eu-west-1", "one", outcome=outcome)])
    assert scopes(ledger) == [(run_id, "eu-west-1", "complete")]


def test_the_first_database_error_is_raised_by_put(ledger: Ledger) -> None:
    """put() raises a one-line error and does not block on a full queue; scopes saved before are kept."""
    run_id = writer.start(ledger.engine, "test")
    with ScopeWriter(ledger.engine, run_id) as scope_writer:
        scope_writer.put(finished("eu-west-1", "one"))
    scope_writer.check()
    reject(ledger, "us-east-1")
    with ScopeWriter(ledger.engine, run_id) as scope_writer:
        with pytest.raises(DatabaseError, match="no more rows today") as error_info:
            _put(scope_writer, 100 * BATCH_SCOPES)
        assert "\n" not in error_info.value.message
    with pytest.raises(DatabaseError):
        scope_writer.check()
    assert [row["key_id"] for row in ledger.current(Key)] == ["one"]


def _put(scope_writer: ScopeWriter, count: int) -> None:
    for number in range(count):
        scope_writer.put(finished("us-east-1", f"key-{number}"))


def test_a_read_only_ledger_has_a_clear_error(ledger: Ledger) -> None:
    """The error of a read-only ledger names the file and the fix."""
    event.listen(ledger.engine, "connect", lambda connection, _record: connection.execute("PRAGMA query_only=ON"))
    ledger.engine.dispose()
    with pytest.raises(DatabaseError, match=r"ledger\.db cannot be written: give this user write permission"):
        writer.start(ledger.engine, "test")


def test_a_file_that_is_no_database_has_a_clear_error(ledger: Ledger) -> None:
    """The error of a damaged file names the file."""
    ledger.engine.dispose()
    for extra in ("-wal", "-shm"):
        ledger.path.with_name(ledger.path.name + extra).unlink(missing_ok=True)
    ledger.path.write_bytes(b"this is not a database, whatever its name says" * 100)
    with pytest.raises(DatabaseError, match="is not a SQLite database, or damaged"):
        writer.start(ledger.engine, "test")


def test_the_lock_error_names_its_holder(ledger: Ledger) -> None:
    """A second crawl fails with run, process, host and time of the first, and creates no run."""
    run_id = writer.start(ledger.engine, "test")
    crawl_lock.release(ledger.engine, run_id)
    since = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    hold(ledger, run_id, process_id=os.getppid(), acquired_at=since)
    with pytest.raises(LockedError) as error_info:
        writer.start(ledger.engine, "test")
    for text in (f"run {run_id}", "2026-01-02 03:04:05 UTC", f"process {os.getppid()}", socket.gethostname()):
        assert text in error_info.value.message
    assert error_info.value.exit_code == 2
    with ledger.engine.connect() as connection:
        assert len(connection.execute(select(Run.run_id)).all()) == 1


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_stale_lock_is_released_and_its_run_is_interrupted(ledger: Ledger, elsewhere: bool) -> None:
    """An ended process, or a host without a heartbeat, loses the lock; its run ends with its last heartbeat."""
    first = writer.start(ledger.engine, "test")
    crawl_lock.release(ledger.engine, first)
    last_heartbeat = dt.datetime.now(dt.UTC) - STALE_AFTER - dt.timedelta(minutes=1)
    owner: dict[str, Any] = {"host": "another-host"} if elsewhere else {"process_id": dead_process()}
    hold(ledger, first, heartbeat=last_heartbeat, **owner)
    second = writer.start(ledger.engine, "test")
    assert second == first + 1
    before = run_row(ledger, first)
    assert (before["status"], before["finished_at"]) == (RunStatus.INTERRUPTED, last_heartbeat)
    assert "saved data is kept" in before["message"]
    assert run_row(ledger, second)["status"] == RunStatus.RUNNING


def test_the_lock_of_another_host_is_valid_while_it_sends_heartbeats(ledger: Ledger) -> None:
    """The process of another host cannot be checked: the heartbeat decides."""
    first = writer.start(ledger.engine, "test")
    crawl_lock.release(ledger.engine, first)
    hold(ledger, first, host="another-host", process_id=dead_process())
    with pytest.raises(LockedError, match="another-host"):
        writer.start(ledger.engine, "test")


def test_saving_updates_the_heartbeat(ledger: Ledger) -> None:
    """Saving a scope updates the heartbeat that other hosts check."""
    run_id = writer.start(ledger.engine, "test")
    long_ago = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    with ledger.engine.begin() as connection:
        connection.execute(CrawlLock.__table__.update().values(heartbeat=long_ago))  # type: ignore[attr-defined]  # a Table
    with ScopeWriter(ledger.engine, run_id) as scope_writer:
        scope_writer.put(finished("eu-west-1", "one"))
    with ledger.engine.connect() as connection:
        (heartbeat,) = connection.execute(select(CrawlLock.heartbeat)).one()
    assert dt.datetime.now(dt.UTC) - heartbeat < dt.timedelta(minutes=1)


def test_an_idle_writer_updates_the_heartbeat(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large scope may take longer than the stale lock timeout: the writer sends heartbeats in between."""
    monkeypatch.setattr(writer, "HEARTBEAT_S", 0.02)
    run_id = writer.start(ledger.engine, "test")
    with ledger.engine.connect() as connection:
        (initial,) = connection.execute(select(CrawlLock.heartbeat)).one()
    with ScopeWriter(ledger.engine, run_id) as scope_writer:
        time.sleep(0.3)
    scope_writer.check()
    with ledger.engine.connect() as connection:
        (heartbeat,) = connection.execute(select(CrawlLock.heartbeat)).one()
    assert heartbeat > initial


def test_the_last_scopes_do_not_wait_for_others(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is enqueued at the end of a crawl is committed at once; the writer still saves later scopes."""
    monkeypatch.setattr(writer, "MAX_DELAY_S", 60.0)
    run_id = writer.start(ledger.engine, "test")
    with ScopeWriter(ledger.engine, run_id) as scope_writer:
        for number, region in enumerate(("eu-west-1", "us-east-1"), start=1):
            scope_writer.put(finished(region, "one"))
            drain = threading.Thread(target=scope_writer.drain, daemon=True)
            drain.start()
            drain.join(timeout=30)
            assert not drain.is_alive()
            assert len(scopes(ledger)) == number


def test_a_crawl_that_lost_its_lock_stops(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crawl whose lock was taken saves nothing more and stops, even while it is idle."""
    monkeypatch.setattr(writer, "HEARTBEAT_S", 0.02)
    run_id = writer.start(ledger.engine, "test")
    crawl_lock.release(ledger.engine, run_id)
    with ScopeWriter(ledger.engine, run_id) as scope_writer:
        time.sleep(0.3)
    with pytest.raises(LockedError, match="another crawl took the lock"):
        scope_writer.check()
    assert scopes(ledger) == []


@pytest.mark.parametrize(("complete", "status"), [(True, RunStatus.COMPLETE), (False, RunStatus.PARTIAL)])
def test_a_run_ends_with_its_totals(ledger: Ledger, complete: bool, status: RunStatus) -> None:
    """Status and totals come from the coverage rows; excluded accounts do not count."""
    run_id = writer.start(ledger.engine, "test")
    excluded = Finished(Coverage("999900001111", "*", Outcome.EXCLUDED, "excluded"), Batch())
    with ledger.engine.begin() as connection:
        writer.save_scopes(
            connection, run_id, [finished("eu-west-1", "one", complete=complete), finished("us-east-1"), excluded]
        )
        writer.finish(connection, run_id)
    row = run_row(ledger, run_id)
    assert (row["status"], row["accounts"], row["scopes"], row["calls"], row["gaps"]) == (
        status,
        1,
        2,
        6,
        int(not complete),
    )
    assert row["finished_at"] is not None


def test_packed_scopes_are_compressed() -> None:
    """A scope from another process is compressed in the queue and unchanged after unpacking."""
    batch = Batch()
    for number in range(2 * LOOSE_ROWS - 1):
        batch.add(Tag, resource_arn=f"arn:aws:kms:eu-west-1:111122223333:key/{number}", tag_key="t", tag_value="v")
    finished = Finished(Coverage("111122223333", "eu-west-1", Outcome.COMPLETE), batch)
    packed = pack(finished)
    assert len(packed.data) < len(pickle.dumps(finished)) / 3
    assert packed.unpack() == finished

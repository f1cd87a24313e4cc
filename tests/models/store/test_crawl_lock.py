"""The crawl lock allows one crawl of a database; a stale lock is replaced."""

from __future__ import annotations

import datetime as dt
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import Connection, Engine, func, insert, select, update

from models.store import crawl_lock
from models.store.crawl_lock import LockedError
from models.store.engine import connect
from models.tables.runs import CrawlLock, Run, RunStatus

NOW = dt.datetime.now(dt.UTC)


def begin_run(connection: Connection) -> int:
    values = {"started_at": NOW, "status": str(RunStatus.RUNNING), "version": "0.1.0"}
    return int(connection.execute(insert(Run).values(values).returning(Run.run_id)).scalar_one())


def start(engine: Engine) -> int:
    with engine.begin() as connection:
        run_id = begin_run(connection)
        crawl_lock.acquire(connection, run_id)
    return run_id


def set_holder(engine: Engine, **values: object) -> None:
    """Assign the lock to another process."""
    with engine.begin() as connection:
        connection.execute(update(CrawlLock).values(**values))


def status(engine: Engine, run_id: int) -> str:
    with engine.connect() as connection:
        return connection.execute(select(Run.status).where(Run.run_id == run_id)).scalar_one()


def dead_process() -> int:
    """The ID of a process that has exited."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_a_second_crawl_is_rejected_with_the_holder(ledger: Engine) -> None:
    """The error names run, process, host and time, has exit code 2, and no run is created."""
    first = start(ledger)
    with pytest.raises(LockedError) as refused:
        start(ledger)
    assert refused.value.exit_code == 2
    for word in (f"run {first} ", f"process {os.getpid()} on {socket.gethostname()}", "UTC", "wait for it to end"):
        assert word in refused.value.message
    with ledger.connect() as connection:
        assert connection.execute(select(func.count()).select_from(Run)).scalar_one() == 1


def test_a_released_lock_can_be_acquired(ledger: Engine) -> None:
    """After a release the next crawl acquires the lock, and the earlier run keeps its status."""
    first = start(ledger)
    crawl_lock.release(ledger, first)
    assert start(ledger) == first + 1
    assert status(ledger, first) == RunStatus.RUNNING


def test_release_ignores_the_lock_of_another_run(ledger: Engine) -> None:
    """A crawl that lost its lock does not release the lock of another crawl."""
    start(ledger)
    crawl_lock.release(ledger, 999)
    with pytest.raises(LockedError):
        start(ledger)


def test_the_lock_of_a_dead_process_is_replaced_at_once(ledger: Engine) -> None:
    """After kill -9 the next crawl does not wait, and the dead run is marked as interrupted."""
    first = start(ledger)
    set_holder(ledger, process_id=dead_process())
    second = start(ledger)
    assert (status(ledger, first), status(ledger, second)) == (RunStatus.INTERRUPTED, RunStatus.RUNNING)
    with ledger.connect() as connection:
        assert connection.execute(select(Run.finished_at).where(Run.run_id == first)).scalar_one() is not None


@pytest.mark.parametrize("process_id", [os.getpid(), os.getppid(), 1], ids=["ours", "parent", "first"])
def test_a_reused_process_id_does_not_hold_the_lock(ledger: Engine, process_id: int) -> None:
    """A process that started after the heartbeat, as often in a container, does not hold the lock."""
    first = start(ledger)
    set_holder(ledger, process_id=process_id, heartbeat=dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
    assert start(ledger) > first
    assert status(ledger, first) == RunStatus.INTERRUPTED


def test_a_live_process_keeps_the_lock_without_heartbeat(ledger: Engine) -> None:
    """A crawl that waits long for AWS keeps its lock: its process started before its last heartbeat."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as other:
        start(ledger)
        later = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=5)
        set_holder(ledger, process_id=other.pid, heartbeat=later)
        with pytest.raises(LockedError):
            start(ledger)
        other.kill()


@pytest.mark.parametrize(("silent", "succeeded"), [(9, False), (11, True)])
def test_a_lock_of_another_host_is_stale_after_ten_minutes(ledger: Engine, silent: int, succeeded: bool) -> None:
    """The lock of another host is replaced after ten minutes without a heartbeat, not earlier."""
    start(ledger)
    heartbeat = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=silent)
    set_holder(ledger, host="elsewhere", process_id=dead_process(), heartbeat=heartbeat)
    if succeeded:
        start(ledger)
        return
    with pytest.raises(LockedError, match="on elsewhere"):
        start(ledger)


def test_a_heartbeat_keeps_the_lock(ledger: Engine) -> None:
    """A crawl with a recent heartbeat keeps its lock on other hosts."""
    run_id = start(ledger)
    set_holder(ledger, host="elsewhere", heartbeat=dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
    with ledger.begin() as connection:
        crawl_lock.heartbeat(connection, run_id)
    with pytest.raises(LockedError):
        start(ledger)


def test_a_crawl_without_its_lock_cannot_commit(ledger: Engine) -> None:
    """A crawl whose lock was replaced cannot commit beside its successor."""
    first = start(ledger)
    set_holder(ledger, host="elsewhere", heartbeat=dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
    start(ledger)

    def save() -> None:
        with ledger.begin() as connection:
            connection.execute(update(Run).where(Run.run_id == first).values(message="written by the first"))
            crawl_lock.heartbeat(connection, first)

    with pytest.raises(LockedError, match="another crawl took the lock"):
        save()
    with ledger.connect() as connection:
        message = connection.execute(select(Run.message).where(Run.run_id == first)).scalar_one()
    assert message == "the crawl ended unexpectedly; saved data is kept"


@pytest.mark.parametrize("before", ["free", "held by a dead process"])
def test_of_concurrent_crawls_exactly_one_acquires_the_lock(ledger_url: str, ledger: Engine, before: str) -> None:
    """Of four concurrent attempts one acquires the lock and three get the error."""
    if before != "free":
        start(ledger)
        set_holder(ledger, process_id=dead_process())
    together = Barrier(4)

    def attempt(_number: int) -> bool:
        engine = connect(ledger_url)
        try:
            together.wait()
            start(engine)
        except LockedError:
            return False
        finally:
            engine.dispose()
        return True

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(attempt, range(4))) == [False, False, False, True]
    with ledger.connect() as connection:
        running = connection.execute(select(Run.run_id).where(Run.status == RunStatus.RUNNING)).scalars().all()
        assert running == connection.execute(select(CrawlLock.run_id)).scalars().all()

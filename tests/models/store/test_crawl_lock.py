"""Two crawls of one database exclude each other; a dead one stands in nobody's way."""

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


def holder(engine: Engine, **values: object) -> None:
    """Make the lock's holder another process."""
    with engine.begin() as connection:
        connection.execute(update(CrawlLock).values(**values))


def status(engine: Engine, run_id: int) -> str:
    with engine.connect() as connection:
        return connection.execute(select(Run.status).where(Run.run_id == run_id)).scalar_one()


def dead_process() -> int:
    """The number of a process that has ended."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_a_second_crawl_is_refused_with_who_and_since_when(ledger: Engine) -> None:
    """The refusal says which run, process, machine and time, has exit code 2, and leaves no run behind."""
    first = start(ledger)
    with pytest.raises(LockedError) as refused:
        start(ledger)
    assert refused.value.exit_code == 2
    for word in (f"run {first} ", f"process {os.getpid()} on {socket.gethostname()}", "UTC", "wait for it to end"):
        assert word in refused.value.message
    with ledger.connect() as connection:
        assert connection.execute(select(func.count()).select_from(Run)).scalar_one() == 1


def test_the_next_crawl_gets_a_released_lock(ledger: Engine) -> None:
    """A crawl that ended lets the next one in, and its run keeps its status."""
    first = start(ledger)
    crawl_lock.release(ledger, first)
    assert start(ledger) == first + 1
    assert status(ledger, first) == RunStatus.RUNNING


def test_releasing_takes_nobody_elses_lock(ledger: Engine) -> None:
    """A crawl that had lost its lock does not let a third one in."""
    start(ledger)
    crawl_lock.release(ledger, 999)
    with pytest.raises(LockedError):
        start(ledger)


def test_a_dead_process_of_this_machine_is_succeeded_at_once(ledger: Engine) -> None:
    """After kill -9 the next crawl need not wait, and the dead run is told apart from one that is running."""
    first = start(ledger)
    holder(ledger, process_id=dead_process())
    second = start(ledger)
    assert (status(ledger, first), status(ledger, second)) == (RunStatus.INTERRUPTED, RunStatus.RUNNING)
    with ledger.connect() as connection:
        assert connection.execute(select(Run.finished_at).where(Run.run_id == first)).scalar_one() is not None


@pytest.mark.parametrize("process_id", [os.getpid(), os.getppid(), 1], ids=["ours", "parent", "first"])
def test_the_number_of_a_dead_process_in_another_ones_hands_is_no_sign_of_life(ledger: Engine, process_id: int) -> None:
    """In a container the killed crawl's successor has its number: a process younger than the heartbeat is not the holder."""
    first = start(ledger)
    holder(ledger, process_id=process_id, heartbeat=dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
    assert start(ledger) > first
    assert status(ledger, first) == RunStatus.INTERRUPTED


def test_a_living_process_of_this_machine_is_not_succeeded_however_silent(ledger: Engine) -> None:
    """A crawl that waits long for AWS keeps its lock: its process is there since before its last sign of life."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as other:
        start(ledger)
        later = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=5)
        holder(ledger, process_id=other.pid, heartbeat=later)
        with pytest.raises(LockedError):
            start(ledger)
        other.kill()


@pytest.mark.parametrize(("silent", "succeeded"), [(9, False), (11, True)])
def test_another_machine_is_judged_by_its_signs_of_life(ledger: Engine, silent: int, succeeded: bool) -> None:
    """Ten minutes without a sign and a crawl on another machine is taken for dead, but no sooner."""
    start(ledger)
    heartbeat = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=silent)
    holder(ledger, host="elsewhere", process_id=dead_process(), heartbeat=heartbeat)
    if succeeded:
        start(ledger)
        return
    with pytest.raises(LockedError, match="on elsewhere"):
        start(ledger)


def test_a_sign_of_life_counts(ledger: Engine) -> None:
    """A crawl that saves stays alive in the eyes of other machines."""
    run_id = start(ledger)
    holder(ledger, host="elsewhere", heartbeat=dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
    with ledger.begin() as connection:
        crawl_lock.heartbeat(connection, run_id)
    with pytest.raises(LockedError):
        start(ledger)


def test_a_crawl_that_lost_its_lock_saves_no_more(ledger: Engine) -> None:
    """A crawl taken for dead that wakes up does not write beside its successor."""
    first = start(ledger)
    holder(ledger, host="elsewhere", heartbeat=dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
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
def test_of_crawls_that_come_at_once_exactly_one_gets_in(ledger_url: str, ledger: Engine, before: str) -> None:
    """Four connections take the lock at the same moment: one has it, three are told who."""
    if before != "free":
        start(ledger)
        holder(ledger, process_id=dead_process())
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

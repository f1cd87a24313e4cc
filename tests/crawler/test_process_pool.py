"""The process pool implements the concurrent.futures contract and survives the death of its processes."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, wait
from functools import partial

import pytest

from crawler.process_pool import AsyncProcessPool

_BARRIER = threading.Barrier(8)
_NAMES: list[str] = []


def _double(number: int) -> int:
    return number * 2


def _fail() -> None:
    raise LookupError("no such thing")


def _unsendable() -> threading.Lock:
    return threading.Lock()


def _meet() -> int:
    """Return once eight calls run concurrently."""
    _BARRIER.wait(timeout=20)
    return os.getpid()


def _wait(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def _remember(name: str) -> None:
    _NAMES.append(name)


def _remembered() -> list[str]:
    return _NAMES


def _interrupt_myself() -> str:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.1)
    return "still here"


@pytest.fixture(scope="module")
def pool() -> Iterator[AsyncProcessPool]:
    """A pool of two processes with eight tasks each."""
    executor = AsyncProcessPool(2, 8, partial(_remember, "set by the initializer"))
    yield executor
    executor.shutdown()


def test_results_and_errors_are_returned(pool: AsyncProcessPool) -> None:
    """A future returns the result of the function or raises its exception."""
    assert list(pool.map(_double, range(50))) == [number * 2 for number in range(50)]
    with pytest.raises(LookupError, match="no such thing"):
        pool.submit(_fail).result(timeout=20)


def test_a_result_that_cannot_be_sent_is_an_error(pool: AsyncProcessPool) -> None:
    """A result that cannot be pickled fails its task and not the process."""
    with pytest.raises(RuntimeError, match="cannot be sent"):
        pool.submit(_unsendable).result(timeout=20)


def test_a_process_runs_many_tasks_concurrently(pool: AsyncProcessPool) -> None:
    """Sixteen tasks that wait for each other in groups of eight complete in two processes."""
    futures = [pool.submit(_meet) for _ in range(16)]
    assert sorted({future.result(timeout=30) for future in futures}) == sorted(pool.process_ids)


def test_the_initializer_runs_before_the_first_task(pool: AsyncProcessPool) -> None:
    """A task sees the effects of the initializer in its process."""
    assert pool.submit(_remembered).result(timeout=20) == ["set by the initializer"]


def test_workers_ignore_sigint(pool: AsyncProcessPool) -> None:
    """Ctrl-C reaches all processes of a terminal; workers continue until the parent stops them."""
    assert pool.submit(_interrupt_myself).result(timeout=20) == "still here"


def test_a_killed_process_fails_its_own_tasks_and_is_replaced() -> None:
    """One of two processes is killed: its tasks fail, the other tasks succeed, and the pool has two processes again."""
    with AsyncProcessPool(2, 4) as executor:
        tasks = [executor.submit(_wait, 1.5) for _ in range(8)]
        victim = executor.process_ids[0]
        time.sleep(0.3)
        os.kill(victim, signal.SIGKILL)
        wait(tasks, timeout=30)
        broken = [task for task in tasks if isinstance(task.exception(), BrokenExecutor)]
        assert len(broken) == 4
        assert victim not in {task.result() for task in tasks if task not in broken}
        assert victim not in executor.process_ids
        assert executor.submit(_double, 4).result(timeout=20) == 8


def test_an_immediate_shutdown_ends_the_processes() -> None:
    """No process keeps running, and unfinished tasks fail as broken."""
    executor = AsyncProcessPool(1, 2)
    task = executor.submit(_wait, 60)
    executor.shutdown(cancel_futures=True)
    with pytest.raises(BrokenExecutor):
        task.result(timeout=20)
    for process_id in executor.process_ids:
        with pytest.raises(ProcessLookupError):
            os.kill(process_id, 0)
    with pytest.raises(RuntimeError, match="cannot submit a task"):
        executor.submit(_double, 1)


def _enlarge(size: int) -> list[bytes]:
    return [b"a" * size, b"small"]


def test_large_results_arrive_among_small_ones(pool: AsyncProcessPool) -> None:
    """Results of any size arrive unchanged."""
    futures = [pool.submit(_enlarge, size) for size in (1, 10_000_000, 0)]
    assert [future.result() for future in futures] == [[b"a" * size, b"small"] for size in (1, 10_000_000, 0)]

"""Where scopes are crawled, and in which order: in this process, in several, or on a Dask cluster; the largest first."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import os
import pickle
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, func, select

from crawler.aws.errors import AwsError
from crawler.process_pool import Processes
from crawler.worker import Crew, Part, collect_garbage_less, crawl_part, unread
from crawler.writer import Finished, Packed
from models.errors import UserError
from models.store.engine import translate_errors
from models.tables.runs import Cause, ScopeRun

AT_ONCE = 256
"""Scopes that a process holds at a time; its door bounds the calls."""
ACCOUNTS_FOR_A_PROCESS = 16
"""Fewer accounts do not repay the start of another process."""
TRIES = 3
"""Processes that a scope may see die before it is given up: it may be what kills them."""
DASK = "dask://"

log = logging.getLogger(__name__)


class ExecutorError(UserError):
    """The processes that should crawl cannot be had."""

    exit_code = 2


@dataclass(slots=True)
class Schedule:
    """Hands scopes to where they are crawled. Without an executor that is the crew of this process."""

    crew: Crew
    executor: Executor | None = None
    places: int = AT_ONCE
    sizes: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Calls of the last run by account and region: what costs most is begun first, so that it does not hold the tail."""
    died: tuple[type[Exception], ...] = (BrokenExecutor,)
    """How the executor says that a process died with its work."""
    _job: bytes = b""
    _waiting: list[tuple[int, int, asyncio.Future[None]]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def size(self, account_id: str, region: str) -> int:
        """How large a scope is thought to be, in calls; one never seen may be the largest."""
        return self.sizes.get((account_id, region), sys.maxsize)

    async def crawl(
        self, part: Part, hand_over: Callable[[Finished | Packed], Awaitable[None]] | None = None
    ) -> Finished | Packed:
        """Crawl a scope when its turn comes: what it gave, packed where it comes from another process.

        Its place is free when it is handed over, so that no more is crawled than can be saved.
        """
        await self._turn(self.size(part.scope.account_id, part.scope.region))
        try:
            finished = await self._crawl(part)
            if hand_over is not None:
                await hand_over(finished)
            return finished
        finally:
            self._next()

    async def _crawl(self, part: Part) -> Finished | Packed:
        if self.executor is None:
            return await self.crew.crawl(part)
        self._job = self._job or pickle.dumps(self.crew.job)
        for left in reversed(range(TRIES)):
            future = self.executor.submit(crawl_part, self._job, part)
            try:
                return await asyncio.wrap_future(future)
            except self.died as error:
                log.warning("%s: %s%s", part.scope, error, ", once more" if left else "")
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if future.cancelled() and not (task and task.cancelling()):
                    raise ExecutorError("the processes that crawl gave up their work: look at the cluster") from error
                raise
        return unread(
            part.scope, AwsError(Cause.WORKER_DIED, "WorkerDied", f"{TRIES} processes died while they crawled it")
        )

    async def _turn(self, size: int) -> None:
        if self.places > 0:
            self.places -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (-size, next(self._numbers), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._next()
            raise

    def _next(self) -> None:
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self.places += 1


def last_sizes(engine: Engine, run_id: int) -> dict[tuple[str, str], int]:
    """Calls by account and region of the run before this one."""
    table = ScopeRun.__table__
    with translate_errors(engine), engine.connect() as connection:
        before = connection.execute(select(func.max(table.c.run_id)).where(table.c.run_id < run_id)).scalar()
        rows = connection.execute(
            select(table.c.account_id, table.c.region, table.c.calls).where(table.c.run_id == before)
        )
        return {(account_id, region): calls for account_id, region, calls in rows}


@contextmanager
def schedule(
    crew: Crew, accounts: int, sizes: Mapping[tuple[str, str], int], *, log_level: str, log_format: str
) -> Iterator[Schedule]:
    """The schedule that the settings ask for, for so many accounts; its processes end with it."""
    settings = crew.job.crawl
    if settings.executor.startswith(DASK):
        with _dask(settings.executor) as (executor, places, died):
            yield Schedule(crew, executor, places, sizes, died)
        return
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = settings.processes or min(processors, -(-accounts // ACCOUNTS_FOR_A_PROCESS))
    if count <= 1:
        yield Schedule(crew, None, AT_ONCE, sizes)
        return
    executor = Processes(count, AT_ONCE, _set_up, (log_level, log_format))
    try:
        yield Schedule(crew, executor, AT_ONCE * count, sizes)
    finally:
        executor.shutdown(cancel_futures=True)


def _set_up(level: Any, log_format: Any) -> None:
    from models.logging_setup import set_up

    set_up(level, log_format)
    collect_garbage_less()


@contextmanager
def _dask(address: str) -> Iterator[tuple[Executor, int, tuple[type[Exception], ...]]]:
    """The workers of a Dask scheduler, or of one that is started for this crawl. Each thread of a worker holds a scope."""
    try:
        # Typed, but for what is called here.
        import distributed.cfexecutor
    except ImportError as error:
        raise ExecutorError(
            f"crawl.executor {address} needs Dask: install the extra, kmsledger[distributed]"
        ) from error
    where = address.removeprefix(DASK)
    try:
        if where == "local":
            client = distributed.Client(
                n_workers=os.cpu_count() or 1, threads_per_worker=AT_ONCE, dashboard_address=None, set_as_default=False
            )
        else:
            client = distributed.Client(f"tcp://{where}", timeout="20s", set_as_default=False)
            client.wait_for_workers(1, timeout=60)
    except (OSError, TimeoutError) as error:
        raise ExecutorError(f"the Dask cluster at {address} cannot be used: {error or type(error).__name__}") from error
    with client:
        threads = sum(client.nthreads().values())
        yield client.get_executor(pure=False), threads, (distributed.KilledWorker,)

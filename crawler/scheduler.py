"""Runs scopes in this process, in a process pool, or on a Dask cluster; the largest scopes start first."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy import Engine, func, select

from crawler.aws.errors import AwsError
from crawler.aws.semaphore import FairSemaphore
from crawler.process_pool import AsyncProcessPool
from crawler.worker import (
    LogConfig,
    ScopeTask,
    Worker,
    crawl_task,
    crawl_task_in_foreign_process,
    failed_scope,
    relax_gc,
)
from crawler.writer import Finished, Packed
from models import console
from models.errors import UserError
from models.store.engine import translate_errors
from models.tables.runs import Cause, ScopeCoverage

SCOPES_PER_PROCESS = 256
"""Scopes that a process crawls concurrently; its client limits the calls."""
ACCOUNTS_PER_PROCESS = 16
"""With fewer accounts, starting another process does not pay off."""
MAX_ATTEMPTS = 3
"""Worker crashes after which a scope is given up: the scope itself may cause them."""
DASK = "dask://"

log = logging.getLogger(__name__)


class ExecutorError(UserError):
    """The worker pool could not be started or used."""

    exit_code = 2


@dataclass(slots=True)
class Scheduler:
    """Submits scopes to an executor, or to the worker of this process when there is none."""

    worker: Worker
    executor: Executor | None = None
    capacity: int = SCOPES_PER_PROCESS
    """Scopes crawled concurrently."""
    calls_by_scope: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Calls of the last run by account and region: the most expensive scopes start first, so that none runs at the end.

    An unseen scope counts as the largest.
    """
    crash_errors: tuple[type[Exception], ...] = (BrokenExecutor,)
    """Exceptions by which the executor reports that a worker process died with its task."""
    run_task: Callable[[bytes, ScopeTask], Packed] = crawl_task
    """Runs a task in a process of the executor."""
    _config: bytes = b""
    slots: FairSemaphore = field(init=False)

    def __post_init__(self) -> None:
        self.slots = FairSemaphore(self.capacity)

    async def crawl(
        self, task: ScopeTask, hand_over: Callable[[Finished | Packed], Awaitable[None]] | None = None
    ) -> Finished | Packed:
        """Crawl a scope once a slot is free; the result is packed if it comes from another process.

        The slot is released after ``hand_over`` returns, so that crawling does not outpace saving.
        """
        await self.slots.acquire(-self.calls_by_scope.get((task.scope.account_id, task.scope.region), sys.maxsize))
        try:
            finished = await self._crawl(task)
            if hand_over is not None:
                await hand_over(finished)
            return finished
        finally:
            self.slots.release()

    async def _crawl(self, task: ScopeTask) -> Finished | Packed:
        if self.executor is None:
            return await self.worker.crawl(task)
        self._config = self._config or pickle.dumps(self.worker.config)
        for remaining in reversed(range(MAX_ATTEMPTS)):
            future = self.executor.submit(self.run_task, self._config, task)
            try:
                return await asyncio.wrap_future(future)
            except self.crash_errors as error:
                log.warning("%s: %s%s", task.scope, error, "; retrying" if remaining else "")
            except asyncio.CancelledError as error:
                current = asyncio.current_task()
                if future.cancelled() and not (current and current.cancelling()):
                    raise ExecutorError("the executor cancelled its tasks: check the cluster") from error
                raise
        message = f"{MAX_ATTEMPTS} worker processes died while crawling the scope"
        return failed_scope(task.scope, AwsError(Cause.WORKER_DIED, "WorkerDied", message))


def last_calls(engine: Engine, run_id: int) -> dict[tuple[str, str], int]:
    """Return the calls of the previous run by account and region."""
    table = ScopeCoverage.__table__
    with translate_errors(engine), engine.connect() as connection:
        previous = connection.execute(select(func.max(table.c.run_id)).where(table.c.run_id < run_id)).scalar()
        rows = connection.execute(
            select(table.c.account_id, table.c.region, table.c.calls).where(table.c.run_id == previous)
        )
        return {(account_id, region): calls for account_id, region, calls in rows}


@contextmanager
def create_scheduler(
    worker: Worker, accounts: int, calls_by_scope: Mapping[tuple[str, str], int], *, log_level: str
) -> Iterator[Scheduler]:
    """Create the configured scheduler for a number of accounts; its processes end with the block."""
    settings = worker.config.crawl
    if settings.executor.startswith(DASK):
        with _dask(settings.executor) as (executor, capacity, crash_errors):
            # The worker processes belong to the cluster: their logging is not set up as that of a process pool.
            log_config = LogConfig(log_level, console.log_format(), console.current_run())
            run_task = partial(crawl_task_in_foreign_process, log_config)
            yield Scheduler(worker, executor, capacity, calls_by_scope, crash_errors, run_task)
        return
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = settings.processes or min(processors, -(-accounts // ACCOUNTS_PER_PROCESS))
    if count <= 1:
        yield Scheduler(worker, None, SCOPES_PER_PROCESS, calls_by_scope)
        return
    set_up = partial(_set_up, log_level, console.log_format(), console.current_run())
    executor = AsyncProcessPool(count, SCOPES_PER_PROCESS, set_up)
    try:
        yield Scheduler(worker, executor, SCOPES_PER_PROCESS * count, calls_by_scope)
    finally:
        executor.shutdown(cancel_futures=True)


def _set_up(level: str, log_format: str, run_id: int | None) -> None:
    from models.logging_setup import set_up

    set_up(level, log_format, run_id)
    relax_gc()


@contextmanager
def _dask(address: str) -> Iterator[tuple[Executor, int, tuple[type[Exception], ...]]]:
    """Connect to a Dask scheduler, or start a local one for this crawl. Each worker thread holds one scope."""
    try:
        # Typed, except for the calls below.
        import distributed.cfexecutor
    except ImportError as error:
        raise ExecutorError(
            f"crawl.executor {address} needs Dask: install the extra, kmsledger[distributed]"
        ) from error
    scheduler_address = address.removeprefix(DASK)
    try:
        if scheduler_address == "local":
            client = distributed.Client(
                n_workers=os.cpu_count() or 1,
                threads_per_worker=SCOPES_PER_PROCESS,
                dashboard_address=None,
                set_as_default=False,
            )
        else:
            client = distributed.Client(f"tcp://{scheduler_address}", timeout="20s", set_as_default=False)
            client.wait_for_workers(1, timeout=60)
    except (OSError, TimeoutError) as error:
        raise ExecutorError(f"the Dask cluster at {address} cannot be used: {error or type(error).__name__}") from error
    with client:
        threads = sum(client.nthreads().values())
        yield client.get_executor(pure=False), threads, (distributed.KilledWorker,)

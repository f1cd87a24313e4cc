"""Crawls scopes in a process. Each process has its own client and event loop, whatever executor started it."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import pickle
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from crawler.aws.client import AwsClient, Counter, CredentialProvider
from crawler.aws.credentials import Roles
from crawler.aws.errors import AwsError
from crawler.collector import Collected, CollectOptions, collect
from crawler.discovery import excludes_region
from crawler.iam_policies import configured_types, member_actions
from crawler.spec import WHOLE_SCOPE, Scope
from crawler.writer import Finished, Packed, pack
from models.call_counters import OperationCounters
from models.logging_setup import set_up_own_loggers
from models.settings import AwsSettings, RegionSettings, RoleSettings
from models.settings.crawl import CrawlSettings
from models.tables.runs import Cause, Gap, Outcome

MAX_PROVIDERS = 512
"""Accounts whose sessions a process keeps."""


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """The settings that a process needs to crawl scopes."""

    aws: AwsSettings
    role: RoleSettings
    crawl: CrawlSettings
    regions: RegionSettings


@dataclass(frozen=True, slots=True)
class ScopeTask:
    """A scope to crawl, its time limit in seconds, and why listing its keys may be enough (see :class:`CollectOptions`)."""

    scope: Scope
    seconds: float
    empty_reason: str | None = None


class Worker:
    """Crawls any number of scopes concurrently. Belongs to one event loop."""

    def __init__(self, config: WorkerConfig, client: AwsClient | None = None, roles: Roles | None = None) -> None:
        self.config = config
        self.resource_types = configured_types(config.crawl.resource_types)
        self.client = client or AwsClient(config.aws, config.crawl)
        actions = member_actions(self.resource_types, config.crawl)
        self.roles = roles or Roles(self.client, config.aws, config.role, actions)
        self._options = CollectOptions(
            self.resource_types,
            config.crawl.aws_managed_key_details,
            config.crawl.iam,
            config.crawl.secret_policies,
            lambda region: excludes_region(config.regions, region),
            config.aws.region,
        )
        self._providers: OrderedDict[str, CredentialProvider] = OrderedDict()
        self._running: dict[str, int] = {}

    @property
    def has_global_scope(self) -> bool:
        """Whether anything is collected that belongs to no region."""
        return self.config.crawl.iam or any(not resource_type.regional for resource_type in self.resource_types)

    async def provider(self, account_id: str) -> CredentialProvider:
        """Return the credentials of an account, the same for all of its scopes."""
        provider = self._providers.get(account_id)
        if provider is None:
            # Another scope of the account may have stored its provider meanwhile: there is one session per account.
            provider = self._providers.setdefault(account_id, await self.roles.member(account_id))
        self._providers.move_to_end(account_id)
        while len(self._providers) > MAX_PROVIDERS:
            self._providers.popitem(last=False)
        return provider

    async def crawl(self, task: ScopeTask) -> Finished:
        """Crawl one scope and return its facts and coverage. AWS errors become gaps; none is raised."""
        account_id = task.scope.account_id
        self._running[account_id] = self._running.get(account_id, 0) + 1
        try:
            return await self._crawl(task)
        finally:
            self._running[account_id] -= 1
            if not self._running[account_id]:
                del self._running[account_id]
                self.client.drop_account(account_id)

    async def _crawl(self, task: ScopeTask) -> Finished:
        started = dt.datetime.now(dt.UTC)
        counter = Counter()
        options = replace(self._options, empty_reason=task.empty_reason)
        try:
            async with asyncio.timeout(task.seconds):
                provider = await self.provider(task.scope.account_id)
                collected = await collect(self.client, provider, task.scope, options, counter)
        except TimeoutError:
            error = AwsError(Cause.DEADLINE, "Deadline", f"not finished within {task.seconds:.0f} s")
            return failed_scope(task.scope, error, started, counter)
        except AwsError as error:
            if error.cause is Cause.REGION_DISABLED:
                return _disabled_region(task.scope, error, started, counter)
            return failed_scope(task.scope, error, started, counter)
        collected.started = started
        outcome = Outcome.PARTIAL if collected.gaps else Outcome.COMPLETE
        return collected.finish(outcome, task.empty_reason if collected.empty else None)


def failed_scope(
    scope: Scope, error: AwsError, started: dt.datetime | None = None, counter: Counter | None = None
) -> Finished:
    """Return an unfinished scope, which records only a gap: a partial listing cannot prove absence."""
    collected = Collected(scope, counter=counter or Counter())
    collected.started = started or collected.started
    collected.gap(scope.region, WHOLE_SCOPE, "", error)
    return collected.finish(Outcome.FAILED, error.cause.text)


def _disabled_region(scope: Scope, error: AwsError, started: dt.datetime, counter: Counter) -> Finished:
    """Return the scope of a region that is not enabled: nothing is missing, and what is known of it stays."""
    collected = Collected(scope, counter=counter, started=started)
    collected.batch.mark_complete(Gap, scope.account_id, scope.region)
    return collected.finish(Outcome.DISABLED, f"{error.cause.text}: {error.message}")


def relax_gc() -> None:
    """Run the garbage collector less often: a crawl holds millions of small facts with few cycles; scans take 10% of its CPU."""
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


@contextmanager
def relaxed_gc() -> Iterator[None]:
    """Relax the garbage collector within the block; objects that stay frozen would not be freed at exit."""
    threshold = gc.get_threshold()
    relax_gc()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*threshold)


def crawl_task(config: bytes, task: ScopeTask) -> Packed:
    """Run a task with a pickled :class:`WorkerConfig`, from any thread.

    The threads of a process share one event loop, and with it connections, sessions and the rate limiter.
    """
    loop, worker = _worker_for_process(config)
    finished, operations = asyncio.run_coroutine_threadsafe(_crawl_counted(worker, task), loop).result()
    return pack(finished, operations)


@dataclass(frozen=True, slots=True)
class LogConfig:
    """Level, format and run of the log lines of a process that another program started."""

    level: str
    format: str
    run_id: int | None


def crawl_task_in_foreign_process(log_config: LogConfig, config: bytes, task: ScopeTask) -> Packed:
    """Run a task as :func:`crawl_task` does, and log in the format of the crawl; the process's other loggers stay as they are."""
    global _log_config  # noqa: PLW0603 - of this process, which outlives a crawl
    with _WORKERS_LOCK:
        if _log_config != log_config:
            set_up_own_loggers(log_config.level, log_config.format, log_config.run_id)
            _log_config = log_config
    return crawl_task(config, task)


async def _crawl_counted(worker: Worker, task: ScopeTask) -> tuple[Finished, OperationCounters]:
    return await worker.crawl(task), worker.client.take_operations()


_WORKERS_LOCK = threading.Lock()
_log_config: LogConfig | None = None
_WORKERS: dict[bytes, tuple[asyncio.AbstractEventLoop, Worker]] = {}


def _worker_for_process(config: bytes) -> tuple[asyncio.AbstractEventLoop, Worker]:
    """Return the event loop and the worker of this process, one per config because a process may outlive a crawl."""
    with _WORKERS_LOCK:
        entry = _WORKERS.get(config)
        if entry is None:
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="crawl", daemon=True).start()
            entry = _WORKERS[config] = loop, asyncio.run_coroutine_threadsafe(_create_worker(config), loop).result()
        return entry


async def _create_worker(config: bytes) -> Worker:
    settings: WorkerConfig = pickle.loads(config)  # noqa: S301 - pickled by the crawl that started this process
    return Worker(settings)

"""The scheduler: order of scopes, capacity, and retries after worker crashes."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import Any

import pytest

from crawler.aws.errors import AwsError
from crawler.process_pool import AsyncProcessPool
from crawler.scheduler import MAX_ATTEMPTS, ExecutorError, Scheduler
from crawler.spec import Scope
from crawler.worker import ScopeTask, Worker, WorkerConfig, failed_scope
from crawler.writer import Finished, Packed
from models.settings import AwsSettings, RegionSettings, RoleSettings
from models.settings.crawl import CrawlSettings
from models.tables.runs import Cause, Gap, Outcome
from tests.crawler.scripted_aws import ACCOUNT, Answer, RecordedCall, ScriptedAws, aws_error, client_for

UNREACHABLE_AWS = AwsSettings(endpoint_url="http://127.0.0.1:9", connect_timeout=2)
"""An endpoint without a server: only a worker that really crawls reports it as unreachable."""


@pytest.fixture(autouse=True)
def own_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the crawler's own credentials, for this process and its workers."""
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOWN")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "own-secret")


@pytest.fixture
def worker() -> Iterator[Worker]:
    """A worker whose AWS endpoint is unreachable."""
    worker = Worker(WorkerConfig(UNREACHABLE_AWS, RoleSettings(), CrawlSettings(max_attempts=1), RegionSettings()))
    yield worker
    worker.client.close()


def task_for(region: str) -> ScopeTask:
    """Return the task of one scope."""
    return ScopeTask(Scope(ACCOUNT, region), 60.0)


class ManualExecutor(Executor):
    """An executor whose tasks complete when the test says so."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.futures: list[Future[Any]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Record the scope."""
        del fn, kwargs
        self.started.append(args[1].scope.region)
        self.futures.append(Future())
        return self.futures[-1]

    def done(self, number: int) -> None:
        """Complete the n-th started scope."""
        finished = failed_scope(Scope(ACCOUNT, self.started[number]), AwsError(Cause.DENIED, "Denied", "no"))
        assert finished.coverage is not None
        self.futures[number].set_result(Packed(finished.coverage, pickle.dumps(finished)))


async def settled() -> None:
    """Let all ready tasks run."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_the_largest_scopes_start_first(worker: Worker) -> None:
    """Unseen scopes start first, then those with the most calls in the last run; ties in order of arrival."""
    calls_by_scope = {
        (ACCOUNT, "small"): 3,
        (ACCOUNT, "large"): 5000,
        (ACCOUNT, "middle"): 200,
        (ACCOUNT, "also small"): 3,
    }

    async def scenario() -> list[str]:
        executor = ManualExecutor()
        scheduler = Scheduler(worker, executor, 1, calls_by_scope)
        names = ("first", "small", "unseen", "middle", "also small", "large")
        waiting = [asyncio.create_task(scheduler.crawl(task_for(name))) for name in names]
        await settled()
        for number in range(len(names)):
            assert len(executor.started) == number + 1
            executor.done(number)
            await settled()
        await asyncio.gather(*waiting)
        return executor.started

    assert asyncio.run(scenario()) == ["first", "unseen", "large", "middle", "small", "also small"]


def test_a_cancelled_waiter_loses_no_slot(worker: Worker) -> None:
    """A task cancelled while it waits, when it gets the slot, or while it runs does not lose the slot."""

    async def scenario() -> list[str]:
        executor = ManualExecutor()
        scheduler = Scheduler(worker, executor, 1)
        tasks = {
            name: asyncio.create_task(scheduler.crawl(task_for(name)))
            for name in ("crawled", "waiting", "assigned", "running", "last")
        }
        await settled()
        tasks["waiting"].cancel()
        executor.done(0)
        # The slot has been assigned, and its new owner has not continued yet.
        while not tasks["crawled"].done():  # noqa: ASYNC110 - waiting for the task would be one step too late
            await asyncio.sleep(0)
        tasks["assigned"].cancel()
        await settled()
        tasks["running"].cancel()
        await settled()
        executor.done(len(executor.started) - 1)
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        assert [name for name, task in tasks.items() if task.cancelled()] == ["waiting", "assigned", "running"]
        assert scheduler.slots.free == 1
        return executor.started

    assert asyncio.run(scenario()) == ["crawled", "running", "last"]


def test_crawling_does_not_outpace_saving(worker: Worker) -> None:
    """A slot is released when its scope was enqueued for saving, not when it was crawled."""

    async def scenario() -> tuple[list[str], list[str]]:
        executor, saved = ManualExecutor(), asyncio.Event()
        scheduler = Scheduler(worker, executor, 1)

        async def hand_over(_finished: object) -> None:
            await saved.wait()

        tasks = [asyncio.create_task(scheduler.crawl(task_for(name), hand_over)) for name in ("first", "second")]
        await settled()
        executor.done(0)
        await settled()
        before = list(executor.started)
        saved.set()
        await settled()
        executor.done(1)
        await asyncio.gather(*tasks)
        return before, executor.started

    assert asyncio.run(scenario()) == (["first"], ["first", "second"])


def test_an_executor_that_cancels_its_tasks_is_an_error(worker: Worker) -> None:
    """Tasks cancelled by the cluster are reported, and not treated like Ctrl-C."""

    async def scenario() -> None:
        executor = ManualExecutor()
        crawling = asyncio.create_task(Scheduler(worker, executor, 1).crawl(task_for("eu-west-1")))
        await settled()
        executor.futures[0].cancel()
        await crawling

    with pytest.raises(ExecutorError, match="check the cluster"):
        asyncio.run(scenario())


class CrashingPool(AsyncProcessPool):
    """A process pool whose first tasks kill their process."""

    def __init__(self, crashes: int) -> None:
        super().__init__(1, 4)
        self.crashes = crashes
        self.attempts = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Submit the task, or one that kills the process."""
        self.attempts += 1
        if self.attempts <= self.crashes:
            return super().submit(os._exit, 9)
        return super().submit(fn, *args, **kwargs)


def crawled_by(worker: Worker, executor: Executor) -> tuple[Finished | Packed, int]:
    """Return the result of a scope and the free capacity afterwards."""

    async def scenario() -> tuple[Finished | Packed, int]:
        scheduler = Scheduler(worker, executor, 1)
        return await scheduler.crawl(task_for("eu-west-1")), scheduler.slots.free

    return asyncio.run(scenario())


def test_a_scope_is_retried_after_a_worker_crash(worker: Worker) -> None:
    """After two worker crashes, the third worker crawls the scope and returns its result."""
    with CrashingPool(MAX_ATTEMPTS - 1) as executor:
        result, capacity = crawled_by(worker, executor)
        assert executor.attempts == MAX_ATTEMPTS
    assert isinstance(result, Packed)
    assert result.coverage.outcome == Outcome.FAILED
    assert result.coverage.reason == Cause.UNREACHABLE.text
    assert capacity == 1


def test_a_scope_that_crashes_its_workers_is_given_up(worker: Worker) -> None:
    """After three crashes the scope is a gap with its cause, closes no fact, and releases its slot."""
    with CrashingPool(100) as executor:
        result, capacity = crawled_by(worker, executor)
        assert executor.attempts == MAX_ATTEMPTS == 3
    assert isinstance(result, Finished)
    assert result.coverage is not None
    assert (result.coverage.outcome, result.coverage.reason) == (Outcome.FAILED, Cause.WORKER_DIED.text)
    (gap,) = result.batch.rows[Gap]
    assert (gap["account_id"], gap["region"], gap["cause"]) == (ACCOUNT, "eu-west-1", Cause.WORKER_DIED)
    assert set(result.batch.rows) == {Gap}
    assert capacity == 1


def test_an_account_has_one_session_per_process() -> None:
    """Scopes of one account that start together share one caller identity and one session."""

    def assumed(_call: RecordedCall) -> dict[str, Any]:
        keys = {"AccessKeyId": "ASIA", "SecretAccessKey": "secret", "SessionToken": "token"}
        return {"Credentials": {**keys, "Expiration": dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)}}

    identity = {"Arn": "arn:aws:sts::999988887777:assumed-role/crawler/i-0", "Account": "999988887777", "UserId": "x"}
    aws = ScriptedAws({"sts:GetCallerIdentity": identity, "sts:AssumeRole": assumed})

    async def scenario() -> None:
        config = WorkerConfig(AwsSettings(), RoleSettings(), CrawlSettings(), RegionSettings())
        worker = Worker(config, client_for(aws))
        await asyncio.gather(*(worker.crawl(task_for(f"eu-west-{number}")) for number in range(1, 9)))

    asyncio.run(scenario())
    assert (len(aws.of("sts:GetCallerIdentity")), len(aws.of("sts:AssumeRole"))) == (1, 1)


def test_a_region_that_is_not_enabled_is_one_entry() -> None:
    """The scope is disabled, with one reason and no gaps, and earlier gaps of the region end."""
    keys = {"AccessKeyId": "ASIA", "SecretAccessKey": "secret", "SessionToken": "token"}
    session = {"Credentials": {**keys, "Expiration": dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)}}
    identity = {"Arn": "arn:aws:sts::999988887777:assumed-role/crawler/i-0", "Account": "999988887777", "UserId": "x"}
    rejected = aws_error("OptInRequired", "The AWS Access Key Id needs a subscription for the service")
    services: dict[str, Answer] = dict.fromkeys(("kms:ListAliases", "secretsmanager:ListSecrets"), rejected)
    aws = ScriptedAws({"sts:GetCallerIdentity": identity, "sts:AssumeRole": session, **services})

    async def scenario() -> Finished:
        config = WorkerConfig(AwsSettings(), RoleSettings(), CrawlSettings(), RegionSettings())
        return await Worker(config, client_for(aws)).crawl(task_for("me-south-1"))

    finished = asyncio.run(scenario())
    coverage = finished.coverage
    assert coverage is not None
    assert (coverage.outcome, coverage.gaps) == (Outcome.DISABLED, 0)
    assert str(coverage.reason).startswith("the region is not enabled in the account: kms:ListAliases and secrets")
    assert not finished.batch.rows
    assert finished.batch.complete_listings == {Gap: {(ACCOUNT, "me-south-1")}}


def test_only_crash_errors_are_retried(worker: Worker) -> None:
    """Other errors of the executor are raised without a retry."""

    async def scenario(error: Exception) -> list[str]:
        executor = ManualExecutor()
        crawling = asyncio.create_task(
            Scheduler(worker, executor, 1, crash_errors=(BrokenExecutor,)).crawl(task_for("eu-west-1"))
        )
        await settled()
        executor.futures[0].set_exception(error)
        with pytest.raises(LookupError):
            await crawling
        return executor.started

    assert asyncio.run(scenario(LookupError("mistake"))) == ["eu-west-1"]

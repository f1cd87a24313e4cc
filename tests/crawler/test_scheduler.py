"""Where scopes are crawled and in which order: what costs most first, and no scope lost with the process that had it."""

from __future__ import annotations

import asyncio
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
from tests.crawler.scripted_aws import ACCOUNT

NOWHERE = AwsSettings(endpoint_url="http://127.0.0.1:9", connect_timeout=2)
"""Nobody answers there: a scope that is crawled is unreachable, which only who tried can say."""


@pytest.fixture(autouse=True)
def own_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials of the crawler's own, here and in its processes."""
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOWN")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "own-secret")


@pytest.fixture
def worker() -> Iterator[Worker]:
    """A worker whose AWS is out of reach."""
    made = Worker(WorkerConfig(NOWHERE, RoleSettings(), CrawlSettings(max_attempts=1), RegionSettings()))
    yield made
    made.client.close()


def task_for(region: str) -> ScopeTask:
    """One scope."""
    return ScopeTask(Scope(ACCOUNT, region), 60.0)


class Held(Executor):
    """An executor whose work is done when the test says so."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.futures: list[Future[Any]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Remember the scope."""
        del fn, kwargs
        self.begun.append(args[1].scope.region)
        self.futures.append(Future())
        return self.futures[-1]

    def done(self, number: int) -> None:
        """The n-th scope that was begun is crawled."""
        found = failed_scope(Scope(ACCOUNT, self.begun[number]), AwsError(Cause.DENIED, "Denied", "no"))
        assert found.coverage is not None
        self.futures[number].set_result(Packed(found.coverage, pickle.dumps(found)))


async def settled() -> None:
    """Let everybody go on who can."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_the_largest_scopes_are_begun_first(worker: Worker) -> None:
    """Of those that wait, one never seen is next, then the one that took most calls last time; equals as they came."""
    calls_by_scope = {
        (ACCOUNT, "small"): 3,
        (ACCOUNT, "large"): 5000,
        (ACCOUNT, "middle"): 200,
        (ACCOUNT, "also small"): 3,
    }

    async def scenario() -> list[str]:
        executor = Held()
        scheduler = Scheduler(worker, executor, 1, calls_by_scope)
        names = ("first", "small", "unseen", "middle", "also small", "large")
        waiting = [asyncio.create_task(scheduler.crawl(task_for(name))) for name in names]
        await settled()
        for number in range(len(names)):
            assert len(executor.begun) == number + 1
            executor.done(number)
            await settled()
        await asyncio.gather(*waiting)
        return executor.begun

    assert asyncio.run(scenario()) == ["first", "unseen", "large", "middle", "small", "also small"]


def test_a_cancelled_waiter_loses_no_place(worker: Worker) -> None:
    """Cancelled while it waits, when the place is handed to it, or while its scope is crawled: the place stays."""

    async def scenario() -> list[str]:
        executor = Held()
        scheduler = Scheduler(worker, executor, 1)
        tasks = {
            name: asyncio.create_task(scheduler.crawl(task_for(name)))
            for name in ("crawled", "waits", "is handed it", "is crawled", "last")
        }
        await settled()
        tasks["waits"].cancel()
        executor.done(0)
        # In one go: the place has been handed over, and whoever it was handed to has not gone on yet.
        while not tasks["crawled"].done():  # noqa: ASYNC110 - being told of its end would be a moment too late
            await asyncio.sleep(0)
        tasks["is handed it"].cancel()
        await settled()
        tasks["is crawled"].cancel()
        await settled()
        executor.done(len(executor.begun) - 1)
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        assert [name for name, task in tasks.items() if task.cancelled()] == ["waits", "is handed it", "is crawled"]
        assert scheduler.capacity == 1
        assert not scheduler._waiting
        return executor.begun

    assert asyncio.run(scenario()) == ["crawled", "is crawled", "last"]


def test_no_more_is_crawled_than_can_be_saved(worker: Worker) -> None:
    """A place is free again when its scope was handed over, not already when it was crawled."""

    async def scenario() -> tuple[list[str], list[str]]:
        executor, saved = Held(), asyncio.Event()
        scheduler = Scheduler(worker, executor, 1)

        async def hand_over(_finished: object) -> None:
            await saved.wait()

        tasks = [asyncio.create_task(scheduler.crawl(task_for(name), hand_over)) for name in ("first", "second")]
        await settled()
        executor.done(0)
        await settled()
        before = list(executor.begun)
        saved.set()
        await settled()
        executor.done(1)
        await asyncio.gather(*tasks)
        return before, executor.begun

    assert asyncio.run(scenario()) == (["first"], ["first", "second"])


def test_an_executor_that_gives_up_its_work_is_said_in_a_sentence(worker: Worker) -> None:
    """A cluster that cancels its tasks is not the user pressing Ctrl-C."""

    async def scenario() -> None:
        executor = Held()
        crawling = asyncio.create_task(Scheduler(worker, executor, 1).crawl(task_for("eu-west-1")))
        await settled()
        executor.futures[0].cancel()
        await crawling

    with pytest.raises(ExecutorError, match="check the cluster"):
        asyncio.run(scenario())


class Deadly(AsyncProcessPool):
    """Real processes, of which the first so many die of their task."""

    def __init__(self, deaths: int) -> None:
        super().__init__(1, 4)
        self.deaths = deaths
        self.tries = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """The task, or the end of the process."""
        self.tries += 1
        if self.tries <= self.deaths:
            return super().submit(os._exit, 9)
        return super().submit(fn, *args, **kwargs)


def crawled_by(worker: Worker, executor: Executor) -> tuple[Finished | Packed, int]:
    """What became of a scope, and the capacity left afterwards."""

    async def scenario() -> tuple[Finished | Packed, int]:
        scheduler = Scheduler(worker, executor, 1)
        return await scheduler.crawl(task_for("eu-west-1")), scheduler.capacity

    return asyncio.run(scenario())


def test_a_scope_whose_process_died_is_crawled_by_another(worker: Worker) -> None:
    """Two processes die with it, the third one crawls it: what it says is what that one found."""
    with Deadly(MAX_ATTEMPTS - 1) as executor:
        found, capacity = crawled_by(worker, executor)
        assert executor.tries == MAX_ATTEMPTS
    assert isinstance(found, Packed)
    assert found.coverage.outcome == Outcome.FAILED
    assert found.coverage.reason == Cause.UNREACHABLE.text
    assert capacity == 1


def test_a_scope_that_kills_its_processes_is_given_up(worker: Worker) -> None:
    """After three it is a gap with its cause, which closes nothing, and its place is free for others."""
    with Deadly(100) as executor:
        found, capacity = crawled_by(worker, executor)
        assert executor.tries == MAX_ATTEMPTS == 3
    assert isinstance(found, Finished)
    assert found.coverage is not None
    assert (found.coverage.outcome, found.coverage.reason) == (Outcome.FAILED, Cause.WORKER_DIED.text)
    (gap,) = found.batch.rows[Gap]
    assert (gap["account_id"], gap["region"], gap["cause"]) == (ACCOUNT, "eu-west-1", Cause.WORKER_DIED)
    assert set(found.batch.rows) == {Gap}
    assert capacity == 1


def test_an_executor_names_its_own_way_of_dying(worker: Worker) -> None:
    """Other errors of the executor are not tried again: they are mistakes, and go up."""

    async def scenario(error: Exception) -> list[str]:
        executor = Held()
        crawling = asyncio.create_task(
            Scheduler(worker, executor, 1, crash_errors=(BrokenExecutor,)).crawl(task_for("eu-west-1"))
        )
        await settled()
        executor.futures[0].set_exception(error)
        with pytest.raises(LookupError):
            await crawling
        return executor.begun

    assert asyncio.run(scenario(LookupError("mistake"))) == ["eu-west-1"]

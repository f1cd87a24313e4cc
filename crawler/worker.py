"""What a process does with one scope: it has a door and an event loop of its own, whoever started it."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import pickle
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from crawler.aws.client import Access, Counter, Door
from crawler.aws.credentials import Roles
from crawler.aws.errors import AwsError
from crawler.collector import Collected, Wanted, collect
from crawler.discovery import excludes_region
from crawler.iam_policies import member_actions, wanted_types
from crawler.spec import EVERYTHING, Scope
from crawler.writer import Coverage, Finished, Packed, pack
from models.settings import AwsSettings, RegionSettings, RoleSettings
from models.settings.crawl import CrawlSettings
from models.tables.runs import Cause, Outcome

ROLES_HELD = 512
"""Accounts whose sessions a process keeps."""


@dataclass(frozen=True, slots=True)
class Job:
    """The settings that a process needs in order to crawl scopes."""

    aws: AwsSettings
    role: RoleSettings
    crawl: CrawlSettings
    regions: RegionSettings


@dataclass(frozen=True, slots=True)
class Part:
    """One scope to crawl, the seconds that it may take, and why only its keys are asked, if so."""

    scope: Scope
    seconds: float
    quiet: str | None = None


class Crew:
    """Crawls scopes, as many at once as it is given. Belongs to one event loop."""

    def __init__(self, job: Job, door: Door | None = None, roles: Roles | None = None) -> None:
        self.job = job
        self.kinds = wanted_types(job.crawl.resource_types)
        self.door = door or Door(job.aws, job.crawl)
        self.roles = roles or Roles(self.door, job.aws, job.role, member_actions(self.kinds, job.crawl))
        self._held: OrderedDict[str, Access] = OrderedDict()
        self._working: dict[str, int] = {}

    @property
    def regionless(self) -> bool:
        """Whether accounts are asked for anything that is in no region."""
        return self.job.crawl.iam or any(not kind.regional for kind in self.kinds)

    async def access(self, account_id: str) -> Access:
        """The right to read an account, the same for all of its scopes."""
        held = self._held.get(account_id)
        if held is None:
            held = self._held[account_id] = await self.roles.member(account_id)
        self._held.move_to_end(account_id)
        while len(self._held) > ROLES_HELD:
            self._held.popitem(last=False)
        return held

    async def crawl(self, part: Part) -> Finished:
        """Everything of one scope, with its coverage. Whatever AWS does is in there; nothing of it is raised."""
        account_id = part.scope.account_id
        self._working[account_id] = self._working.get(account_id, 0) + 1
        try:
            return await self._crawl(part)
        finally:
            self._working[account_id] -= 1
            if not self._working[account_id]:
                del self._working[account_id]
                self.door.forget(account_id)

    async def _crawl(self, part: Part) -> Finished:
        scope = part.scope
        started = dt.datetime.now(dt.UTC)
        counter = Counter()
        wanted = Wanted(
            self.kinds,
            self.job.crawl.aws_managed_key_details,
            self.job.crawl.iam,
            self.job.crawl.secret_policies,
            lambda region: excludes_region(self.job.regions, region),
            self.job.aws.region,
            part.quiet,
        )
        try:
            async with asyncio.timeout(part.seconds):
                collected = await collect(self.door, await self.access(scope.account_id), scope, wanted, counter)
        except TimeoutError:
            error = AwsError(Cause.DEADLINE, "Deadline", f"not finished within {part.seconds:.0f} s")
            return unread(scope, error, started, counter)
        except AwsError as error:
            return unread(scope, error, started, counter)
        coverage = Coverage(
            scope.account_id,
            scope.region,
            Outcome.PARTIAL if collected.gaps else Outcome.COMPLETE,
            part.quiet if collected.quiet else None,
            started,
            dt.datetime.now(dt.UTC),
            counter.calls,
            counter.retries,
            collected.gaps,
        )
        return Finished(coverage, collected.batch)


def unread(
    scope: Scope, error: AwsError, started: dt.datetime | None = None, counter: Counter | None = None
) -> Finished:
    """A scope that was not finished tells nothing but that: half of a listing proves no absence."""
    collected = Collected(scope)
    collected.gap(scope.region, EVERYTHING, "", error)
    now = dt.datetime.now(dt.UTC)
    made = counter or Counter()
    coverage = Coverage(
        scope.account_id,
        scope.region,
        Outcome.FAILED,
        error.cause.text,
        started or now,
        now,
        made.calls,
        made.retries,
        collected.gaps,
    )
    return Finished(coverage, collected.batch)


def collect_garbage_less() -> None:
    """What a crawl holds is millions of small facts and hardly a cycle: going through them costs a tenth of its CPU."""
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


@contextmanager
def collecting_garbage_less() -> Iterator[None]:
    """The same for a while, in a process that does more than crawl: what stays frozen is not even freed at its end."""
    usual = gc.get_threshold()
    collect_garbage_less()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*usual)


def crawl_part(job: bytes, part: Part) -> Packed:
    """Crawl a part for a pickled :class:`Job`, from any thread.

    Threads share one event loop a process, and with it connections, sessions and the pace.
    """
    loop, crew = _workshop(job)
    return pack(asyncio.run_coroutine_threadsafe(crew.crawl(part), loop).result())


_OPENING = threading.Lock()
_OPEN: dict[bytes, tuple[asyncio.AbstractEventLoop, Crew]] = {}


def _workshop(job: bytes) -> tuple[asyncio.AbstractEventLoop, Crew]:
    """The loop and the crew of this process: of each job, as a process may outlive a crawl."""
    with _OPENING:
        found = _OPEN.get(job)
        if found is None:
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="crawl", daemon=True).start()
            found = _OPEN[job] = loop, asyncio.run_coroutine_threadsafe(_crew(job), loop).result()
        return found


async def _crew(job: bytes) -> Crew:
    settings: Job = pickle.loads(job)  # noqa: S301 - made by the crawl that this process works for
    return Crew(settings)

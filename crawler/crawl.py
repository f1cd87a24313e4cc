"""One crawl on one page: discover -> collect -> save -> link."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Engine

from crawler import discovery as org
from crawler import writer
from crawler.account_facts import account_batch, region_batch
from crawler.aws.client import Access
from crawler.aws.credentials import ASSUME_ROLE, CredentialsError, Identity, Roles
from crawler.aws.errors import AwsError
from crawler.collector import Collected
from crawler.empty_regions import quiet_scopes
from crawler.key_references import link
from crawler.progress import Progress
from crawler.scheduler import Schedule, last_sizes, schedule
from crawler.services.key_last_usage import LastUse
from crawler.spec import EVERYTHING, GLOBAL, Scope
from crawler.worker import Crew, Job, Part, collecting_garbage_less, unread
from crawler.writer import ORGANIZATION, WHOLE_ACCOUNT, Coverage, Finished, Packed, Saver
from models.errors import UserError
from models.settings import Settings
from models.store import crawl_lock
from models.store.engine import connect, translate_errors, upgrade
from models.store.scd2_merge import Batch
from models.tables.runs import Cause, Gap, Outcome, RunStatus

ACCOUNTS_AT_A_TIME = 64
"""Accounts whose scopes wait or are crawled, at least; the schedule bounds the scopes, the door the calls."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CrawlResult:
    """How a crawl ended."""

    run_id: int
    status: RunStatus
    accounts: int
    scopes: int
    gaps: int
    calls: int

    @property
    def exit_code(self) -> int:
        """0 for a complete crawl, 3 for one with gaps."""
        return 0 if self.status is RunStatus.COMPLETE else 3


def crawl(settings: Settings, version: str, progress: Progress, *, resume: bool = False) -> CrawlResult:
    """Crawl the organization into the database. Whatever happens, scopes that were saved stay saved.

    With ``resume`` the last run, if it did not end, is finished: only the scopes that are missing are crawled.
    """
    engine = connect(settings.database)
    try:
        upgrade(engine)
        run_id = writer.resume(engine) if resume else writer.start(engine, version)
        try:
            return _crawl(engine, settings, run_id, progress)
        except UserError as error:
            _close(engine, run_id, RunStatus.FAILED, error.message)
            raise
        except Exception as error:
            # A mistake of the program: it must not leave a run that reads as running.
            _close(engine, run_id, RunStatus.FAILED, f"{type(error).__name__}: {error}")
            raise
        except (KeyboardInterrupt, asyncio.CancelledError):
            _close(engine, run_id, RunStatus.INTERRUPTED, "interrupted")
            raise
        finally:
            _release(engine, run_id)
    finally:
        engine.dispose()


def _crawl(engine: Engine, settings: Settings, run_id: int, progress: Progress) -> CrawlResult:
    crawling = _Crawl(engine, settings, run_id, progress)
    with collecting_garbage_less(), crawling.saver, progress:
        _run(crawling)
    crawling.saver.check()
    with translate_errors(engine):
        link(engine, run_id)
        with engine.begin() as connection:
            totals = writer.finish(connection, run_id, other_calls=crawling.other_calls)
    return CrawlResult(run_id, **asdict(totals))


def _run(crawling: _Crawl) -> None:
    try:
        asyncio.run(crawling.all())
    except BaseExceptionGroup as group:
        # Tasks fail in groups; a person needs the first cause.
        raise _first(group) from group


def _first(group: BaseExceptionGroup) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


class _Crawl:
    def __init__(self, engine: Engine, settings: Settings, run_id: int, progress: Progress) -> None:
        self.engine = engine
        self.settings = settings
        self.run_id = run_id
        self.progress = progress
        self.saver = Saver(engine, run_id, self._committed)
        self.saved = writer.saved_scopes(engine, run_id)
        self.quiet = quiet_scopes(engine, settings.crawl.empty_region_rescan_days)
        self.other_calls = 0
        """Calls that belong to no scope."""
        self._last_use: LastUse | None = None

    async def all(self) -> None:
        """Every account, the largest first."""
        settings = self.settings
        self.loop = asyncio.get_running_loop()
        self.ends = self.loop.time() + settings.crawl.run_deadline
        crew = Crew(Job(settings.aws, settings.role, settings.crawl, settings.regions))
        try:
            self.progress.door = crew.door
            identity = await _identity(crew.roles, settings.aws.region)
            hub: Access = crew.roles.own
            if settings.organization.reader_role:
                hub = await crew.roles.reader(settings.organization.reader_role)
            found = await org.discover(crew.door, hub, identity, settings.organization, settings.aws.region)
            await self._put_organization(identity, found)
            regions = org.Regions(crew.door, hub, settings.regions, settings.aws.region, found.management_account_id)
            self._last_use = LastUse(
                self.engine, self.run_id, crew.door, settings.crawl.last_use, crew.access, self._put
            )
            self._ask_last_use(sorted(self.saved))
            crawled = [account for account in found.accounts if account.crawled]
            self.progress.expect(len(crawled))
            sizes = last_sizes(self.engine, self.run_id)
            log_level, log_format = settings.log.level, settings.log.format
            with schedule(crew, len(crawled), sizes, log_level=log_level, log_format=log_format) as places:
                largest: dict[str, int] = {}
                for (account_id, _), calls in sizes.items():
                    largest[account_id] = max(calls, largest.get(account_id, 0))
                crawled.sort(key=lambda account: -largest.get(account.account_id, sys.maxsize))
                waiting = iter(crawled)

                async def worker() -> None:
                    for account in waiting:
                        await self._account(crew, places, regions, identity, account)

                async with asyncio.TaskGroup() as group:
                    for _ in range(min(max(ACCOUNTS_AT_A_TIME, places.places // 8), len(crawled))):
                        group.create_task(worker())
            await asyncio.to_thread(self.saver.drain)
            await self._last_use.finish()
        finally:
            if self._last_use is not None:
                await self._last_use.close()
            self.other_calls = self.progress.calls - self.progress.scope_calls
            crew.door.close()

    async def _put_organization(self, identity: Identity, found: org.Organization) -> None:
        writer.describe(
            self.engine,
            self.run_id,
            caller_arn=identity.arn,
            partition=identity.partition,
            organization_id=found.organization_id,
            management_account_id=found.management_account_id,
        )
        home = identity.account_id
        batch, gaps, gone = account_batch(self.engine, found, home)
        self.progress.gaps += gaps
        for left in gone:
            await self._put(Coverage(left, WHOLE_ACCOUNT, Outcome.LEFT, "the account left the organization"))
        for account in found.accounts:
            if not account.crawled:
                reason = (
                    f"state {account.state}" if account.selection == "suspended" else "left out by the configuration"
                )
                await self._put(Coverage(account.account_id, WHOLE_ACCOUNT, account.selection, reason))
        await self._put(Coverage(home, ORGANIZATION, Outcome.PARTIAL, gaps=gaps) if gaps else None, batch)

    async def _account(
        self, crew: Crew, places: Schedule, regions: org.Regions, identity: Identity, account: org.FoundAccount
    ) -> None:
        started = dt.datetime.now(dt.UTC)
        whole = Collected(Scope(account.account_id, WHOLE_ACCOUNT, identity.partition))
        whole.batch.mark_complete(Gap, account.account_id, WHOLE_ACCOUNT)
        if self.loop.time() >= self.ends:
            whole.gap(WHOLE_ACCOUNT, EVERYTHING, "", self._no_time())
            await self._account_failed(whole, Cause.DEADLINE.text, started)
            return
        access = await crew.access(account.account_id)
        try:
            await access.credentials()
        except AwsError as error:
            whole.gap(WHOLE_ACCOUNT, ASSUME_ROLE, getattr(access, "arn", ""), error)
            await self._account_failed(whole, error.cause.text, started)
            return
        try:
            found = await regions.of(account.account_id, access)
        except AwsError as error:
            whole.gap(WHOLE_ACCOUNT, org.DESCRIBE_REGIONS, "", error)
            await self._account_failed(whole, "its regions could not be listed", started)
            return
        region_batch(whole.batch, account.account_id, found)
        for region in found:
            if region.selection != "crawled":
                # What could not be learned there is not asked any more: the account's regions say so.
                whole.batch.mark_complete(Gap, account.account_id, region.region)
        await self._put(None, whole.batch)
        names = [region.region for region in found if region.selection == "crawled"]
        if crew.regionless:
            names.append(GLOBAL)
        names = [name for name in names if (account.account_id, name) not in self.saved]
        self.progress.accounts_opened += 1
        self.progress.scopes += len(names)
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(self._scope(places, Scope(account.account_id, name, identity.partition)))
        self.progress.accounts_done += 1

    async def _scope(self, places: Schedule, scope: Scope) -> None:
        left = self.ends - self.loop.time()
        quiet = self.quiet.get((scope.account_id, scope.region))
        finished: Finished | Packed
        if left > 0:
            seconds = min(left, self.settings.crawl.scope_deadline)
            finished = await places.crawl(Part(scope, seconds, quiet), self._hand_over)
        else:
            finished = unread(scope, self._no_time())
            await self._hand_over(finished)
        assert finished.coverage is not None  # noqa: S101 - a scope always has one
        if places.executor is not None:
            self.progress.calls_elsewhere += finished.coverage.calls
        self.progress.scope_calls += finished.coverage.calls
        self.progress.scopes_done += 1
        self.progress.gaps += finished.coverage.gaps

    async def _account_failed(self, whole: Collected, reason: str, started: dt.datetime) -> None:
        self.progress.gaps += whole.gaps
        self.progress.accounts_opened += 1
        self.progress.accounts_done += 1
        now = dt.datetime.now(dt.UTC)
        coverage = Coverage(
            whole.scope.account_id, WHOLE_ACCOUNT, Outcome.FAILED, reason, started, now, gaps=whole.gaps
        )
        await self._put(coverage, whole.batch)

    def _no_time(self) -> AwsError:
        seconds = self.settings.crawl.run_deadline
        return AwsError(Cause.DEADLINE, "RunDeadline", f"not reached within the {seconds} s of crawl.run_deadline")

    async def _put(self, coverage: Coverage | None, batch: Batch | None = None) -> None:
        await self._hand_over(Finished(coverage, batch if batch is not None else Batch()))

    async def _hand_over(self, finished: Finished | Packed) -> None:
        await asyncio.to_thread(self.saver.put, finished)

    def _committed(self, covered: Sequence[Coverage]) -> None:
        """Called by the saving thread."""
        crawled = [
            (one.account_id, one.region) for one in covered if one.outcome in {Outcome.COMPLETE, Outcome.PARTIAL}
        ]
        try:
            self.loop.call_soon_threadsafe(self._ask_last_use, crawled)
        except RuntimeError:
            log.debug("saved after the crawl's loop had ended: %s", crawled)

    def _ask_last_use(self, scopes: Sequence[tuple[str, str]]) -> None:
        for account_id, region in scopes:
            if self._last_use is not None and region not in {WHOLE_ACCOUNT, ORGANIZATION, GLOBAL}:
                self._last_use.saved(account_id, region)


async def _identity(roles: Roles, region: str) -> Identity:
    try:
        return await roles.identity()
    except AwsError as error:
        if error.cause is Cause.UNREACHABLE:
            raise CredentialsError(
                f"AWS STS in {region} cannot be reached ({error.message}): check aws.region, aws.endpoint_url, proxy and network"
            ) from error
        raise CredentialsError(
            f"AWS did not accept our credentials ({error.code}: {error.message}): renew them, or correct aws.profile"
        ) from error


def _close(engine: Engine, run_id: int, status: RunStatus, message: str) -> None:
    try:
        with translate_errors(engine), engine.begin() as connection:
            writer.finish(connection, run_id, status, message)
    except UserError as error:
        log.warning("the end of run %s could not be recorded: %s", run_id, error.message)


def _release(engine: Engine, run_id: int) -> None:
    try:
        with translate_errors(engine):
            crawl_lock.release(engine, run_id)
    except UserError as error:
        log.warning("the lock of run %s could not be released: %s", run_id, error.message)

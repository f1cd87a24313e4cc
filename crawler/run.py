"""One crawl on one page: discover -> collect -> save -> link."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from dataclasses import asdict, dataclass

from sqlalchemy import Engine

from crawler import organization as org
from crawler import save
from crawler.aws.door import Access, Counter, Door
from crawler.aws.errors import AwsError
from crawler.aws.roles import ASSUME_ROLE, CredentialsError, Identity, Roles
from crawler.collect import Collected, Wanted, collect
from crawler.declare import GLOBAL, Operation, Scope
from crawler.ledger import account_batch, left_accounts, region_batch
from crawler.permissions import member_actions, wanted_types
from crawler.progress import Progress
from crawler.references import link
from crawler.save import ORGANIZATION, WHOLE_ACCOUNT, Coverage, Finished, Saver
from models import lock
from models.database import connect, explained, upgrade
from models.errors import UserError
from models.history import Batch
from models.run import Cause, Gap, Outcome, RunStatus
from models.settings import Settings

ACCOUNTS_AT_A_TIME = 64
SCOPES_AT_A_TIME = 128
"""Scopes held in memory at once; the door bounds the calls."""

EVERYTHING = Operation("kmsledger", "Scope", action="*")
"""What a gap names that concerns a whole scope rather than one operation; never sent."""

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
        run_id = save.resume(engine) if resume else save.start(engine, version)
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
    with Saver(engine, run_id) as saver, progress:
        _run(_Crawl(engine, settings, run_id, progress, saver))
    saver.check()
    with explained(engine):
        link(engine, run_id)
        with engine.begin() as connection:
            totals = save.finish(connection, run_id)
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
    def __init__(self, engine: Engine, settings: Settings, run_id: int, progress: Progress, saver: Saver) -> None:
        self.engine = engine
        self.settings = settings
        self.run_id = run_id
        self.progress = progress
        self.saver = saver
        self.saved = save.saved_scopes(engine, run_id)
        self.kinds = wanted_types(settings.crawl.resource_types)
        self.places = asyncio.Semaphore(SCOPES_AT_A_TIME)

    async def all(self) -> None:
        """Every account."""
        settings = self.settings
        door = Door(settings.aws, settings.crawl)
        try:
            roles = Roles(door, settings.aws, settings.role, member_actions(self.kinds))
            identity = await _identity(roles, settings.aws.region)
            hub: Access = roles.own
            if settings.organization.reader_role:
                hub = await roles.reader(settings.organization.reader_role)
            found = await org.discover(door, hub, identity, settings.organization, settings.aws.region)
            await self._put_organization(identity, found)
            regions = org.Regions(door, hub, settings.regions, settings.aws.region, found.management_account_id)
            crawled = [account for account in found.accounts if account.crawled]
            self.progress.expect(len(crawled))
            self.progress.door = door
            waiting = iter(crawled)

            async def worker() -> None:
                for account in waiting:
                    await self._account(door, roles, regions, identity, account)
                    door.pace.forget(account.account_id)

            async with asyncio.TaskGroup() as group:
                for _ in range(min(ACCOUNTS_AT_A_TIME, len(crawled))):
                    group.create_task(worker())
        finally:
            door.close()

    async def _put_organization(self, identity: Identity, found: org.Organization) -> None:
        save.describe(
            self.engine,
            self.run_id,
            caller_arn=identity.arn,
            partition=identity.partition,
            organization_id=found.organization_id,
            management_account_id=found.management_account_id,
        )
        home = identity.account_id
        batch, gaps = account_batch(self.engine, found, home)
        self.progress.gaps += gaps
        for left in left_accounts(self.engine, found):
            await self._put(Coverage(left, WHOLE_ACCOUNT, Outcome.LEFT, "the account left the organization"))
        for account in found.accounts:
            if not account.crawled:
                reason = (
                    f"state {account.state}" if account.selection == "suspended" else "left out by the configuration"
                )
                await self._put(Coverage(account.account_id, WHOLE_ACCOUNT, account.selection, reason))
        await self._put(Coverage(home, ORGANIZATION, Outcome.PARTIAL, gaps=gaps) if gaps else None, batch)

    async def _account(
        self, door: Door, roles: Roles, regions: org.Regions, identity: Identity, account: org.FoundAccount
    ) -> None:
        started = dt.datetime.now(dt.UTC)
        access = await roles.member(account.account_id)
        whole = Collected(Scope(account.account_id, WHOLE_ACCOUNT, identity.partition))
        whole.batch.complete(Gap, account.account_id, WHOLE_ACCOUNT)
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
                whole.batch.complete(Gap, account.account_id, region.region)
        await self._put(None, whole.batch)
        names = [region.region for region in found if region.selection == "crawled"]
        if any(not kind.regional for kind in self.kinds):
            names.append(GLOBAL)
        names = [name for name in names if (account.account_id, name) not in self.saved]
        self.progress.accounts_opened += 1
        self.progress.scopes += len(names)
        wanted = Wanted(
            self.kinds, self.settings.crawl.aws_managed_key_details, regions.excludes, self.settings.aws.region
        )
        async with asyncio.TaskGroup() as group:
            for name in names:
                scope = Scope(account.account_id, name, identity.partition)
                group.create_task(self._scope(door, access, scope, wanted))
        self.progress.accounts_done += 1

    async def _scope(self, door: Door, access: Access, scope: Scope, wanted: Wanted) -> None:
        async with self.places:
            started = dt.datetime.now(dt.UTC)
            deadline = self.settings.crawl.scope_deadline
            counter = Counter()
            try:
                async with asyncio.timeout(deadline):
                    collected = await collect(door, access, scope, wanted, counter)
            except TimeoutError:
                collected = _out_of_time(scope, deadline)
            failed = collected.timed_out
            outcome = Outcome.FAILED if failed else Outcome.PARTIAL if collected.gaps else Outcome.COMPLETE
            coverage = Coverage(
                scope.account_id,
                scope.region,
                outcome,
                Cause.DEADLINE.text if failed else None,
                started,
                dt.datetime.now(dt.UTC),
                counter.calls,
                counter.retries,
                collected.gaps,
            )
            await self._put(coverage, collected.batch)
            self.progress.scopes_done += 1
            self.progress.gaps += collected.gaps

    async def _account_failed(self, whole: Collected, reason: str, started: dt.datetime) -> None:
        self.progress.gaps += whole.gaps
        self.progress.accounts_opened += 1
        self.progress.accounts_done += 1
        now = dt.datetime.now(dt.UTC)
        coverage = Coverage(
            whole.scope.account_id, WHOLE_ACCOUNT, Outcome.FAILED, reason, started, now, gaps=whole.gaps
        )
        await self._put(coverage, whole.batch)

    async def _put(self, coverage: Coverage | None, batch: Batch | None = None) -> None:
        finished = Finished(coverage, batch if batch is not None else Batch())
        await asyncio.to_thread(self.saver.put, finished)


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


def _out_of_time(scope: Scope, deadline: float) -> Collected:
    """A scope that was not finished in time tells nothing but that: half of a listing proves no absence."""
    collected = Collected(scope)
    collected.timed_out = True
    error = AwsError(Cause.DEADLINE, "Deadline", f"not finished within {deadline:.0f} s")
    collected.gap(scope.region, EVERYTHING, "", error)
    return collected


def _close(engine: Engine, run_id: int, status: RunStatus, message: str) -> None:
    try:
        with explained(engine), engine.begin() as connection:
            save.finish(connection, run_id, status, message)
    except UserError as error:
        log.warning("the end of run %s could not be recorded: %s", run_id, error.message)


def _release(engine: Engine, run_id: int) -> None:
    try:
        with explained(engine):
            lock.release(engine, run_id)
    except UserError as error:
        log.warning("the lock of run %s could not be released: %s", run_id, error.message)

"""Runs a crawl: discover accounts, collect scopes, save facts, resolve key references."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import Counter
from collections.abc import Sequence

from sqlalchemy import Engine, select

from crawler import discovery as org
from crawler import writer
from crawler.account_facts import account_batch, region_batch
from crawler.aws.credentials import ASSUME_ROLE, CredentialsError, Identity, Roles
from crawler.aws.errors import FIXES, AwsError, RequiredCallError
from crawler.collector import Collected, for_each, run_all
from crawler.empty_regions import find_empty_regions
from crawler.key_references import resolve_references
from crawler.progress import Progress
from crawler.scheduler import create_scheduler, last_calls
from crawler.selection import (
    EVERYTHING,
    Carried,
    Selection,
    SelectionError,
    carried,
    check_accounts,
    check_regions,
    other_regions,
    selection_of,
)
from crawler.services.key_last_usage import LastUsePoller
from crawler.spec import GLOBAL, WHOLE_SCOPE, Scope
from crawler.worker import ScopeTask, Worker, WorkerConfig, failed_scope, relaxed_gc
from crawler.writer import ORGANIZATION, WHOLE_ACCOUNT, Coverage, CrawlResult, Finished, Packed, ScopeWriter
from models import console
from models.aws_error_codes import DENIED_CODES
from models.call_counters import merge
from models.errors import UserError
from models.settings import Settings
from models.store import crawl_lock
from models.store.engine import opened, translate_errors, upgrade
from models.store.scd2_merge import Batch
from models.tables.runs import Cause, Gap, Outcome, RunStatus, ScopeCoverage

CONCURRENT_ACCOUNTS = 64
"""Minimum number of accounts crawled concurrently; the scheduler limits the scopes, the client the calls."""

log = logging.getLogger(__name__)


def crawl(
    settings: Settings,
    version: str,
    progress: Progress,
    *,
    resume: bool = False,
    selection: Selection = EVERYTHING,
    keep_lock: bool = False,
) -> CrawlResult:
    """Crawl the organization, or the selected accounts and regions, into the database. Saved scopes are kept whatever happens.

    With ``resume``, finish the last run: only its missing scopes are crawled, and nothing if its crawl has ended. A run that was
    limited to a selection stays limited to it. With ``keep_lock``, the crawl lock is still held when this returns, for the
    caller's :func:`models.store.crawl_lock.kept`.
    """
    with opened(settings.database) as engine:
        upgrade(engine)
        if resume and (result := writer.ended(engine, lock=keep_lock)) is not None:
            console.set_run(result.run_id)
            return result
        run_id = writer.resume(engine) if resume else writer.start(engine, version, **selection.columns())
        console.set_run(run_id)
        done = discarded = False
        try:
            result = _crawl(engine, settings, run_id, progress)
            done = True
        except SelectionError:
            discarded = not resume
            raise
        except UserError as error:
            _close(engine, run_id, RunStatus.FAILED, error.message)
            raise
        except Exception as error:
            # Any bug: it must not leave a run with status "running". The error is raised again.
            _close(engine, run_id, RunStatus.FAILED, f"{type(error).__name__}: {error}")
            raise
        except (KeyboardInterrupt, asyncio.CancelledError):
            _close(engine, run_id, RunStatus.INTERRUPTED, "interrupted")
            raise
        finally:
            if not (done and keep_lock):
                _release(engine, run_id)
            if discarded:
                writer.discard(engine, run_id)
        return result


def unread_accounts(settings: Settings, run_id: int) -> str | None:
    """A sentence about the accounts that a run could not enter: how many, why, what to do. None if it entered all of them."""
    scope, gap = ScopeCoverage.__table__, Gap.__table__
    same = (gap.c.account_id == scope.c.account_id) & (gap.c.region == scope.c.region) & gap.c.valid_to.is_(None)
    query = select(scope.c.account_id, scope.c.region, scope.c.reason, gap.c.cause, gap.c.code).join_from(
        scope, gap, same & (scope.c.region == WHOLE_ACCOUNT), isouter=True
    )
    in_scope = scope.c.outcome.in_((str(Outcome.COMPLETE), str(Outcome.PARTIAL), str(Outcome.FAILED)))
    with opened(settings.database) as engine, translate_errors(engine), engine.connect() as connection:
        of_run = (scope.c.run_id == run_id) & scope.c.read_run_id.is_(None)
        rows = connection.execute(query.where(of_run, in_scope)).all()
    unread = {row.account_id: row for row in rows if row.region == WHOLE_ACCOUNT}
    if not unread:
        return None
    texts: dict[str, str] = {str(cause): cause.text for cause in Cause}
    causes = Counter(texts.get(row.cause, row.reason) for row in unread.values()).most_common()
    total = len({row.account_id for row in rows})
    listed = "; ".join(f"{count}: {cause}" if len(causes) > 1 else cause for cause, count in causes)
    named = listed.replace("the role", f"the role {settings.role.name}")
    command = "denials" if any(row.code in DENIED_CODES for row in unread.values()) else "coverage"
    return f"{len(unread)} of {total} accounts could not be entered ({named}): see `kmsledger {command}`"


def _crawl(engine: Engine, settings: Settings, run_id: int, progress: Progress) -> CrawlResult:
    session = _Crawl(engine, settings, run_id, progress)
    with relaxed_gc(), session.scope_writer, progress:
        try:
            asyncio.run(session.run())
        except BaseExceptionGroup as group:
            # Report the first cause instead of a group of failed tasks.
            error: BaseException = group
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            raise error from group
    session.scope_writer.check()
    with translate_errors(engine):
        resolve_references(engine, run_id)
        with engine.begin() as connection:
            return writer.finish(connection, run_id, other_calls=session.other_calls)


class _Crawl:
    def __init__(self, engine: Engine, settings: Settings, run_id: int, progress: Progress) -> None:
        self.engine = engine
        self.settings = settings
        self.run_id = run_id
        self.progress = progress
        self.scope_writer = ScopeWriter(engine, run_id, self._committed)
        self.selection = selection_of(engine, run_id)
        self.carried: Carried = {}
        """The latest coverage of the selected accounts, if the run is limited."""
        self.saved_scopes = writer.saved_scopes(engine, run_id)
        self.empty_regions = find_empty_regions(engine, settings.crawl.empty_region_rescan_days)
        self.other_calls = 0
        """Calls outside any scope."""
        self._last_use: LastUsePoller | None = None

    async def run(self) -> None:
        """Crawl every account, the largest first."""
        settings = self.settings
        self.loop = asyncio.get_running_loop()
        self.deadline = self.loop.time() + settings.crawl.run_deadline
        self.worker = worker = Worker(WorkerConfig(settings.aws, settings.role, settings.crawl, settings.regions))
        try:
            self.progress.client = worker.client
            self.identity = await identify(worker.roles, settings.aws.region)
            organization, self.regions = await org.read_organization(
                worker.client, worker.roles, self.identity, settings
            )
            crawled = [
                account
                for account in organization.accounts
                if account.crawled and self.selection.has_account(account.account_id)
            ]
            if self.selection:
                await self._limit(organization, crawled)
            await self._enqueue_organization(organization)
            self._last_use = LastUsePoller(
                self.engine, self.run_id, worker.client, settings.crawl.last_use, worker.provider, self._enqueue
            )
            self._poll_last_use(sorted(self.saved_scopes))
            self.progress.accounts = len(crawled)
            calls_by_scope = last_calls(self.engine, self.run_id)
            with create_scheduler(worker, len(crawled), calls_by_scope, log_level=settings.log.level) as self.scheduler:
                largest: dict[str, int] = {}
                for (account_id, _), calls in calls_by_scope.items():
                    largest[account_id] = max(calls, largest.get(account_id, 0))
                crawled.sort(key=lambda account: -largest.get(account.account_id, sys.maxsize))
                await for_each(crawled, self._crawl_account, max(CONCURRENT_ACCOUNTS, self.scheduler.capacity // 8))
            self.progress.waiting_for = lambda: "waiting until everything is saved"
            await asyncio.to_thread(self.scope_writer.drain)
            self.progress.waiting_for = self._last_use.describe
            await self._last_use.finish(self.deadline - self.loop.time())
        finally:
            if self._last_use is not None:
                await self._last_use.close()
            self.other_calls = self.progress.calls - self.progress.scope_calls
            merge(self.progress.operations, worker.client.take_operations())
            worker.client.close()

    async def _limit(self, organization: org.Organization, crawled: Sequence[org.FoundAccount]) -> None:
        """Check the selection, and carry the coverage of everything else. Raises SelectionError before anything is written."""
        check_accounts(self.selection, organization)
        await check_regions(self.selection, self.worker, self.regions, crawled)
        rows, self.carried = carried(self.engine, self.run_id, self.selection, organization.accounts)
        writer.carry(self.engine, self.run_id, rows)

    async def _enqueue_organization(self, organization: org.Organization) -> None:
        identity = self.identity
        writer.describe(
            self.engine,
            self.run_id,
            caller_arn=identity.arn,
            partition=identity.partition,
            organization_id=organization.organization_id,
            management_account_id=organization.management_account_id,
        )
        home = identity.account_id
        batch, gaps, left = account_batch(self.engine, organization, home, self.selection.accounts)
        if self.selection.accounts:
            await self._enqueue(None, batch)
            return
        self.progress.gaps += gaps
        for account_id in left:
            await self._enqueue(Coverage(account_id, WHOLE_ACCOUNT, Outcome.LEFT, "the account left the organization"))
        for account in organization.accounts:
            if not account.crawled:
                reason = (
                    f"state {account.state}" if account.selection == "suspended" else "excluded by the configuration"
                )
                await self._enqueue(Coverage(account.account_id, WHOLE_ACCOUNT, account.selection, reason))
        await self._enqueue(Coverage(home, ORGANIZATION, Outcome.PARTIAL, gaps=gaps) if gaps else None, batch)

    async def _crawl_account(self, account: org.FoundAccount) -> None:
        account_id, partition = account.account_id, self.identity.partition
        collected = Collected(Scope(account_id, WHOLE_ACCOUNT, partition))
        collected.batch.mark_complete(Gap, account_id, WHOLE_ACCOUNT)
        operation, subject, reason = WHOLE_SCOPE, "", ""
        try:
            if self.loop.time() >= self.deadline:
                raise self._deadline_error()
            provider = await self.worker.provider(account_id)
            operation, subject = ASSUME_ROLE, getattr(provider, "arn", "")
            await provider.credentials()
            operation, subject, reason = org.DESCRIBE_REGIONS, "", "its regions could not be listed"
            account_regions = await self.regions.of(account_id, provider)
        except AwsError as error:
            collected.gap(WHOLE_ACCOUNT, operation, subject, error)
            await self._account_failed(collected, reason or error.cause.text)
            return
        region_batch(collected.batch, account_id, account_regions)
        for region in account_regions:
            if region.selection != "crawled":
                # Close the gaps of a region that is no longer crawled.
                collected.batch.mark_complete(Gap, account_id, region.region)
        await self._enqueue(None, collected.batch)
        names = [region.region for region in account_regions if region.selection == "crawled"]
        if self.worker.has_global_scope:
            names.append(GLOBAL)
        if self.selection.regions:
            known = self.carried.get(account_id, {})
            for row in other_regions(self.selection, account_id, known, names):
                await self._enqueue(row)
        scopes = [
            Scope(account_id, name, partition)
            for name in names
            if (account_id, name) not in self.saved_scopes and self.selection.has_region(name)
        ]
        self.progress.accounts_opened += 1
        self.progress.scopes += len(scopes)
        await run_all([self._crawl_scope(scope) for scope in scopes])
        self.progress.accounts_done += 1

    async def _crawl_scope(self, scope: Scope) -> None:
        remaining = self.deadline - self.loop.time()
        empty_reason = self.empty_regions.get((scope.account_id, scope.region))
        finished: Finished | Packed
        if remaining > 0:
            seconds = min(remaining, self.settings.crawl.scope_deadline)
            finished = await self.scheduler.crawl(ScopeTask(scope, seconds, empty_reason), self._enqueue_finished)
        else:
            finished = failed_scope(scope, self._deadline_error())
            await self._enqueue_finished(finished)
        assert finished.coverage is not None  # noqa: S101 - a crawled scope always has coverage
        if self.scheduler.executor is not None:
            self.progress.remote_calls += finished.coverage.calls
        if isinstance(finished, Packed):
            merge(self.progress.operations, finished.operations)
        self.progress.scope_calls += finished.coverage.calls
        self.progress.scopes_done += 1
        self.progress.gaps += finished.coverage.gaps

    async def _account_failed(self, collected: Collected, reason: str) -> None:
        self.progress.gaps += collected.gaps
        self.progress.accounts_opened += 1
        self.progress.accounts_done += 1
        account_id = collected.scope.account_id
        if self.selection.regions:
            for row in other_regions(self.selection, account_id, self.carried.get(account_id, {}), ()):
                await self._enqueue(row)
        await self._enqueue_finished(collected.finish(Outcome.FAILED, reason))

    def _deadline_error(self) -> AwsError:
        seconds = self.settings.crawl.run_deadline
        return AwsError(Cause.DEADLINE, "RunDeadline", f"not started within {seconds} s (crawl.run_deadline)")

    async def _enqueue(self, coverage: Coverage | None, batch: Batch | None = None) -> None:
        await self._enqueue_finished(Finished(coverage, batch if batch is not None else Batch()))

    async def _enqueue_finished(self, finished: Finished | Packed) -> None:
        await asyncio.to_thread(self.scope_writer.put, finished)

    def _committed(self, coverage: Sequence[Coverage]) -> None:
        """Schedule the last-use polling of saved scopes; called by the writer thread."""
        crawled = [
            (scope.account_id, scope.region)
            for scope in coverage
            if scope.outcome in {Outcome.COMPLETE, Outcome.PARTIAL} and scope.read_run_id is None
        ]
        try:
            self.loop.call_soon_threadsafe(self._poll_last_use, crawled)
        except RuntimeError:
            log.debug("saved after the event loop of the crawl was closed: %s", crawled)

    def _poll_last_use(self, scopes: Sequence[tuple[str, str]]) -> None:
        for account_id, region in scopes:
            if self._last_use is not None and region not in {WHOLE_ACCOUNT, ORGANIZATION, GLOBAL}:
                self._last_use.enqueue(account_id, region)


async def identify(roles: Roles, region: str) -> Identity:
    """Return the identity of the base credentials; raises a UserError with the fix if AWS does not accept them."""
    try:
        return await roles.identity()
    except AwsError as error:
        if error.cause in FIXES:
            raise RequiredCallError(f"AWS STS in {region} did not return the crawler's identity", error) from error
        if error.cause is Cause.REGION_DISABLED:
            raise CredentialsError(f"{error.cause.text} ({error.code}: {error.message}): correct aws.region") from error
        raise CredentialsError(
            f"AWS rejected the credentials ({error.code}: {error.message}): renew them, or correct aws.profile"
        ) from error


def _close(engine: Engine, run_id: int, status: RunStatus, message: str) -> None:
    try:
        with translate_errors(engine), engine.begin() as connection:
            writer.finish(connection, run_id, status, message)
    except UserError as error:
        log.warning("the status of run %s could not be saved: %s", run_id, error.message)


def _release(engine: Engine, run_id: int) -> None:
    try:
        with translate_errors(engine):
            crawl_lock.release(engine, run_id)
    except UserError as error:
        log.warning("the lock of run %s could not be released: %s", run_id, error.message)

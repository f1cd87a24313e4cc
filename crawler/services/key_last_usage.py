"""Polls when keys were last used (kms:GetKeyLastUsage), in the background of a crawl.

AWS allows five of these calls per second in an account-region, for all callers together, but hundreds of most others. Each
account-region is therefore polled separately once its keys are saved: a few hundred keys per run, never polled keys first, then
those polled longest ago. Results are saved in batches and each poll is recorded in the ledger, so that a resumed run and the
next run continue where this one stopped.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine

from crawler.aws.client import AwsClient, CredentialProvider, parameters
from crawler.aws.errors import AwsError
from crawler.aws.response_validation import invalid_response, require
from crawler.spec import Operation, Scope, Subject
from crawler.writer import Coverage
from models.settings.crawl import LastUseSettings
from models.store.engine import translate_errors
from models.store.last_use_queue import DueKey, LastUsePoll, count_polled, next_due
from models.store.scd2_merge import Batch
from models.tables.keys import KeyLastUse, KeyLastUseGap
from models.tables.runs import Cause

GET_KEY_LAST_USAGE = Operation("kms", "GetKeyLastUsage", {"KeyId": "@key_arn"}, requires=("TrackingStartDate",))

MAX_WORKERS = 500
"""Account-regions polled concurrently; at a quarter of the quota they make about 600 calls per second."""
PAGE_SIZE = 100
"""Keys that a worker reads at a time."""
BATCH_KEYS = 25
BATCH_SECONDS = 30.0
"""A batch is saved after this many keys or seconds; a resumed run repeats at most one batch per worker."""
SCHEDULE_TOLERANCE = dt.timedelta(hours=12)
"""Runs do not start at the same minute: a key that is due within half a day is polled."""

SCOPE_CAUSES = frozenset(
    {
        Cause.ACCOUNT_SUSPENDED,
        Cause.ASSUME_ROLE_PERMISSION,
        Cause.CREDENTIALS,
        Cause.EXPIRED,
        Cause.EXTERNAL_ID,
        Cause.REGION_DISABLED,
        Cause.ROLE_MISSING_OR_UNTRUSTED,
        Cause.TRUST,
        Cause.UNREACHABLE,
    }
)
"""Errors that do not depend on the key: polling of the scope stops, and the key stays first in the queue."""
RUN_CAUSES = frozenset({Cause.DEADLINE, Cause.SERVICE_ERROR, Cause.UNSUPPORTED})
"""Errors that stop polling of the scope in this run; the next run starts with another key."""
KEY_CODES = frozenset({"UnsupportedOperationException"})
"""Error codes that KMS returns for a single key, whatever they mean for other services."""

T = TypeVar("T")

log = logging.getLogger(__name__)


class LastUsePoller:
    """Polls the last use of keys during one crawl. Belongs to the event loop; ``put`` enqueues a batch for saving."""

    def __init__(  # noqa: PLR0917 - the collaborators of a crawl
        self,
        engine: Engine,
        run_id: int,
        client: AwsClient,
        settings: LastUseSettings,
        provider: Callable[[str], Awaitable[CredentialProvider]],
        put: Callable[[Coverage | None, Batch], Awaitable[None]],
    ) -> None:
        self._engine = engine
        self._run_id = run_id
        self._client = client
        self._settings = settings
        self._provider = provider
        self._put = put
        self._open = settings.enabled
        self._waiting: deque[Scope] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        # Separate threads: the crawl enqueues its batches through the default executor.
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="last-use")
        self._error: BaseException | None = None
        self.succeeded = 0
        """Keys whose last use AWS returned."""
        self.failed = 0
        """Keys for which the call failed."""

    def enqueue(self, account_id: str, region: str) -> None:
        """Schedule the polling of an account-region whose keys are committed. Returns immediately."""
        if self._open:
            self._waiting.append(Scope(account_id, region))
            self._start()

    def describe(self) -> str:
        """Return what the crawl waits for at its end, as a clause: how much was polled, how much remains."""
        remaining = len(self._workers) + len(self._waiting)
        places = f"{remaining} account-region{'' if remaining == 1 else 's'}"
        limit = f"at most {self._settings.max_minutes} minutes (crawl.last_use.max_minutes)"
        return f"waiting for the last use of keys: {self.succeeded + self.failed} polled, {places} left, {limit}"

    async def finish(self, remaining: float = math.inf) -> None:
        """Wait for the workers, at most ``max_minutes`` and until the run's deadline; the next run polls the remaining keys.

        Raises the first error of a worker that did not come from AWS.
        """
        try:
            async with asyncio.timeout(max(0.0, min(self._settings.max_minutes * 60, remaining))):
                while self._workers:
                    await asyncio.wait(self._workers)
        except TimeoutError:
            remaining = len(self._workers) + len(self._waiting)
            log.info("last-use polling deferred to the next run for %s scopes (crawl.last_use.max_minutes)", remaining)
        finally:
            await self.close()
        if self.succeeded or self.failed:
            log.info("last-use polling: %s keys succeeded, %s failed", self.succeeded, self.failed)
        if self._error is not None:
            raise self._error

    async def close(self) -> None:
        """Cancel all workers; each saves its results."""
        self._open = False
        self._waiting.clear()
        for worker in self._workers:
            worker.cancel()
        if self._workers:
            await asyncio.wait(self._workers)
        self._readers.shutdown(wait=False, cancel_futures=True)

    def _start(self) -> None:
        if len(self._workers) < MAX_WORKERS:
            worker = asyncio.get_running_loop().create_task(self._worker(), name="last use")
            self._workers.add(worker)
            worker.add_done_callback(self._on_worker_done)

    def _on_worker_done(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        error = None if worker.cancelled() else worker.exception()
        if error is not None:
            self._error = self._error or error
            self._open = False
            self._waiting.clear()
        if self._waiting:
            self._start()

    async def _worker(self) -> None:
        while self._waiting:
            await self._poll_scope(self._waiting.popleft())

    async def _poll_scope(self, scope: Scope) -> None:
        """Poll the due keys of an account-region, up to the limit per run."""
        before = dt.datetime.now(dt.UTC) - dt.timedelta(days=self._settings.interval_days) + SCHEDULE_TOLERANCE
        account_id, region = scope.account_id, scope.region
        count = partial(count_polled, run_id=self._run_id, account_id=account_id, region=region)
        remaining = self._settings.max_keys_per_run - await self._read(count)
        last: DueKey | None = None
        batch, since, polled = Batch(), _now(), 0
        try:
            while remaining > 0:
                limit = min(PAGE_SIZE, remaining)
                query = partial(next_due, account_id=account_id, region=region, before=before, after=last, limit=limit)
                keys = await self._read(query)
                for key in keys:
                    proceed = await self._poll(scope, key.key_arn, batch)
                    polled += 1
                    if not proceed:
                        return
                    if polled >= BATCH_KEYS or _now() - since >= BATCH_SECONDS:
                        full, batch, since, polled = batch, Batch(), _now(), 0
                        await self._put(None, full)
                if len(keys) < limit:
                    return
                remaining -= len(keys)
                last = keys[-1]
        finally:
            if batch.rows:
                await self._put(None, batch)

    async def _poll(self, scope: Scope, key_arn: str, batch: Batch) -> bool:
        """Poll one key and return whether to continue with the next."""
        try:
            provider = await self._provider(scope.account_id)
            await provider.credentials()
        except AwsError as error:
            return self._record_failure(key_arn, error, batch)
        poll = LastUsePoll(key_arn, scope.account_id, scope.region, dt.datetime.now(dt.UTC))
        subject = Subject(scope, scope.region, key_arn, {"key_arn": key_arn})
        try:
            response = await self._client.call(
                provider, GET_KEY_LAST_USAGE, scope.region, parameters(GET_KEY_LAST_USAGE, subject)
            )
            row = _parse(key_arn, response)
        except AwsError as error:
            if error.cause is Cause.THROTTLED or error.cause in SCOPE_CAUSES:
                return self._record_failure(key_arn, error, batch)
            self._record_failure(key_arn, error, batch)
            batch.last_use_polls.append(poll)
            return error.code in KEY_CODES or error.cause not in RUN_CAUSES
        batch.add(KeyLastUse, key_arn=key_arn, **row)
        batch.mark_complete(KeyLastUseGap, key_arn)
        batch.last_use_polls.append(poll)
        self.succeeded += 1
        return True

    def _record_failure(self, key_arn: str, error: AwsError, batch: Batch) -> bool:
        """Record an error as a gap, except throttling, which only ends the polling. Always returns false."""
        if error.cause is not Cause.THROTTLED:
            self.failed += 1
            batch.add(
                KeyLastUseGap,
                key_arn=key_arn,
                action=GET_KEY_LAST_USAGE.iam_action,
                cause=str(error.cause),
                code=error.code,
                message=error.message,
            )
        return False

    async def _read(self, query: Callable[[Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._run_query, query)

    def _run_query(self, query: Callable[[Connection], T]) -> T:
        with translate_errors(self._engine), self._engine.connect() as connection:
            return query(connection)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _parse(key_arn: str, response: Mapping[str, Any]) -> dict[str, Any]:
    """Return a response as values of :class:`models.tables.keys.KeyLastUse`; raises :class:`AwsError` if it is invalid."""
    require(GET_KEY_LAST_USAGE, response)
    if response.get("KeyId", key_arn) not in {key_arn, key_arn.rpartition("/")[2]}:
        raise invalid_response(GET_KEY_LAST_USAGE, f"KeyId is {response['KeyId']!r}")
    if "KeyLastUsage" not in response:
        # A key without a use has an empty one.
        raise invalid_response(GET_KEY_LAST_USAGE, "it has no KeyLastUsage")
    usage = response["KeyLastUsage"]
    return {
        "operation": usage.get("Operation"),
        "used_at": usage.get("Timestamp"),
        "cloudtrail_event_id": usage.get("CloudTrailEventId"),
        "tracking_started_at": response["TrackingStartDate"],
        "key_created_at": response.get("KeyCreationDate"),
    }

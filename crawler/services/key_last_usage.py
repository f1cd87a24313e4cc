"""When keys were last used (kms:GetKeyLastUsage): asked beside everything else, and never in its way.

AWS answers five such questions a second in an account and region, to everybody together, where it answers hundreds of any
other. So each account and region has a lane of its own, which starts when its keys are saved: a few hundred keys a night,
those never asked first, then those asked longest ago. What a lane has learned is saved in slices, and each key's turn is kept
in the ledger: a run that is killed, and the next night, go on where this one was.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine

from crawler.aws.client import Access, Door, parameters
from crawler.aws.errors import AwsError
from crawler.spec import Operation, Scope, Subject
from crawler.writer import Coverage
from models.settings.crawl import LastUseSettings
from models.store.engine import translate_errors
from models.store.last_use_queue import DueKey, LastUsePoll, count_polled, next_due
from models.store.scd2_merge import Batch
from models.tables.keys import KeyLastUse, KeyLastUseGap
from models.tables.runs import Cause

GET_KEY_LAST_USAGE = Operation("kms", "GetKeyLastUsage", {"KeyId": "@key_arn"})

LANES = 500
"""Accounts and regions that are asked at a time; at a quarter of the quota they come to some 600 calls a second."""
PORTION = 100
"""Keys of a lane in memory."""
SLICE = 25
SLICE_SECONDS = 30.0
"""What a lane has learned is saved after so many keys or so long; that much is asked again when a run is killed."""
DRIFT = dt.timedelta(hours=12)
"""Nights do not begin to the minute: a key that is due within half a day is due."""

OF_THE_SCOPE = frozenset(
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
"""Refusals that have nothing to do with the key: it keeps its turn, and nobody else is asked there tonight."""
OF_THE_NIGHT = frozenset({Cause.DEADLINE, Cause.SERVICE_ERROR, Cause.UNSUPPORTED})
"""Refusals after which nobody else is asked there tonight; but another key has the first turn next time."""
OF_THE_KEY = frozenset({"UnsupportedOperationException"})
"""Codes with which KMS refuses one key, whatever else they mean elsewhere."""

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Slice:
    """What a lane has learned since it saved."""

    since: float
    batch: Batch = field(default_factory=Batch)
    keys: int = 0


class LastUse:
    """The lanes of one crawl. Belongs to the event loop; ``put`` hands a batch over for saving, ``access`` is cheap."""

    def __init__(  # noqa: PLR0917 - what a crawl has at hand
        self,
        engine: Engine,
        run_id: int,
        door: Door,
        settings: LastUseSettings,
        access: Callable[[str], Awaitable[Access]],
        put: Callable[[Coverage | None, Batch], Awaitable[None]],
    ) -> None:
        self._engine = engine
        self._run_id = run_id
        self._door = door
        self._settings = settings
        self._access = access
        self._put = put
        self._open = settings.enabled
        self._waiting: deque[Scope] = deque()
        self._lanes: set[asyncio.Task[None]] = set()
        # Threads of its own: the crawl hands over what it saves through the default ones.
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="last-use")
        self._error: BaseException | None = None
        self.answered = 0
        """Keys of which AWS told when they were last used, or that they were not."""
        self.refused = 0
        """Keys of which it did not."""

    def saved(self, account_id: str, region: str) -> None:
        """The keys of an account and region are committed: ask those that are due. Returns at once."""
        if self._open:
            self._waiting.append(Scope(account_id, region))
            self._start()

    async def finish(self) -> None:
        """Wait until all lanes are done, ``minutes`` at most; what is left goes on the next night.

        Raises what went wrong in a lane, other than AWS's refusals.
        """
        try:
            async with asyncio.timeout(self._settings.max_minutes * 60):
                while self._lanes:
                    await asyncio.wait(self._lanes)
        except TimeoutError:
            left = len(self._lanes) + len(self._waiting)
            log.info("last use: %s accounts and regions go on the next night (crawl.last_use.max_minutes)", left)
        finally:
            await self.close()
        if self.answered or self.refused:
            log.info("last use: %s keys answered, %s refused", self.answered, self.refused)
        if self._error is not None:
            raise self._error

    async def close(self) -> None:
        """End all lanes now; each saves what it has learned."""
        self._open = False
        self._waiting.clear()
        for lane in self._lanes:
            lane.cancel()
        if self._lanes:
            await asyncio.wait(self._lanes)
        self._readers.shutdown(wait=False, cancel_futures=True)

    def _start(self) -> None:
        if len(self._lanes) < LANES:
            lane = asyncio.get_running_loop().create_task(self._lane(), name="last use")
            self._lanes.add(lane)
            lane.add_done_callback(self._ended)

    def _ended(self, lane: asyncio.Task[None]) -> None:
        self._lanes.discard(lane)
        error = None if lane.cancelled() else lane.exception()
        if error is not None:
            self._error = self._error or error
            self._open = False
            self._waiting.clear()
        if self._waiting:
            self._start()

    async def _lane(self) -> None:
        while self._waiting:
            await self._scope(self._waiting.popleft())

    async def _scope(self, scope: Scope) -> None:
        """Ask the keys of one account and region that are due, as many as a night allows."""
        before = dt.datetime.now(dt.UTC) - dt.timedelta(days=self._settings.interval_days) + DRIFT
        account_id, region = scope.account_id, scope.region
        asked = partial(count_polled, run_id=self._run_id, account_id=account_id, region=region)
        left = self._settings.max_keys_per_run - await self._read(asked)
        last: DueKey | None = None
        learned = _Slice(_now())
        try:
            while left > 0:
                limit = min(PORTION, left)
                following = partial(
                    next_due, account_id=account_id, region=region, before=before, after=last, limit=limit
                )
                keys = await self._read(following)
                for key in keys:
                    goes_on = await self._ask(scope, key.key_arn, learned.batch)
                    learned.keys += 1
                    if not goes_on:
                        return
                    if learned.keys >= SLICE or _now() - learned.since >= SLICE_SECONDS:
                        full, learned = learned, _Slice(_now())
                        await self._put(None, full.batch)
                if len(keys) < limit:
                    return
                left -= len(keys)
                last = keys[-1]
        finally:
            if learned.batch.rows:
                await self._put(None, learned.batch)

    async def _ask(self, scope: Scope, key_arn: str, batch: Batch) -> bool:
        """Ask one key; whether the next one is to be asked."""
        try:
            access = await self._access(scope.account_id)
            await access.credentials()
        except AwsError as error:
            return self._refuse(key_arn, error, batch)
        asked = LastUsePoll(key_arn, scope.account_id, scope.region, dt.datetime.now(dt.UTC))
        subject = Subject(scope, scope.region, key_arn, {"key_arn": key_arn})
        try:
            answer = await self._door.call(
                access, GET_KEY_LAST_USAGE, scope.region, parameters(GET_KEY_LAST_USAGE, subject)
            )
            row = _told(answer)
        except AwsError as error:
            if error.cause is Cause.THROTTLED or error.cause in OF_THE_SCOPE:
                return self._refuse(key_arn, error, batch)
            self._refuse(key_arn, error, batch)
            batch.last_use_polls.append(asked)
            return error.code in OF_THE_KEY or error.cause not in OF_THE_NIGHT
        batch.add(KeyLastUse, key_arn=key_arn, **row)
        batch.mark_complete(KeyLastUseGap, key_arn)
        batch.last_use_polls.append(asked)
        self.answered += 1
        return True

    def _refuse(self, key_arn: str, error: AwsError, batch: Batch) -> bool:
        """Record a refusal; being throttled is none, only the end of this night. Always false."""
        if error.cause is not Cause.THROTTLED:
            self.refused += 1
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
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._queried, query)

    def _queried(self, query: Callable[[Connection], T]) -> T:
        with translate_errors(self._engine), self._engine.connect() as connection:
            return query(connection)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _told(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What AWS answered, as values of :class:`models.tables.keys.KeyLastUse`; raises :class:`AwsError` when it makes no sense."""
    usage = answer.get("KeyLastUsage") or {}
    tracking, created = answer.get("TrackingStartDate"), answer.get("KeyCreationDate")
    used = usage.get("Timestamp") if isinstance(usage, Mapping) else usage
    if any(time is not None and not isinstance(time, dt.datetime) for time in (used, tracking, created)):
        said = f"an answer of {GET_KEY_LAST_USAGE} is not as the API's model says"
        raise AwsError(Cause.INVALID_RESPONSE, "MalformedItem", said)
    return {
        "operation": usage.get("Operation"),
        "used_at": used,
        "cloudtrail_event_id": usage.get("CloudTrailEventId"),
        "tracking_started_at": tracking,
        "key_created_at": created,
    }

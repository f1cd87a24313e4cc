"""The one way to call AWS: declared operations only, retries with full jitter, paging by token, counted."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from crawler.aws.errors import AwsError
from crawler.aws.rate_limit import Bucket, Pace
from crawler.aws.semaphore import Slots
from crawler.aws.transport_boto3 import Credentials, Transport
from crawler.spec import Operation, Subject
from models.settings import AwsSettings
from models.settings.crawl import CrawlSettings
from models.tables.runs import Cause

BASE_DELAY = 0.2
"""Seconds; the n-th retry waits a random time up to BASE_DELAY * 2**n, at most MAXIMUM_DELAY."""
MAXIMUM_DELAY = 20.0
RENEWALS = 5
"""New sessions that one call may need at once; further ones wait like any other try."""
FREE_RETRIES = 100
"""Retries that an account has whatever it asks; further ones are a share of its calls (crawl.retry_budget_percent)."""
PAGE_LIMIT = 100_000
"""Pages after which a listing is taken to be going round in circles."""

log = logging.getLogger(__name__)


class Access(Protocol):
    """The right to call as somebody: gives credentials, and renews them."""

    account_id: str

    async def credentials(self) -> Credentials:
        """Credentials that are good for at least some minutes."""

    async def renew(self, expired: Credentials) -> Credentials:
        """New credentials in place of ones that AWS says have expired."""


@dataclass(slots=True)
class Counter:
    """Calls and retries, as far as somebody asked to have them counted together."""

    calls: int = 0
    retries: int = 0


class Door:
    """Calls AWS. One a process."""

    def __init__(self, aws: AwsSettings, crawl: CrawlSettings, transport: Transport | None = None) -> None:
        self._attempts = crawl.max_attempts
        self._deadline = float(crawl.call_deadline)
        self._retry_share = crawl.retry_budget_percent / 100
        self._spent: dict[str, Counter] = {}
        """Calls and retries of each account."""
        self._flight = Slots(crawl.concurrency)
        self._pace = Pace(crawl.quota_share_percent / 100)
        self._transport = transport or _transport(aws, crawl)
        self._patience = self._transport.patience
        self._random = random.Random()  # noqa: S311 - jitter, not cryptography
        self.total = Counter()

    async def call(
        self,
        access: Access,
        operation: Operation,
        region: str,
        params: Mapping[str, Any],
        counter: Counter | None = None,
    ) -> dict[str, Any]:
        """The answer of one call, or :class:`AwsError` when it has none after all tries.

        ``crawl.call_deadline`` bounds its tries and the waits between them; waiting for the pace, for a place in flight and
        for credentials is not counted.
        """
        credentials = await access.credentials()
        now = asyncio.get_running_loop().time
        account_id, flight = access.account_id, self._flight
        left = self._deadline
        tries = renewals = 0
        while True:
            tries += 1
            began = now()
            bucket = self._pace.bucket(account_id, region, operation, began)
            if bucket.waiting or flight.locked() or not bucket.take(began):
                await self._in_turn(bucket)
                began = now()
            else:
                flight.take()
            try:
                self._count(counter, tries)
                sending = self._transport.send(credentials, operation, region, params)
                answer = await (sending if left > self._patience else self._in_time(sending, left, tries))
            except AwsError as error:
                failure = error
            else:
                bucket.accepted()
                if tries == 1:
                    self._budget(account_id).calls += 1
                return answer
            finally:
                flight.release()
            left -= now() - began
            if failure.cause is Cause.THROTTLED:
                bucket.throttled()
            budget = self._budget(account_id)
            budget.calls += tries == 1
            failure.retries = tries - 1
            again = failure.retryable
            if failure.cause is Cause.EXPIRED:
                # One new session for all calls that saw it; under load even that may have ended before our turn.
                expired, credentials = credentials, await access.renew(credentials)
                again = credentials != expired
                if again and renewals < RENEWALS:
                    renewals += 1
                    continue
            if not again or tries >= self._attempts:
                raise failure
            delay = self._random.uniform(0, min(MAXIMUM_DELAY, BASE_DELAY * 2**tries))
            left -= delay
            if left <= 0:
                raise failure
            if budget.retries >= FREE_RETRIES + budget.calls * self._retry_share:
                raise _used_up(failure, account_id)
            budget.retries += 1
            log.debug("%s in %s/%s: %s, again in %.1f s", operation, account_id, region, failure.code, delay)
            await asyncio.sleep(delay)

    async def pages(
        self,
        access: Access,
        operation: Operation,
        region: str,
        params: Mapping[str, Any],
        counter: Counter | None = None,
    ) -> AsyncIterator[dict[str, Any]]:
        """Every page of a listing. It is whole only if this ends without an error."""
        paging = operation.paging
        if paging is None:
            yield await self.call(access, operation, region, params, counter)
            return
        asked = dict(params)
        if paging.limit and paging.size:
            asked[paging.limit] = paging.size
        seen: set[str] = set()
        while len(seen) < PAGE_LIMIT:
            page = await self.call(access, operation, region, asked, counter)
            yield page
            token = page.get(paging.receive)
            if not token or (paging.more and not page.get(paging.more)):
                return
            if token in seen:
                break
            seen.add(token)
            asked[paging.send] = token
        raise AwsError(
            Cause.INVALID_RESPONSE,
            "RepeatedToken",
            f"{operation} gave the same page token twice: the listing has no end",
        )

    def forget(self, account_id: str) -> None:
        """Drop what is held for an account that is done, so that memory does not grow with the organization."""
        self._spent.pop(account_id, None)
        self._pace.forget(account_id, asyncio.get_running_loop().time())

    def close(self) -> None:
        """Let go of connections."""
        self._transport.close()

    async def _in_turn(self, bucket: Bucket) -> None:
        """Wait for the pace and for a place in flight, which the caller gives back.

        The call is taken from its bucket when it leaves: taken earlier, those that wait for a place would all leave at once
        when there are places again. Of those that wait for one bucket, one at a time stands in line for a place, and only
        once its call may be made: neither a bucket that is used up nor a long line at one keeps places from others.
        """
        now = asyncio.get_running_loop().time
        bucket.waiting += 1
        try:
            async with bucket.turn:
                while delay := bucket.delay(now()):  # noqa: ASYNC110 - what is waited for is time; its rate may have narrowed
                    await asyncio.sleep(delay)
                await self._flight.acquire()
                bucket.take(now())
        finally:
            bucket.waiting -= 1

    async def _in_time(self, sending: Awaitable[dict[str, Any]], left: float, tries: int) -> dict[str, Any]:
        try:
            async with asyncio.timeout(left) as limit:
                return await sending
        except TimeoutError as timeout:
            if not limit.expired():
                raise
            said = f"no answer within {self._deadline:.0f} s (crawl.call_deadline)"
            raise AwsError(Cause.DEADLINE, "Deadline", said, tries - 1) from timeout

    def _budget(self, account_id: str) -> Counter:
        spent = self._spent.get(account_id)
        if spent is None:
            spent = self._spent[account_id] = Counter()
        return spent

    def _count(self, counter: Counter | None, tries: int) -> None:
        self.total.calls += 1
        if counter is not None:
            counter.calls += 1
        if tries > 1:
            self.total.retries += 1
            if counter is not None:
                counter.retries += 1


def _used_up(error: AwsError, account_id: str) -> AwsError:
    cause = f"the retries of account {account_id} are used up (crawl.retry_budget_percent)"
    said = f"not tried again, because {cause}: {error.message}"
    return AwsError(error.cause, error.code, said, error.retries)


def _transport(aws: AwsSettings, crawl: CrawlSettings) -> Transport:
    if crawl.transport == "boto3":
        from crawler.aws.transport_boto3 import Boto3Transport

        return Boto3Transport(aws, crawl.concurrency)
    from crawler.aws.transport_curl import PER_ENDPOINT, WireTransport

    transport = WireTransport(aws)
    if crawl.concurrency > PER_ENDPOINT:
        # Some of the calls wait in there for a connection, for as long as others have theirs.
        transport.patience = math.inf
    return transport


def parameters(operation: Operation, subject: Subject) -> dict[str, Any]:
    """The operation's parameters, with ``@name`` taken from the subject."""
    return {
        name: subject.values[value[1:]] if isinstance(value, str) and value.startswith("@") else value
        for name, value in operation.params.items()
    }

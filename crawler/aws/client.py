"""The AWS client: calls declared operations only, with rate limits, retries, paging and counters."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from crawler.aws.errors import AwsError
from crawler.aws.rate_limit import Bucket, RateLimiter
from crawler.aws.response_validation import invalid_response
from crawler.aws.semaphore import FairSemaphore
from crawler.aws.transport_boto3 import Credentials, Transport
from crawler.spec import Operation, Subject
from models.call_counters import OperationCounter, OperationCounters
from models.settings import AwsSettings
from models.settings.crawl import CrawlSettings
from models.tables.runs import Cause

BASE_DELAY = 0.2
"""Seconds; the n-th retry waits a random time up to BASE_DELAY * 2**n, at most MAXIMUM_DELAY."""
MAXIMUM_DELAY = 20.0
MAX_RENEWALS = 5
"""Session renewals of one call without a delay; further ones wait like any other retry."""
FREE_RETRIES = 100
"""Retries of an account that are always allowed; further ones are a share of its calls (crawl.retry_budget_percent)."""
PAGE_ROUNDS = 4
"""Rounds of crawl.max_attempts for each page after the first: in a long listing, some page fails in all attempts of a round."""
PAGE_LIMIT = 100_000
"""Pages after which a listing counts as endless."""

log = logging.getLogger(__name__)


class CredentialProvider(Protocol):
    """Provides and renews the credentials of an account."""

    account_id: str

    async def credentials(self) -> Credentials:
        """Return credentials that are valid for at least some minutes."""

    async def renew(self, expired: Credentials) -> Credentials:
        """Return new credentials after AWS reported these as expired."""


@dataclass(slots=True)
class Counter:
    """Counts calls and retries."""

    calls: int = 0
    retries: int = 0


class AwsClient:
    """Calls AWS. One per process."""

    def __init__(self, aws: AwsSettings, crawl: CrawlSettings, transport: Transport | None = None) -> None:
        self._attempts = crawl.max_attempts
        self._deadline = float(crawl.call_deadline)
        self._retry_share = crawl.retry_budget_percent / 100
        self._counters: defaultdict[str, Counter] = defaultdict(Counter)
        """Calls and retries by account."""
        self._in_flight = FairSemaphore(crawl.concurrency)
        self._rate_limiter = RateLimiter(crawl.quota_share_percent / 100)
        self._transport = transport or _transport(aws, crawl)
        self._transport_timeout = self._transport.max_seconds
        self._queues: set[asyncio.Task[None]] = set()
        """One task per bucket for which calls wait."""
        self._random = random.Random()  # noqa: S311 - jitter, not cryptography
        self.total = Counter()
        self._operations: defaultdict[Operation, OperationCounter] = defaultdict(OperationCounter)

    async def call(
        self,
        provider: CredentialProvider,
        operation: Operation,
        region: str,
        params: Mapping[str, Any],
        counter: Counter | None = None,
        *,
        budgeted: bool = True,
    ) -> dict[str, Any]:
        """Return the response of one call; raises :class:`AwsError` when all attempts failed.

        Without ``budgeted``, the retry budget of the account neither limits nor counts the retries.

        ``crawl.call_deadline`` limits the attempts and the delays between them; waiting for the rate limiter, the concurrency
        limit and credentials does not count.
        """
        credentials = await provider.credentials()
        now = asyncio.get_running_loop().time
        account_id, in_flight = provider.account_id, self._in_flight
        remaining = self._deadline
        attempts = renewals = 0
        while True:
            attempts += 1
            started = now()
            bucket = self._rate_limiter.bucket(account_id, region, operation, started)
            if bucket.waiting or in_flight.locked() or not bucket.take(started):
                await self._wait_for_slot(bucket)
                started = now()
            else:
                in_flight.try_acquire()
            try:
                self._count(counter, attempts)
                sending = self._transport.send(credentials, operation, region, params)
                response = await (
                    sending
                    if remaining > self._transport_timeout
                    else self._with_deadline(sending, remaining, attempts)
                )
            except AwsError as error:
                failure = error
            else:
                bucket.accepted()
                self._observe(operation, now() - started)
                if attempts == 1:
                    self._counters[account_id].calls += 1
                return response
            finally:
                in_flight.release()
            elapsed = now() - started
            remaining -= elapsed
            if failure.cause is Cause.THROTTLED:
                bucket.throttled()
            self._observe(operation, elapsed, throttled=failure.cause is Cause.THROTTLED)
            budget = self._counters[account_id]
            budget.calls += attempts == 1
            failure.retries = attempts - 1
            retry = failure.retryable
            if failure.cause is Cause.EXPIRED:
                # All calls that saw the expiry share one new session; under load it may expire too before this call is sent.
                expired, credentials = credentials, await provider.renew(credentials)
                retry = credentials != expired
                if retry and renewals < MAX_RENEWALS:
                    renewals += 1
                    continue
            if not retry or attempts >= self._attempts:
                raise failure
            delay = self._random.uniform(0, min(MAXIMUM_DELAY, BASE_DELAY * 2**attempts))
            remaining -= delay
            if remaining <= 0:
                raise failure
            if budgeted and budget.retries >= FREE_RETRIES + budget.calls * self._retry_share:
                raise _retry_budget_error(failure, account_id)
            budget.retries += budgeted
            log.debug("%s in %s/%s: %s; retrying in %.1f s", operation, account_id, region, failure.code, delay)
            await asyncio.sleep(delay)

    async def pages(
        self,
        provider: CredentialProvider,
        operation: Operation,
        region: str,
        params: Mapping[str, Any],
        counter: Counter | None = None,
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Yield every page of a listing; the listing is complete only if no error is raised."""
        paging = operation.paging
        if paging is None:
            yield await self.call(provider, operation, region, params, counter)
            return
        page_params = dict(params)
        if paging.limit and paging.size:
            page_params[paging.limit] = paging.size
        seen: set[str] = set()
        rounds = 0
        while len(seen) < PAGE_LIMIT:
            # A listing that makes progress is completed: its pages would be lost with the one that fails.
            try:
                page = await self.call(provider, operation, region, page_params, counter, budgeted=not seen)
            except AwsError as error:
                rounds += 1
                if error.cause is Cause.THROTTLED and seen and rounds < PAGE_ROUNDS:
                    continue
                raise
            rounds = 0
            yield page
            token = page.get(paging.receive)
            more = page.get(paging.more) if paging.more else None
            if more and not token:
                raise invalid_response(operation, f"{paging.more} is true, but there is no {paging.receive}")
            if not token or more is False:
                return
            if token in seen:
                break
            seen.add(token)
            page_params[paging.send] = token
        raise invalid_response(operation, "it has the same page token as an earlier page: the listing does not end")

    @property
    def clock_offset(self) -> float | None:
        """Seconds by which the clock of AWS is ahead of the local one, by the first response; None if no response had a date."""
        offset: float | None = getattr(self._transport, "clock_offset", None)
        return offset

    def take_operations(self) -> OperationCounters:
        """Return the calls by operation since the last time."""
        taken, self._operations = self._operations, defaultdict(OperationCounter)
        return {str(operation): counter for operation, counter in taken.items()}

    def _observe(self, operation: Operation, seconds: float, *, throttled: bool = False) -> None:
        counter = self._operations[operation]
        counter.calls += 1
        counter.throttles += throttled
        counter.seconds += seconds

    def drop_account(self, account_id: str) -> None:
        """Drop the state of a finished account, so that memory does not grow with the organization."""
        self._counters.pop(account_id, None)
        self._rate_limiter.drop_account(account_id, asyncio.get_running_loop().time())

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    async def _wait_for_slot(self, bucket: Bucket) -> None:
        """Wait for the rate limiter and for a slot in flight; the caller releases the slot."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        bucket.waiting.append(waiter)
        if len(bucket.waiting) == 1:
            queue = asyncio.create_task(self._send_waiting(bucket))
            self._queues.add(queue)
            queue.add_done_callback(self._queues.discard)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._in_flight.release()
            raise

    async def _send_waiting(self, bucket: Bucket) -> None:
        """Send the calls that wait for a bucket.

        The token is taken when the call is sent: otherwise the calls that wait for a slot would all be sent at once when slots
        become free. Only one call per bucket waits for a slot, and only once its token is available, so that neither an
        empty bucket nor a long queue keeps slots from other buckets.
        """
        now = asyncio.get_running_loop().time
        while bucket.waiting:
            if bucket.waiting[0].done():  # cancelled
                bucket.waiting.popleft()
                continue
            while delay := bucket.delay(now()):  # noqa: ASYNC110 - waits for time to pass; the rate may drop meanwhile
                await asyncio.sleep(delay)
            await self._in_flight.acquire()
            waiter = bucket.waiting.popleft()
            if waiter.done():
                self._in_flight.release()
                continue
            bucket.take(now())
            waiter.set_result(None)

    async def _with_deadline(self, sending: Awaitable[dict[str, Any]], seconds: float, attempts: int) -> dict[str, Any]:
        try:
            async with asyncio.timeout(seconds) as limit:
                return await sending
        except TimeoutError as timeout:
            if not limit.expired():
                raise
            message = f"no response within {self._deadline:.0f} s (crawl.call_deadline)"
            raise AwsError(Cause.DEADLINE, "Deadline", message, attempts - 1) from timeout

    def _count(self, counter: Counter | None, attempts: int) -> None:
        self.total.calls += 1
        if counter is not None:
            counter.calls += 1
        if attempts > 1:
            self.total.retries += 1
            if counter is not None:
                counter.retries += 1


def _retry_budget_error(error: AwsError, account_id: str) -> AwsError:
    message = (
        f"not retried: the retries of account {account_id} are used up (crawl.retry_budget_percent): {error.message}"
    )
    return AwsError(error.cause, error.code, message, error.retries)


def _transport(aws: AwsSettings, crawl: CrawlSettings) -> Transport:
    if crawl.transport == "boto3":
        from crawler.aws.transport_boto3 import Boto3Transport

        return Boto3Transport(aws, crawl.concurrency)
    from crawler.aws.transport_curl import MAX_CONNECTIONS_PER_ENDPOINT, CurlTransport

    transport = CurlTransport(aws)
    if crawl.concurrency > MAX_CONNECTIONS_PER_ENDPOINT:
        # Calls may wait in the transport for a connection, for as long as others hold theirs.
        transport.max_seconds = math.inf
    return transport


def parameters(operation: Operation, subject: Subject) -> dict[str, Any]:
    """Return the operation's parameters, with ``@name`` replaced by the subject's value."""
    return {
        name: subject.values[value[1:]] if isinstance(value, str) and value.startswith("@") else value
        for name, value in operation.params.items()
    }

"""The one way to call AWS: declared operations only, retries with full jitter, paging by token, counted."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from crawler.aws.errors import AwsError
from crawler.aws.pace import Pace
from crawler.aws.transport import Credentials, Transport
from crawler.declare import Operation, Subject
from models.run import Cause
from models.crawl_settings import CrawlSettings
from models.settings import AwsSettings

BASE_DELAY = 0.2
"""Seconds; the n-th retry waits a random time up to BASE_DELAY * 2**n, at most MAXIMUM_DELAY."""
MAXIMUM_DELAY = 20.0
RENEWALS = 5
"""New sessions that one call may need at once; further ones wait like any other try."""
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
        self._attempts = crawl.attempts
        self._flight = asyncio.Semaphore(crawl.concurrency)
        self.pace = Pace(crawl.quota_percent / 100)
        self._transport = transport or _transport(aws, crawl)
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
        """The answer of one call, or :class:`AwsError` when it has none after all tries."""
        credentials = await access.credentials()
        tries = renewals = 0
        while True:
            tries += 1
            await self.pace.wait(access.account_id, region, operation)
            try:
                async with self._flight:
                    self._count(counter, retry=tries > 1)
                    answer = await self._transport.send(credentials, operation, region, params)
            except AwsError as error:
                if error.cause is Cause.THROTTLED:
                    self.pace.throttled(access.account_id, region, operation)
                error.retries = tries - 1
                again = error.retryable
                if error.cause is Cause.EXPIRED:
                    # One new session for all calls that saw it; under load even that may have ended before our turn.
                    expired, credentials = credentials, await access.renew(credentials)
                    again = credentials != expired
                    if again and renewals < RENEWALS:
                        renewals += 1
                        continue
                if not again or tries >= self._attempts:
                    raise
                delay = self._random.uniform(0, min(MAXIMUM_DELAY, BASE_DELAY * 2**tries))
                log.debug("%s in %s/%s: %s, again in %.1f s", operation, access.account_id, region, error.code, delay)
            else:
                self.pace.accepted(access.account_id, region, operation)
                return answer
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
        asked = dict(params)
        paging = operation.paging
        if paging is None:
            yield await self.call(access, operation, region, asked, counter)
            return
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
            Cause.MALFORMED, "RepeatedToken", f"{operation} gave the same page token twice: the listing has no end"
        )

    def close(self) -> None:
        """Let go of connections."""
        self._transport.close()

    def _count(self, counter: Counter | None, *, retry: bool) -> None:
        for held in (self.total, counter) if counter else (self.total,):
            held.calls += 1
            held.retries += retry


def _transport(aws: AwsSettings, crawl: CrawlSettings) -> Transport:
    if crawl.transport == "boto3":
        from crawler.aws.transport import Boto3Transport

        return Boto3Transport(aws, crawl.concurrency)
    from crawler.aws.wire import WireTransport

    return WireTransport(aws)


def parameters(operation: Operation, subject: Subject) -> dict[str, Any]:
    """The operation's parameters, with ``@name`` taken from the subject."""
    return {
        name: subject.values[value[1:]] if isinstance(value, str) and value.startswith("@") else value
        for name, value in operation.params.items()
    }

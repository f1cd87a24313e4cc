"""A simulated clock that advances when all tasks wait: hours of rate limiting and back-off run instantly and exactly."""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from crawler.aws.errors import AwsError
from crawler.aws.transport_boto3 import Credentials
from crawler.spec import Operation


class _Clock(selectors.SelectSelector):
    """Advances the clock instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "deadlock: all tasks wait without a timeout"
            self.now += timeout
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _Clock()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


Result = TypeVar("Result")


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine like :func:`asyncio.run`, starting at time 0."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(work)


def now() -> float:
    """Return the seconds since the start."""
    return asyncio.get_running_loop().time()


@dataclass
class Timed:
    """A transport with simulated latency; records time and account of each call, and the maximum number in flight."""

    seconds: float | Callable[[], float] = 0.0
    fail: Callable[[str], AwsError | None] = lambda _account: None
    sent: list[tuple[float, str]] = field(default_factory=list)
    in_flight: int = 0
    max_in_flight: int = 0
    max_seconds: float = math.inf

    async def send(
        self, credentials: Credentials, operation: Operation, region: str, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return an empty response, or fail."""
        del operation, region, params
        account_id = credentials.access_key
        self.sent.append((now(), account_id))
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.seconds if isinstance(self.seconds, float) else self.seconds())
        finally:
            self.in_flight -= 1
        if error := self.fail(account_id):
            raise AwsError(error.cause, error.code, error.message)
        return {}

    def close(self) -> None:
        """Do nothing."""


@dataclass(slots=True)
class StaticProvider:
    """Implements :class:`crawler.aws.client.CredentialProvider` with the account id as access key."""

    account_id: str

    async def credentials(self) -> Credentials:
        """Return the same credentials each time."""
        return Credentials(self.account_id, "secret", None)

    async def renew(self, expired: Credentials) -> Credentials:
        """Return the expired credentials."""
        return expired

"""Time that passes only when everybody waits: hours of pacing and back-off are tested in moments, and to the second."""

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
    """Lets the time pass instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everybody waits for what will never come"
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
    """As :func:`asyncio.run`, at time 0."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(work)


def now() -> float:
    """Seconds since the start."""
    return asyncio.get_running_loop().time()


@dataclass
class Timed:
    """A transport that takes its time; remembers when each call was sent, by whom, and how many were in flight at most."""

    seconds: float | Callable[[], float] = 0.0
    trouble: Callable[[str], AwsError | None] = lambda _account: None
    sent: list[tuple[float, str]] = field(default_factory=list)
    flying: int = 0
    most: int = 0
    max_seconds: float = math.inf

    async def send(
        self, credentials: Credentials, operation: Operation, region: str, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        """An empty answer, or trouble."""
        del operation, region, params
        account_id = credentials.access_key
        self.sent.append((now(), account_id))
        self.flying += 1
        self.most = max(self.most, self.flying)
        try:
            await asyncio.sleep(self.seconds if isinstance(self.seconds, float) else self.seconds())
        finally:
            self.flying -= 1
        if error := self.trouble(account_id):
            raise AwsError(error.cause, error.code, error.message)
        return {}

    def close(self) -> None:
        """Nothing is held."""


@dataclass(slots=True)
class StaticProvider:
    """Implements :class:`crawler.aws.client.CredentialProvider` with the account's id as provider key."""

    account_id: str

    async def credentials(self) -> Credentials:
        """Always the same."""
        return Credentials(self.account_id, "secret", None)

    async def renew(self, expired: Credentials) -> Credentials:
        """None that are new."""
        return expired

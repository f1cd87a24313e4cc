"""A fair semaphore: waiters acquire slots in order of arrival.

asyncio.Semaphore scans its waiters at each release, which is slow with a thousand waiting calls.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType


class FairSemaphore:
    """A semaphore for one event loop, used as a context manager or with :meth:`acquire` and :meth:`release`."""

    __slots__ = ("_free", "_waiting")

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._waiting: deque[asyncio.Future[None]] = deque()

    def locked(self) -> bool:
        """Return whether no slot is free."""
        return self._free == 0

    def try_acquire(self) -> bool:
        """Acquire a slot if one is free."""
        if self._free == 0:
            return False
        self._free -= 1
        return True

    async def acquire(self) -> None:
        """Wait for a slot and acquire it."""
        if self._free:
            self._free -= 1
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            # Cancelled after the slot was assigned: pass it on.
            if waiter.done() and not waiter.cancelled():
                self.release()
            raise

    def release(self) -> None:
        """Release a slot; the longest waiter gets it, if there is one."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._free += 1

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

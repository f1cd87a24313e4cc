"""A fair semaphore: waiters acquire slots by priority, then in order of arrival.

asyncio.Semaphore scans its waiters at each release, which is slow with a thousand waiting calls.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools


class FairSemaphore:
    """A semaphore for one event loop, used as a context manager or with :meth:`acquire` and :meth:`release`."""

    __slots__ = ("_numbers", "_waiting", "free")

    def __init__(self, slots: int) -> None:
        self.free = slots
        """Free slots."""
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    def locked(self) -> bool:
        """Return whether no slot is free."""
        return self.free == 0

    def try_acquire(self) -> bool:
        """Acquire a slot if one is free."""
        if self.free == 0:
            return False
        self.free -= 1
        return True

    async def acquire(self, rank: int = 0) -> None:
        """Wait for a slot and acquire it; waiters of a lower rank are first."""
        if self.try_acquire():
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (rank, next(self._numbers), waiter))
        try:
            await waiter
        except asyncio.CancelledError:
            # Cancelled after the slot was assigned: pass it on.
            if waiter.done() and not waiter.cancelled():
                self.release()
            raise

    def release(self) -> None:
        """Release a slot; the first waiter gets it, if there is one."""
        while self._waiting:
            _, _, waiter = heapq.heappop(self._waiting)
            if not waiter.done():
                waiter.set_result(None)
                return
        self.free += 1

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(self, *_exception: object) -> None:
        self.release()

"""The fair semaphore: capacity, order, and cancellation."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

from hypothesis import example, given, settings
from hypothesis import strategies as st

from crawler.aws.semaphore import FairSemaphore
from tests.crawler.fake_clock import run
from tests.hypothesis_profiles import examples


@dataclass
class CountingSemaphore:
    """A semaphore that counts its holders; they are numbered."""

    slots: FairSemaphore
    holders: int = 0
    max_holders: int = 0
    order: list[int] = field(default_factory=list)

    async def hold(self, number: int, start: float, seconds: float) -> None:
        """Acquire a slot after a delay and hold it for some seconds."""
        await asyncio.sleep(start)
        async with self.slots:
            self.order.append(number)
            self.holders += 1
            self.max_holders = max(self.max_holders, self.holders)
            try:
                await asyncio.sleep(seconds)
            finally:
                self.holders -= 1


def free(slots: FairSemaphore) -> int:
    """Acquire all free slots and return their number."""
    count = 0
    while slots.try_acquire():
        count += 1
    return count


def test_slots_are_assigned_in_order_of_arrival() -> None:
    """The longest waiter is next, however long the others hold their slots."""

    async def scenario() -> CountingSemaphore:
        counting = CountingSemaphore(FairSemaphore(3))
        await asyncio.gather(*(counting.hold(number, 0.0, number % 4 + 1.0) for number in range(50)))
        return counting

    counting = run(scenario())
    assert counting.order == list(range(50))
    assert counting.max_holders == 3


def test_an_assigned_slot_cannot_be_taken_by_a_newcomer() -> None:
    """Between the assignment of a slot and the waiter's continuation, no other task gets the slot."""

    async def scenario() -> list[str]:
        slots, order = FairSemaphore(1), list[str]()

        async def enter(name: str) -> None:
            async with slots:
                order.append(name)

        assert slots.try_acquire()
        first = asyncio.create_task(enter("waited"))
        await asyncio.sleep(0)
        slots.release()
        assert slots.locked()
        assert not slots.try_acquire()
        await asyncio.gather(asyncio.create_task(enter("arrived later")), first)
        return order

    assert asyncio.run(scenario()) == ["waited", "arrived later"]


def test_a_waiter_cancelled_after_assignment_passes_the_slot_on() -> None:
    """The slot goes to the next waiter and is not lost."""

    async def scenario() -> int:
        slots = FairSemaphore(1)
        assert slots.try_acquire()
        first, second = (asyncio.create_task(slots.acquire()) for _ in range(2))
        await asyncio.sleep(0)
        slots.release()
        first.cancel()
        async with asyncio.timeout(5):
            await second
        assert first.cancelled()
        assert slots.locked()
        slots.release()
        return free(slots)

    assert asyncio.run(scenario()) == 1


def test_cancelled_waiters_are_skipped() -> None:
    """A released slot goes to the first active waiter; without one it is free."""

    async def scenario() -> int:
        slots = FairSemaphore(1)
        assert slots.try_acquire()
        waiting = [asyncio.create_task(slots.acquire()) for _ in range(5)]
        await asyncio.sleep(0)
        for task in waiting[:3]:
            task.cancel()
        await asyncio.wait(waiting[:3])
        slots.release()
        await waiting[3]
        assert not waiting[4].done()
        slots.release()
        await waiting[4]
        slots.release()
        return free(slots)

    assert asyncio.run(scenario()) == 1


TICKS = st.integers(0, 6).map(float)


@settings(max_examples=examples(fast=60, deep=1000))
@given(
    slots=st.integers(1, 4),
    holds=st.lists(st.tuples(TICKS, TICKS, st.none() | TICKS, st.booleans()), min_size=1, max_size=25),
)
@example(1, [(0.0, 1.0, None, False), (0.0, 1.0, 1.0, True), (0.0, 1.0, None, False)])
def test_cancellation_never_changes_the_capacity(
    slots: int, holds: list[tuple[float, float, float | None, bool]]
) -> None:
    """Holders may be cancelled at any time, also while a slot is assigned or released."""

    async def scenario() -> None:
        counting = CountingSemaphore(FairSemaphore(slots))
        tasks: list[asyncio.Task[None]] = []

        async def cancel(number: int, at: float) -> None:
            await asyncio.sleep(at)
            tasks[number].cancel()

        # The cancellation runs before or after the task that holds the semaphore if both are due at the same time.
        early = [
            asyncio.create_task(cancel(n, at)) for n, (*_, at, first) in enumerate(holds) if at is not None and first
        ]
        tasks += [asyncio.create_task(counting.hold(n, start, seconds)) for n, (start, seconds, *_) in enumerate(holds)]
        late = [
            asyncio.create_task(cancel(n, at))
            for n, (*_, at, first) in enumerate(holds)
            if at is not None and not first
        ]
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await asyncio.gather(*early, *late)
        assert counting.max_holders <= slots
        assert counting.holders == 0
        assert {n for n, (*_, at, _) in enumerate(holds) if at is None} <= set(counting.order)
        assert free(counting.slots) == slots

    run(scenario())

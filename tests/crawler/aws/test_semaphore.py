"""Places: never more held than there are, handed on in order, and none lost whoever gives up waiting and when."""

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
class Hall:
    """FairSemaphore with somebody who counts; visits are numbered."""

    slots: FairSemaphore
    inside: int = 0
    most: int = 0
    entered: list[int] = field(default_factory=list)

    async def visit(self, number: int, begins: float, stays: float) -> None:
        """Come, wait for a place, stay and go."""
        await asyncio.sleep(begins)
        async with self.slots:
            self.entered.append(number)
            self.inside += 1
            self.most = max(self.most, self.inside)
            try:
                await asyncio.sleep(stays)
            finally:
                self.inside -= 1


def free(slots: FairSemaphore) -> int:
    """How many places can be had now; they are gone afterwards."""
    count = 0
    while slots.try_acquire():
        count += 1
    return count


def test_places_are_given_in_the_order_in_which_they_were_asked_for() -> None:
    """Who waits longest is next, however long the others hold their places."""

    async def scenario() -> Hall:
        hall = Hall(FairSemaphore(3))
        await asyncio.gather(*(hall.visit(number, 0.0, number % 4 + 1.0) for number in range(50)))
        return hall

    hall = run(scenario())
    assert hall.entered == list(range(50))
    assert hall.most == 3


def test_a_place_that_was_handed_over_is_not_taken_by_who_comes_now() -> None:
    """Between the handing over and the moment in which the waiter goes on, nobody overtakes it."""

    async def scenario() -> list[str]:
        slots, order = FairSemaphore(1), list[str]()

        async def come(name: str) -> None:
            async with slots:
                order.append(name)

        assert slots.try_acquire()
        first = asyncio.create_task(come("waited"))
        await asyncio.sleep(0)
        slots.release()
        assert slots.locked()
        assert not slots.try_acquire()
        await asyncio.gather(asyncio.create_task(come("came later")), first)
        return order

    assert asyncio.run(scenario()) == ["waited", "came later"]


def test_who_is_cancelled_when_the_place_is_handed_over_hands_it_on() -> None:
    """The place goes to the next in line, not to nobody."""

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


def test_who_is_cancelled_while_waiting_is_passed_over() -> None:
    """A place that is given back goes to the first who still wants it; with nobody left it is free."""

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
    places=st.integers(1, 4),
    visits=st.lists(st.tuples(TICKS, TICKS, st.none() | TICKS, st.booleans()), min_size=1, max_size=25),
)
@example(1, [(0.0, 1.0, None, False), (0.0, 1.0, 1.0, True), (0.0, 1.0, None, False)])
def test_no_place_is_lost_or_made_whoever_gives_up(
    places: int, visits: list[tuple[float, float, float | None, bool]]
) -> None:
    """Visits that are cancelled at any time, also in the moment in which a place is handed to them or given back."""

    async def scenario() -> None:
        hall = Hall(FairSemaphore(places))
        tasks: list[asyncio.Task[None]] = []

        async def cancel(number: int, at: float) -> None:
            await asyncio.sleep(at)
            tasks[number].cancel()

        # Whether who cancels is called before or after the visitor, where both are due at the same time.
        early = [
            asyncio.create_task(cancel(n, at)) for n, (*_, at, first) in enumerate(visits) if at is not None and first
        ]
        tasks += [asyncio.create_task(hall.visit(n, begins, stays)) for n, (begins, stays, *_) in enumerate(visits)]
        late = [
            asyncio.create_task(cancel(n, at))
            for n, (*_, at, first) in enumerate(visits)
            if at is not None and not first
        ]
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await asyncio.gather(*early, *late)
        assert hall.most <= places
        assert hall.inside == 0
        assert {n for n, (*_, at, _) in enumerate(visits) if at is None} <= set(hall.entered)
        assert free(hall.slots) == places

    run(scenario())

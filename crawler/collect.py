"""The interpreter: declarations x one scope -> facts and gaps. The only collection loop.

A step that cannot be answered becomes a gap with its cause, and leaves every other fact alone: the listing is not stated
complete, so nothing of it is taken for gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jmespath

from crawler.aws.door import Access, Counter, Door, parameters
from crawler.aws.errors import AwsError
from crawler.declare import GLOBAL, Operation, ResourceType, Scope, Step, Subject
from crawler.kms import ALIASES, KEY_STORES, KEYS
from crawler.resources import resource_step
from crawler.usage import RESOURCE_TYPES
from models.history import Batch
from models.run import Cause, Gap

WORKERS = 64
"""Items of one listing that are asked about at a time; the door bounds the calls of the whole process."""


@dataclass(slots=True)
class Collected:
    """What one scope gave."""

    scope: Scope
    batch: Batch = field(default_factory=Batch)
    gaps: int = 0
    timed_out: bool = False
    counter: Counter = field(default_factory=Counter)

    def gap(self, region: str, operation: Operation, subject: str, error: AwsError) -> None:
        """Record what could not be learned, and why."""
        self.gaps += 1
        self.batch.add(
            Gap,
            account_id=self.scope.account_id,
            region=region,
            service=operation.service,
            operation=operation.name,
            subject=subject,
            action=operation.iam_action,
            cause=str(error.cause),
            code=error.code,
            message=error.message,
        )


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the configuration asks for."""

    resource_types: tuple[ResourceType, ...] = RESOURCE_TYPES
    aws_managed_key_details: bool = False
    excludes_region: Callable[[str], bool] = lambda _region: False
    home_region: str = "us-east-1"
    """Where the account's region-less part is asked."""


async def collect(
    door: Door, access: Access, scope: Scope, wanted: Wanted, counter: Counter | None = None
) -> Collected:
    """Everything that the declarations ask of one scope; calls are counted in ``counter`` as they are made."""
    collected = Collected(scope, counter=counter or Counter())
    work = _Work(door, access, collected)
    if scope.region == GLOBAL:
        home = Subject(scope, wanted.home_region, values={"excludes_region": wanted.excludes_region})
        await _together([work.ask(resource_step(kind), home) for kind in wanted.resource_types if not kind.regional])
    else:
        keys = Subject(scope, scope.region, values={"aws_managed_key_details": wanted.aws_managed_key_details})
        here = Subject(scope, scope.region)
        await _together(
            [
                work.in_turn((ALIASES, KEYS), keys),
                work.ask(KEY_STORES, here),
                *(work.ask(resource_step(kind), here) for kind in wanted.resource_types if kind.regional),
            ]
        )
    collected.batch.complete(Gap, scope.account_id, scope.region)
    return collected


@dataclass(frozen=True, slots=True)
class _Work:
    door: Door
    access: Access
    collected: Collected

    async def in_turn(self, steps: Sequence[Step], subject: Subject) -> None:
        for step in steps:
            await self.ask(step, subject)

    async def ask(self, step: Step, subject: Subject) -> None:
        """Ask one step of one subject, and the steps below of each item that it shows."""
        reason = step.applies(subject) if step.applies else None
        batch = self.collected.batch
        if reason is not None:
            if step.skipped:
                step.skipped(subject, reason, batch)
            return
        failure: AwsError | None = None
        try:
            async for items in self._pages(step.operation, subject):
                found, malformed = _recorded(step, subject, items, batch)
                failure = failure or malformed
                if step.below:
                    await _each(found, lambda below: self._below(step, below))
        except AwsError as error:
            if error.code in step.operation.nothing:
                nothing, malformed = _recorded(step, subject, [{}], batch)
                failure = failure or malformed
                for below in nothing:
                    await self._below(step, below)
            else:
                failure = error
        if failure is None:
            if step.complete:
                step.complete(subject, batch)
            return
        self.collected.gap(self.collected.scope.region, step.operation, subject.arn, failure)
        left = step.denied(subject) if step.denied else None
        if left is not None:
            await self._below(step, left)

    async def _below(self, step: Step, subject: Subject) -> None:
        await _together([self.ask(below, subject) for below in step.below])

    async def _pages(self, operation: Operation, subject: Subject) -> Any:
        asked = parameters(operation, subject)
        async for page in self.door.pages(self.access, operation, subject.region, asked, self.collected.counter):
            yield items_of(operation, page)


def _recorded(
    step: Step, subject: Subject, items: Sequence[Mapping[str, Any]], batch: Batch
) -> tuple[list[Subject], AwsError | None]:
    """What the items are to the steps below; one that cannot be understood is left out, and told."""
    found: list[Subject] = []
    malformed: AwsError | None = None
    for item in items:
        try:
            below = step.record(subject, item, batch)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            said = f"an item of {step.operation} is not as the API's model says: {type(error).__name__}: {error}"
            malformed = malformed or AwsError(Cause.MALFORMED, "MalformedItem", said)
        else:
            if below is not None:
                found.append(below)
    return found, malformed


def items_of(operation: Operation, page: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The items that one page holds; an answer without them is not an empty listing."""
    if not operation.items:
        return [page]
    found = compiled(operation.items).search(page)
    if found is None:
        root = operation.items.split("[", maxsplit=1)[0].split(".")[0]
        more = operation.paging is not None and page.get(operation.paging.receive)
        if page.get(root) is None and not more:
            raise AwsError(Cause.MALFORMED, "MissingMember", f"the answer of {operation} has no {operation.items}")
        return []
    return found if isinstance(found, list) else [found]


@cache
def compiled(path: str) -> Any:
    """A JMESPath expression, compiled once."""
    return jmespath.compile(path)


async def _together(work: Sequence[Awaitable[None]]) -> None:
    """All of it at once; the first failure ends the rest."""
    async with asyncio.TaskGroup() as group:
        for one in work:
            group.create_task(_run(one))


async def _run(work: Awaitable[None]) -> None:
    await work


async def _each(items: Sequence[Subject], ask: Callable[[Subject], Awaitable[None]]) -> None:
    """Every item, some at a time, without a task for each of them."""
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await ask(item)

    await _together([worker() for _ in range(min(WORKERS, len(items)))])

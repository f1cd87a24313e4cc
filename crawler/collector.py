"""The interpreter: declarations x one scope -> facts and gaps. The only collection loop.

A step that cannot be answered becomes a gap with its cause, and leaves every other fact alone: the listing is not stated
complete, so nothing of it is taken for gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jmespath

from crawler.aws.client import Access, Counter, Door, parameters
from crawler.aws.errors import AwsError
from crawler.gaps import gap_row
from crawler.resource_mapper import resource_step
from crawler.services import cloudtrail
from crawler.services.iam import IAM, not_asked
from crawler.services.kms import ALIASES, KEY_STORES, KEYS
from crawler.services.resource_types import RESOURCE_TYPES, TRAIL
from crawler.spec import GLOBAL, Operation, ResourceType, Scope, Step, Subject
from models.store.scd2_merge import Batch
from models.tables.runs import Cause, Gap

WORKERS = 64
"""Items of one listing that are asked about at a time; the door bounds the calls of the whole process."""


@dataclass(slots=True)
class Collected:
    """What one scope gave."""

    scope: Scope
    batch: Batch = field(default_factory=Batch)
    gaps: int = 0
    quiet: bool = False
    """Whether it had no key and was asked for nothing else, as wanted."""
    counter: Counter = field(default_factory=Counter)

    def gap(self, region: str, operation: Operation, subject: str, error: AwsError) -> None:
        """Record what could not be learned, and why."""
        self.gaps += 1
        self.batch.add(Gap, **gap_row(self.scope.account_id, region, operation, subject, error))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the configuration asks for."""

    resource_types: tuple[ResourceType, ...] = RESOURCE_TYPES
    aws_managed_key_details: bool = False
    iam: bool = False
    resource_policies: bool = True
    excludes_region: Callable[[str], bool] = lambda _region: False
    home_region: str = "us-east-1"
    """Where the account's region-less part is asked."""
    quiet: str | None = None
    """Why a region needs only its keys asked as long as it has none; ``None``: it is asked for everything."""


async def collect(
    door: Door, access: Access, scope: Scope, wanted: Wanted, counter: Counter | None = None
) -> Collected:
    """Everything that the declarations ask of one scope; calls are counted in ``counter`` as they are made.

    :class:`AwsError` when a service control policy closes the region: then nothing of it can be read.
    """
    collected = Collected(scope, counter=counter or Counter())
    work = _Work(door, access, collected)
    if scope.region != GLOBAL and all(kind.name != TRAIL.name for kind in wanted.resource_types):
        cloudtrail.not_asked(scope, collected.batch)
    if scope.region == GLOBAL:
        await _together(_regionless(work, wanted))
    elif wanted.quiet is not None and await work.shows_nothing(KEYS, Subject(scope, scope.region)):
        collected.quiet = True
    else:
        await _region(work, wanted)
    collected.batch.mark_complete(Gap, scope.account_id, scope.region)
    return collected


def _regionless(work: _Work, wanted: Wanted) -> list[Coroutine[Any, Any, None]]:
    scope, batch = work.collected.scope, work.collected.batch
    values = {"excludes_region": wanted.excludes_region, "resource_policies": wanted.resource_policies}
    home = Subject(scope, wanted.home_region, values=values)
    asked = [work.ask(resource_step(kind), home) for kind in wanted.resource_types if not kind.regional]
    if wanted.iam:
        asked.append(work.ask(IAM, Subject(scope, wanted.home_region)))
    else:
        not_asked(scope, batch)
    return asked


async def _region(work: _Work, wanted: Wanted) -> None:
    scope = work.collected.scope
    keys = Subject(scope, scope.region, values={"aws_managed_key_details": wanted.aws_managed_key_details})
    here = Subject(scope, scope.region, values={"resource_policies": wanted.resource_policies})
    resources = [_step(kind) for kind in wanted.resource_types if kind.regional]
    # A region that a service control policy closes refuses every service: two refusals are enough to know.
    aliases = await work.answered(ALIASES, keys)
    other = next((step for step in resources if step.operation.service != ALIASES.operation.service), None)
    if aliases is not None and aliases.cause is Cause.SERVICE_CONTROL_POLICY and other is not None:
        refusal = await work.answered(other, here)
        if refusal is not None and refusal.cause is Cause.SERVICE_CONTROL_POLICY:
            raise _closed(aliases, (ALIASES.operation, other.operation))
        work.told(other, here, refusal)
        resources.remove(other)
    work.told(ALIASES, keys, aliases)
    await _together([work.ask(KEYS, keys), work.ask(KEY_STORES, here), *(work.ask(step, here) for step in resources)])


def _step(kind: ResourceType) -> Step:
    return cloudtrail.TRAILS if kind.name == TRAIL.name else resource_step(kind)


def _closed(refusal: AwsError, refused: Sequence[Operation]) -> AwsError:
    asked = " and ".join(operation.iam_action for operation in refused)
    said = f"{asked} were refused, so nothing else was asked in the region: {refusal.message}"
    return AwsError(refusal.cause, refusal.code, said, refusal.retries)


@dataclass(frozen=True, slots=True)
class _Work:
    door: Door
    access: Access
    collected: Collected

    async def ask(self, step: Step, subject: Subject) -> None:
        """Ask one step of one subject, and the steps below of each item that it shows."""
        failure = await self.answered(step, subject)
        self.told(step, subject, failure)
        left = step.on_denied(subject) if step.on_denied and failure is not None else None
        if left is not None:
            await self._run_children(step, left)

    async def answered(self, step: Step, subject: Subject) -> AwsError | None:
        """Record what a step shows, and ask the steps below; why it is not the whole answer, if it is not."""
        batch = self.collected.batch
        failure: AwsError | None = None
        operation = step.operation
        try:
            if operation.paging is None:
                asked = parameters(operation, subject)
                answer = await self.door.call(self.access, operation, subject.region, asked, self.collected.counter)
                return await self._take(step, subject, items_of(operation, answer))
            async for items in self._pages(operation, subject):
                failure = await self._take(step, subject, items) or failure
        except AwsError as error:
            if error.code not in step.operation.empty_error_codes:
                return error
            nothing, malformed = _recorded(step, subject, [{}], batch)
            failure = failure or malformed
            for below in nothing:
                await self._run_children(step, below)
        return failure

    async def _take(self, step: Step, subject: Subject, items: Sequence[Mapping[str, Any]]) -> AwsError | None:
        found, malformed = _recorded(step, subject, items, self.collected.batch)
        if step.children:
            await _each(found, lambda below: self._run_children(step, below))
        return malformed

    def told(self, step: Step, subject: Subject, failure: AwsError | None) -> None:
        """Record that a step was answered whole, or why not."""
        if failure is not None:
            self.collected.gap(self.collected.scope.region, step.operation, subject.arn, failure)
        elif step.complete:
            step.complete(subject, self.collected.batch)

    async def shows_nothing(self, step: Step, subject: Subject) -> bool:
        """Whether a listing is whole and empty, which is recorded; anything else is left to be asked as always."""
        try:
            async for items in self._pages(step.operation, subject):
                if items:
                    return False
        except AwsError:
            return False
        self.told(step, subject, None)
        return True

    async def _run_children(self, step: Step, subject: Subject) -> None:
        # One after the other: there are many subjects to ask at the same time, and tasks for each of their questions cost
        # more than the questions.
        for child in step.children:
            if self._applies(child, subject):
                await self.ask(child, subject)

    def _applies(self, step: Step, subject: Subject) -> bool:
        reason = step.skip_reason(subject) if step.skip_reason else None
        if reason is not None and step.on_skip:
            step.on_skip(subject, reason, self.collected.batch)
        return reason is None

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
            malformed = malformed or AwsError(Cause.INVALID_RESPONSE, "MalformedItem", said)
        else:
            if below is not None:
                found.append(below)
    return found, malformed


def items_of(operation: Operation, page: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The items that one page holds; an answer without them is not an empty listing."""
    if not operation.items:
        return [page]
    path = operation.items
    found = page.get(path) if path.isidentifier() else compiled(path).search(page)
    if found is None:
        root = operation.items.split("[", maxsplit=1)[0].split(".")[0]
        more = operation.paging is not None and page.get(operation.paging.receive)
        if page.get(root) is None and not more:
            raise AwsError(
                Cause.INVALID_RESPONSE, "MissingMember", f"the answer of {operation} has no {operation.items}"
            )
        return []
    return found if isinstance(found, list) else [found]


@cache
def compiled(path: str) -> Any:
    """A JMESPath expression, compiled once."""
    return jmespath.compile(path)


async def _together(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """All of it at once; the first failure ends the rest."""
    if len(work) == 1:
        await work[0]
    elif work:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)


async def _each(items: Sequence[Subject], ask: Callable[[Subject], Awaitable[None]]) -> None:
    """Every item, some at a time, without a task for each of them."""
    if len(items) == 1:
        await ask(items[0])
        return
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await ask(item)

    await _together([worker() for _ in range(min(WORKERS, len(items)))])

"""Runs the declared operations of one scope and records facts and gaps. The only collection loop.

A failed step becomes a gap with its cause and does not affect other facts: its listing is not marked complete, so none of its
items is closed.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from crawler.aws.client import AwsClient, Counter, CredentialProvider, parameters
from crawler.aws.errors import DENIED_CODES, AwsError, gap_row
from crawler.resource_mapper import resource_step
from crawler.services import cloudtrail, iam
from crawler.services.kms import ALIASES, KEY_STORES, KEYS
from crawler.services.resource_types import RESOURCE_TYPES, TRAIL
from crawler.spec import GLOBAL, Operation, ResourceType, Scope, Step, Subject, search
from crawler.writer import Coverage, Finished
from models.store.scd2_merge import Batch
from models.tables.iam import IamScan
from models.tables.runs import Cause, Gap, Outcome
from models.tables.trails import TrailScan

CONCURRENT_ITEMS = 32
"""Items of one listing processed concurrently; the client limits the calls of the process.

With six calls of 50 ms for each key, 30 keys use the whole quota of ListGrants (100 a second); more only take memory.
"""

REGION_WIDE = {
    Cause.SERVICE_CONTROL_POLICY: Cause.SERVICE_CONTROL_POLICY,
    Cause.REGION_DISABLED: Cause.REGION_DISABLED,
    Cause.CREDENTIALS: Cause.REGION_DISABLED,
}
"""The causes that concern a whole region if two services return them, and what they mean then.

A region that is not enabled rejects credentials that are valid elsewhere.
"""


@dataclass(slots=True)
class Collected:
    """The facts, gaps and call counts of one scope."""

    scope: Scope
    batch: Batch = field(default_factory=Batch)
    gaps: int = 0
    empty: bool = False
    """Whether only ListKeys was called, because the region was expected to be empty and has no key."""
    counter: Counter = field(default_factory=Counter)
    started: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))

    def gap(self, region: str, operation: Operation, subject: str, error: AwsError) -> None:
        """Record a failed call with its cause."""
        self.gaps += 1
        self.batch.add(Gap, **gap_row(self.scope.account_id, region, operation, subject, error))

    def finish(self, outcome: Outcome, reason: str | None = None) -> Finished:
        """Return the facts with their coverage."""
        scope, counter = self.scope, self.counter
        now = dt.datetime.now(dt.UTC)
        coverage = Coverage(
            scope.account_id,
            scope.region,
            outcome,
            reason,
            self.started,
            now,
            counter.calls,
            counter.retries,
            self.gaps,
        )
        return Finished(coverage, self.batch)


@dataclass(frozen=True, slots=True)
class CollectOptions:
    """What to collect in a scope, as configured."""

    resource_types: tuple[ResourceType, ...] = RESOURCE_TYPES
    aws_managed_key_details: bool = False
    iam: bool = False
    resource_policies: bool = True
    excludes_region: Callable[[str], bool] = lambda _region: False
    home_region: str = "us-east-1"
    """The region in which global services are called."""
    empty_reason: str | None = None
    """Why listing the keys is enough while the region has none; ``None``: collect everything."""


async def collect(
    client: AwsClient,
    provider: CredentialProvider,
    scope: Scope,
    options: CollectOptions,
    counter: Counter | None = None,
) -> Collected:
    """Collect everything that is declared for one scope; ``counter`` counts the calls as they are made.

    Raises :class:`AwsError` when a service control policy denies the whole region, or when the region is not enabled.
    """
    collected = Collected(scope, counter=counter or Counter())
    runner = _StepRunner(client, provider, collected)
    if scope.region != GLOBAL and TRAIL not in options.resource_types:
        # Close the scan: earlier facts remain as last known.
        collected.batch.mark_complete(TrailScan, scope.account_id, scope.region)
    if scope.region == GLOBAL:
        await _run_all(_global_steps(runner, options))
    elif options.empty_reason is not None and await runner.is_empty(KEYS, Subject(scope, scope.region)):
        collected.empty = True
    else:
        await _collect_region(runner, options)
    collected.batch.mark_complete(Gap, scope.account_id, scope.region)
    return collected


def _global_steps(runner: _StepRunner, options: CollectOptions) -> list[Coroutine[Any, Any, None]]:
    scope, batch = runner.collected.scope, runner.collected.batch
    values = {"excludes_region": options.excludes_region, "resource_policies": options.resource_policies}
    home = Subject(scope, options.home_region, values=values)
    steps = [
        runner.run_step(resource_step(resource_type), home)
        for resource_type in options.resource_types
        if not resource_type.regional
    ]
    if options.iam:
        steps.append(runner.run_step(iam.IAM, Subject(scope, options.home_region)))
    else:
        # Close the scan: earlier facts remain as last known.
        batch.mark_complete(IamScan, scope.account_id)
    return steps


async def _collect_region(runner: _StepRunner, options: CollectOptions) -> None:
    scope = runner.collected.scope
    keys = Subject(scope, scope.region, values={"aws_managed_key_details": options.aws_managed_key_details})
    resources = Subject(scope, scope.region, values={"resource_policies": options.resource_policies})
    steps = [_step(resource_type) for resource_type in options.resource_types if resource_type.regional]
    # A service control policy that closes a region, or a region that is not enabled, denies every service: two denials are
    # enough to stop.
    aliases_error = await runner.execute(ALIASES, keys)
    probe = next((step for step in steps if step.operation.service != ALIASES.operation.service), None)
    if aliases_error is not None and aliases_error.cause in REGION_WIDE and probe is not None:
        probe_error = await runner.execute(probe, resources)
        if probe_error is not None and REGION_WIDE.get(probe_error.cause) is REGION_WIDE[aliases_error.cause]:
            cause = REGION_WIDE[aliases_error.cause]
            causes = {aliases_error.cause, probe_error.cause}
            if causes == {Cause.CREDENTIALS} and not await runner.accepts_credentials(options.home_region):
                cause = Cause.CREDENTIALS
            raise _region_denied(aliases_error, cause, (ALIASES.operation, probe.operation))
        runner.record_outcome(probe, resources, probe_error)
        steps.remove(probe)
    runner.record_outcome(ALIASES, keys, aliases_error)
    await _run_all(
        [
            runner.run_step(KEYS, keys),
            runner.run_step(KEY_STORES, resources),
            *(runner.run_step(step, resources) for step in steps),
        ]
    )


def _step(resource_type: ResourceType) -> Step:
    return cloudtrail.TRAILS if resource_type is TRAIL else resource_step(resource_type)


def _region_denied(error: AwsError, cause: Cause, denied: Sequence[Operation]) -> AwsError:
    actions = " and ".join(operation.iam_action for operation in denied)
    message = f"{actions} were denied, so the region was skipped: {error.message}"
    return AwsError(cause, error.code, message, error.retries)


@dataclass(frozen=True, slots=True)
class _StepRunner:
    client: AwsClient
    provider: CredentialProvider
    collected: Collected

    async def run_step(self, step: Step, subject: Subject) -> None:
        """Run a step for one subject, and its child steps for each item."""
        error = await self.execute(step, subject)
        self.record_outcome(step, subject, error)
        if error is not None and step.children_survive:
            await self._run_children(step, subject)

    async def execute(self, step: Step, subject: Subject) -> AwsError | None:
        """Record the items of a step and run its child steps; return the error that makes the response incomplete, if any."""
        error: AwsError | None = None
        operation = step.operation
        try:
            if operation.paging is None:
                params = parameters(operation, subject)
                response = await self.client.call(
                    self.provider, operation, subject.region, params, self.collected.counter
                )
                return await self._process(step, subject, items_of(operation, response))
            async for items in self._pages(operation, subject):
                error = await self._process(step, subject, items) or error
        except AwsError as failure:
            if failure.code not in step.operation.empty_error_codes:
                return failure
            children, invalid = _record(step, subject, [{}], self.collected.batch)
            error = error or invalid
            for child in children:
                await self._run_children(step, child)
        return error

    async def _process(self, step: Step, subject: Subject, items: Sequence[Mapping[str, Any]]) -> AwsError | None:
        children, invalid = _record(step, subject, items, self.collected.batch)
        if step.children:
            await _for_each(children, lambda child: self._run_children(step, child))
        return invalid

    def record_outcome(self, step: Step, subject: Subject, error: AwsError | None) -> None:
        """Mark a step's listing as complete, or record its error as a gap."""
        if error is not None:
            self.collected.gap(self.collected.scope.region, step.operation, subject.arn, error)
        else:
            step.mark_complete(subject, self.collected.batch)

    async def is_empty(self, step: Step, subject: Subject) -> bool:
        """Return whether a listing is complete and empty, and record that; any other result is left to the regular run."""
        try:
            async for items in self._pages(step.operation, subject):
                if items:
                    return False
        except AwsError:
            return False
        self.record_outcome(step, subject, None)
        return True

    async def accepts_credentials(self, region: str) -> bool:
        """Return whether KMS in another region accepts the credentials, with whatever permissions."""
        if region == self.collected.scope.region:
            return False
        params = parameters(ALIASES.operation, Subject(self.collected.scope, region))
        try:
            await self.client.call(self.provider, ALIASES.operation, region, params, self.collected.counter)
        except AwsError as error:
            return error.code in DENIED_CODES
        return True

    async def _run_children(self, step: Step, subject: Subject) -> None:
        # Sequentially: many subjects already run concurrently, and a task per child step would cost more than its call.
        for child in step.children:
            if self._applies(child, subject):
                await self.run_step(child, subject)

    def _applies(self, step: Step, subject: Subject) -> bool:
        reason = step.skip_reason(subject) if step.skip_reason else None
        if reason is not None and step.on_skip:
            step.on_skip(subject, reason, self.collected.batch)
        return reason is None

    async def _pages(self, operation: Operation, subject: Subject) -> Any:
        params = parameters(operation, subject)
        async for page in self.client.pages(self.provider, operation, subject.region, params, self.collected.counter):
            yield items_of(operation, page)


def _record(
    step: Step, subject: Subject, items: Sequence[Mapping[str, Any]], batch: Batch
) -> tuple[list[Subject], AwsError | None]:
    """Record the items and return the subjects of the child steps; a malformed item is skipped and returned as an error."""
    children: list[Subject] = []
    invalid: AwsError | None = None
    for item in items:
        try:
            child = step.record(subject, item, batch)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            message = f"an item of {step.operation} does not match the API model: {type(error).__name__}: {error}"
            invalid = invalid or AwsError(Cause.INVALID_RESPONSE, "MalformedItem", message)
        else:
            if child is not None:
                children.append(child)
    return children, invalid


def items_of(operation: Operation, page: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the items of a page; raises :class:`AwsError` when the response lacks the list, which is not an empty list."""
    if not operation.items:
        return [page]
    items = search(operation.items, page)
    if items is None:
        root = operation.items.split("[", maxsplit=1)[0].split(".")[0]
        has_next_page = operation.paging is not None and page.get(operation.paging.receive)
        if page.get(root) is None and not has_next_page:
            raise AwsError(
                Cause.INVALID_RESPONSE, "MissingMember", f"the response of {operation} has no {operation.items}"
            )
        return []
    return items if isinstance(items, list) else [items]


async def _run_all(coroutines: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run all coroutines concurrently; the first failure cancels the others."""
    if len(coroutines) == 1:
        await coroutines[0]
    elif coroutines:
        async with asyncio.TaskGroup() as group:
            for coroutine in coroutines:
                group.create_task(coroutine)


async def _for_each(subjects: Sequence[Subject], run: Callable[[Subject], Awaitable[None]]) -> None:
    """Run a step for every subject with limited concurrency, without a task per subject."""
    if len(subjects) == 1:
        await run(subjects[0])
        return
    remaining = iter(subjects)

    async def worker() -> None:
        for subject in remaining:
            await run(subject)

    await _run_all([worker() for _ in range(min(CONCURRENT_ITEMS, len(subjects)))])

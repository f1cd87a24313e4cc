"""Runs the declared operations of one scope and records facts and gaps. The only collection loop.

A failed step becomes a gap with its cause and does not affect other facts: its listing is not marked complete, so none of its
items is closed.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from crawler.aws.client import AwsClient, Counter, CredentialProvider, parameters
from crawler.aws.errors import AwsError, gap_row
from crawler.aws.response_validation import INVALID_ITEM, as_error, invalid_response, items_of, require
from crawler.resource_mapper import resource_step
from crawler.services import cloudtrail, iam
from crawler.services.kms import ALIASES, KEY_STORES, KEYS
from crawler.services.resource_types import RESOURCE_TYPES, TRAIL
from crawler.spec import GLOBAL, Operation, ResourceType, Scope, Step, Subject, search
from crawler.writer import Coverage, Finished
from models.aws_error_codes import DENIED_CODES
from models.store.scd2_merge import Batch
from models.tables.iam import IamScan
from models.tables.runs import Cause, Gap, Outcome
from models.tables.trails import TrailScan

T = TypeVar("T")

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
        await run_all(_global_steps(runner, options))
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
    steps = [step_of(resource_type) for resource_type in options.resource_types if resource_type.regional]
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
    await run_all(
        [
            runner.run_step(KEYS, keys),
            runner.run_step(KEY_STORES, resources),
            *(runner.run_step(step, resources) for step in steps),
        ]
    )


def step_of(resource_type: ResourceType) -> Step:
    """Return the step that collects a resource type."""
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
        listing = _Listing(step, subject, self.collected.batch)
        operation = step.operation
        try:
            if operation.paging is None:
                params = parameters(operation, subject)
                await self._process(
                    listing,
                    await self.client.call(self.provider, operation, subject.region, params, self.collected.counter),
                )
            else:
                async for page in self._pages(operation, subject):
                    await self._process(listing, page)
        except AwsError as failure:
            if failure.code not in operation.empty_error_codes:
                return failure
            if not operation.items:
                # The facts of a subject that has none; a list that does not exist is an empty list.
                step.record(subject, {}, self.collected.batch)
        error = listing.finish()
        for arn, invalid in listing.invalid_items.items():
            self.collected.gap(self.collected.scope.region, operation, arn, invalid)
        return error

    async def _process(self, listing: _Listing, page: Mapping[str, Any]) -> None:
        children = listing.record(page)
        if listing.step.children:
            await for_each(children, lambda child: self._run_children(listing.step, child))

    def record_outcome(self, step: Step, subject: Subject, error: AwsError | None) -> None:
        """Mark a step's listing as complete, or record its error as a gap."""
        if error is not None:
            self.collected.gap(self.collected.scope.region, step.operation, subject.arn, error)
        else:
            step.mark_complete(subject, self.collected.batch)

    async def is_empty(self, step: Step, subject: Subject) -> bool:
        """Return whether a listing is complete and empty, and record that; any other result is left to the regular run."""
        try:
            async for page in self._pages(step.operation, subject):
                if items_of(step.operation, page):
                    return False
        except AwsError:
            # The regular run records the error.
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

    def _pages(self, operation: Operation, subject: Subject) -> AsyncIterator[dict[str, Any]]:
        params = parameters(operation, subject)
        return self.client.pages(self.provider, operation, subject.region, params, self.collected.counter)


@dataclass(slots=True)
class _Listing:
    """Records the items of one response or listing."""

    step: Step
    subject: Subject
    batch: Batch
    error: AwsError | None = None
    """The first error that makes the listing incomplete."""
    invalid_items: dict[str, AwsError] = field(default_factory=dict)
    """The errors of items that exist, by ARN."""
    seen: set[Any] = field(default_factory=set)
    repeated: list[Mapping[str, Any]] = field(default_factory=list)

    def record(self, page: Mapping[str, Any]) -> list[Subject]:
        """Record the items of a page and return the subjects of the child steps; an invalid item is skipped."""
        step, children = self.step, []
        try:
            items = items_of(step.operation, page)
        except AwsError as error:
            self._fail(error)
            return []
        for item in items:
            try:
                require(step.operation, item)
                if step.identity:
                    identity = search(step.identity, item)
                    if identity in self.seen:
                        self.repeated.append(item)
                        continue
                    self.seen.add(identity)
                child = step.record(self.subject, item, self.batch)
            except INVALID_ITEM as error:
                self._fail(error, item)
            else:
                if child is not None:
                    children.append(child)
        return children

    def finish(self) -> AwsError | None:
        """Return why the listing is incomplete, if it is; facts that it contains twice with different values are dropped."""
        if self.repeated:
            again = Batch()
            for item in self.repeated:
                try:
                    self.step.record(self.subject, item, again)
                except INVALID_ITEM as error:
                    self._fail(error)
            if self.batch.drop_conflicts(again):
                self._fail(invalid_response(self.step.operation, "an item is listed twice with different values"))
        return self.error

    def _fail(self, error: Exception, item: Mapping[str, Any] | None = None) -> None:
        invalid = as_error(self.step.operation, error)
        if item is not None and self.step.keep is not None:
            try:
                self.invalid_items.setdefault(self.step.keep(self.subject, item, self.batch), invalid)
            except INVALID_ITEM:
                # Its identity is invalid too.
                pass
            else:
                return
        self.error = self.error or invalid


async def run_all(coroutines: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run all coroutines concurrently; the first failure cancels the others."""
    if len(coroutines) == 1:
        await coroutines[0]
    elif coroutines:
        async with asyncio.TaskGroup() as group:
            for coroutine in coroutines:
                group.create_task(coroutine)


async def for_each(items: Sequence[T], run: Callable[[T], Awaitable[None]], limit: int = CONCURRENT_ITEMS) -> None:
    """Call a function for every item with limited concurrency, without a task per item."""
    if len(items) == 1:
        await run(items[0])
        return
    remaining = iter(items)

    async def worker() -> None:
        for item in remaining:
            await run(item)

    await run_all([worker() for _ in range(min(limit, len(items)))])

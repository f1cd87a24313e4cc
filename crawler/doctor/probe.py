"""Tries the declared operations in one account: every operation once, and those of KMS on many keys. Only reads."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from crawler.aws.client import AwsClient, CredentialProvider, parameters
from crawler.aws.errors import AwsError
from crawler.aws.response_validation import INVALID_ITEM, as_error, items_of, require
from crawler.collector import REGION_WIDE, for_each, step_of
from crawler.services import iam
from crawler.services.key_last_usage import GET_KEY_LAST_USAGE
from crawler.services.kms import ALIASES, DESCRIBE_KEY, KEY_STORES, KEYS
from crawler.spec import WHOLE_SCOPE, Operation, ResourceType, Scope, Step, Subject
from models.settings.crawl import CrawlSettings
from models.store.scd2_merge import Batch
from models.tables.runs import Cause

MAX_REGIONS = 3
"""Regions in which a resource type is looked for until each of its operations was tried."""
CONCURRENT = 16
"""Regions of an account, and items of a listing, that are tried at once; the client limits the calls."""
LAST_USE = Step(GET_KEY_LAST_USAGE, lambda *_: None)
MAX_ITEMS = 20
"""Items of a listing that are looked at until each operation was tried."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A call that failed."""

    account_id: str
    region: str
    operation: Operation
    subject: str
    error: AwsError
    identity: str = ""
    """The ARN of the role or user that made the call."""

    @property
    def action(self) -> str:
        """The IAM action that allows the call."""
        return self.operation.iam_action


@dataclass(slots=True)
class AccountProbe:
    """Tries the operations of one account; ``failures`` has each call that failed."""

    client: AwsClient
    provider: CredentialProvider
    identity: str
    partition: str
    crawl: CrawlSettings
    max_keys: int
    """Keys of an account-region on which the operations of KMS are tried."""
    failures: list[Failure] = field(default_factory=list)
    tried: set[Operation] = field(default_factory=set)
    """The operations that were called, with whatever result."""
    keys: int = 0
    """Keys that were tried."""
    more_keys: int = 0
    """Account-regions that have more keys than were tried."""
    _closed: set[str] = field(default_factory=set)
    _described: dict[str, Subject] = field(default_factory=dict)
    """By region: a customer managed key that could be described."""

    async def account(self, kinds: tuple[ResourceType, ...], regions: list[str], home: str) -> None:
        """Try everything in an account with these regions to crawl; ``home`` is where global services are called."""
        account_id = self.provider.account_id
        scopes = [Scope(account_id, region, self.partition) for region in sorted(set(regions))]
        open_regions: list[str] = []

        async def keys(scope: Scope) -> None:
            if await self._keys(scope, kinds):
                open_regions.append(scope.region)

        await for_each(scopes, keys, CONCURRENT)
        open_regions.sort(key=lambda region: (region != home, region))
        for kind in kinds:
            step = step_of(kind)
            for region in open_regions[:MAX_REGIONS] if kind.regional else [home]:
                if all(each.operation in self.tried for each in step.walk()):
                    break
                values = {"resource_policies": self.crawl.secret_policies}
                await self._run(
                    step, Subject(Scope(account_id, region, self.partition), region, values=values), MAX_ITEMS
                )
        if self.crawl.iam:
            await self._run(iam.IAM, Subject(Scope(account_id, home, self.partition), home), 1)

    async def _keys(self, scope: Scope, kinds: tuple[ResourceType, ...]) -> bool:
        """Try the operations of KMS in a region; returns whether the region is open, at least in part."""
        region = scope.region
        subject = Subject(scope, region, values={"aws_managed_key_details": self.crawl.aws_managed_key_details})
        error = await self._run(ALIASES, subject, MAX_ITEMS)
        other = next((kind for kind in kinds if kind.regional and kind.listing.service != "kms"), None)
        if error is not None and error.cause in REGION_WIDE and other is not None:
            second = await self._run(step_of(other), Subject(scope, region), 0)
            cause = REGION_WIDE[error.cause]
            if second is not None and REGION_WIDE.get(second.cause) is cause:
                self._closed.add(region)
                self.tried.discard(other.listing)  # nothing can be said about it here
                self.failures = [failure for failure in self.failures if failure.region != region]
                self._fail(region, WHOLE_SCOPE, "", AwsError(cause, error.code, error.message))
                return False
        await self._run(KEYS, subject, self.max_keys)
        await self._run(KEY_STORES, Subject(scope, region), 1)
        if self.crawl.last_use.enabled and region in self._described:
            # One key: AWS allows few of these calls in a second.
            await self._run(LAST_USE, self._described[region], 1)
        return True

    async def _run(self, step: Step, subject: Subject, limit: int) -> AwsError | None:
        """Call a step's operation, and its child steps for the first items; returns the error of the operation, if any."""
        operation = step.operation
        self.tried.add(operation)
        try:
            items = await self._items(operation, subject, limit)
        except AwsError as error:
            if error.code in operation.empty_error_codes or error.cause is Cause.NOT_FOUND:
                return None
            if subject.region in self._closed:  # a bucket there
                self.tried.discard(operation)
                return error
            self._fail(subject.region, operation, subject.arn, error)
            if step.children_survive:
                await self._children(step, subject)
            return error

        async def record(item: Mapping[str, Any]) -> None:
            try:
                require(operation, item)
                child = step.record(subject, item, Batch())
            except INVALID_ITEM as error:
                self._fail(subject.region, operation, subject.arn, as_error(operation, error))
                return
            if child is not None:
                if operation is DESCRIBE_KEY and child.values.get("managed") is False:
                    self._described.setdefault(subject.region, child)
                await self._children(step, child)

        await for_each(items, record, CONCURRENT)
        return None

    async def _children(self, step: Step, subject: Subject) -> None:
        for child in step.children:
            # Each key has a policy of its own; what is denied for one resource is denied for the next one.
            if child.operation.service != "kms" and child.operation in self.tried:
                continue
            if child.skip_reason is None or child.skip_reason(subject) is None:
                await self._run(child, subject, 1)

    async def _items(self, operation: Operation, subject: Subject, limit: int) -> list[Mapping[str, Any]]:
        """The first items of a listing; a page may be empty though items follow."""
        params = parameters(operation, subject)
        is_keys = operation is KEYS.operation
        items: list[Mapping[str, Any]] = []
        async with aclosing(self.client.pages(self.provider, operation, subject.region, params)) as pages:
            async for page in pages:
                items += items_of(operation, page)
                if len(items) >= limit + is_keys:
                    break
        if is_keys:
            self.keys += min(len(items), limit)
            self.more_keys += len(items) > limit
        return items[:limit]

    def _fail(self, region: str, operation: Operation, subject: str, error: AwsError) -> None:
        self.failures.append(Failure(self.provider.account_id, region, operation, subject, error, self.identity))

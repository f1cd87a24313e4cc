"""Computes the calls of a crawl from the declared steps and the size of the organization, and what follows from them.

Prices, as of 2026-11: aws.amazon.com/kms/pricing (0.03 USD per 10,000 requests, 20,000 requests a month are free),
aws.amazon.com/secrets-manager/pricing (0.05 USD per 10,000 calls), aws.amazon.com/s3/pricing (us-east-1: 0.005 USD per 1,000 LIST
requests, 0.0004 USD per 1,000 others). The other services that a crawl calls do not charge for these calls.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from crawler import discovery
from crawler.aws.credentials import ASSUME_ROLE, CALLER_IDENTITY
from crawler.aws.rate_limit import DEFAULT_RATE, RATES, REFILL_SHARE, SERVICE_RATES
from crawler.services.iam import GET_ACCOUNT_AUTHORIZATION_DETAILS
from crawler.services.key_last_usage import GET_KEY_LAST_USAGE
from crawler.services.kms import ALIASES, KEY_STORES, KEYS
from crawler.spec import Operation, ResourceType
from models.settings import Settings
from models.settings.crawl import CrawlSettings

PRICES: Final[Mapping[str, float]] = {"kms": 0.03 / 10_000, "secretsmanager": 0.05 / 10_000, "s3": 0.0004 / 1_000}
"""USD per call."""
LIST_BUCKETS_PRICE: Final = 0.005 / 1_000
KMS_FREE_PER_MONTH: Final = 20_000
"""Requests that AWS does not charge in each month, for all uses of KMS together."""
CPU_SECONDS_PER_CALL: Final = 0.0005
"""Measured, rounded up (docs/benchmarks.md)."""
LATENCY: Final = 0.1
"""Seconds that a call takes, assumed."""
SLOWEST: Final = 3
"""The factor by which a crawl may take longer than its largest bound: retries, throttling, skewed sizes."""
RUNS_PER_MONTH: Final = 30


@dataclass(frozen=True, slots=True)
class Size:
    """The size of what is crawled: expected numbers, or one end of a range."""

    accounts: int
    account_regions: int
    """Enabled regions, summed over the accounts."""
    keys: float
    """Customer managed keys."""
    aws_keys: float
    """AWS managed keys."""
    largest_region_keys: float
    """Customer managed keys of the largest account-region."""
    resources: Mapping[str, float] = field(default_factory=dict)
    """Resources by CloudFormation type, of types with calls for each resource."""
    units: int = 0
    """Organizational units."""
    active_regions: int | None = None
    """Account-regions with keys or resources; None if unknown: then all of them count as active."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The estimate of one run."""

    calls: Mapping[str, float]
    """By operation, with its service."""
    seconds: float
    """The lower bound of the duration, without the polling of the last use."""
    last_use_seconds: float
    """The time that the polling of the last use takes, beside the rest and up to its limit after it."""
    bound: str
    """What the duration depends on."""
    cost: float
    """USD, without the free requests of KMS."""
    kms_calls: float

    @property
    def total(self) -> float:
        """All calls."""
        return sum(self.calls.values())


def estimate(size: Size, kinds: Iterable[ResourceType], settings: Settings, *, first: bool) -> Estimate:
    """Return the estimate of the first run, or of a later one, which polls empty regions for keys only."""
    calls = _calls(size, tuple(kinds), settings, first=first)
    crawl = settings.crawl
    share = crawl.quota_share_percent / 100
    per_second = share * REFILL_SHARE
    processes = crawl.processes or 1
    bounds = {
        "processor time": sum(calls.values()) * CPU_SECONDS_PER_CALL / processes,
        "round trips": sum(calls.values()) * LATENCY / (crawl.concurrency * processes),
        "listing the organization": sum(
            count / (rate(name) * per_second) for name, count in calls.items() if name.startswith("organizations:")
        ),
        "assuming the roles": calls[str(ASSUME_ROLE)] / (rate(str(ASSUME_ROLE)) * per_second),
    }
    slowest = min((operation for operation, _ in _of_keys(crawl)), key=lambda operation: rate(str(operation)))
    bounds[f"{slowest} in the largest account-region"] = size.largest_region_keys / (rate(str(slowest)) * per_second)
    bound = max(bounds, key=lambda name: bounds[name])
    polled = min(size.largest_region_keys, crawl.last_use.max_keys_per_run) if crawl.last_use.enabled else 0
    if not first:
        polled /= crawl.last_use.interval_days
    last_use = polled / (rate(str(GET_KEY_LAST_USAGE)) * per_second)
    kms = sum(count for name, count in calls.items() if name.startswith("kms:"))
    cost = sum(count * _price(name) for name, count in calls.items())
    return Estimate(calls, bounds[bound], last_use, bound, cost, kms)


def duration(run: Estimate, crawl: CrawlSettings) -> tuple[float, float]:
    """Return the shortest and the longest expected duration in seconds."""
    longest = run.seconds * SLOWEST
    waits = min(max(run.last_use_seconds - run.seconds, 0), crawl.last_use.max_minutes * 60)
    return max(run.seconds + waits, 1), max(longest + waits, 1)


def rate(operation: str) -> float:
    """Return the quota of an operation in calls per second, in an account-region; conservative where none is published."""
    return RATES.get(operation) or SERVICE_RATES.get(operation.partition(":")[0], DEFAULT_RATE)


def monthly_cost(run: Estimate) -> tuple[float, float]:
    """Return the cost of a month of daily runs in USD: with all free requests of KMS left for them, and without any."""
    cost = run.cost * RUNS_PER_MONTH
    return max(cost - min(run.kms_calls * RUNS_PER_MONTH, KMS_FREE_PER_MONTH) * PRICES["kms"], 0), cost


def scaled(size: Size, factor: float) -> Size:
    """Return a size with more or fewer keys and resources in the same accounts and regions."""
    return replace(
        size,
        keys=size.keys * factor,
        largest_region_keys=size.largest_region_keys * factor,
        resources={name: count * factor for name, count in size.resources.items()},
    )


def _calls(size: Size, kinds: tuple[ResourceType, ...], settings: Settings, *, first: bool) -> dict[str, float]:
    crawl = settings.crawl
    calls: dict[str, float] = {}

    def add(operation: Operation, count: float) -> None:
        if count:
            calls[str(operation)] = calls.get(str(operation), 0) + count

    add(CALLER_IDENTITY, 1)
    add(ASSUME_ROLE, size.accounts)
    add(discovery.DESCRIBE_REGIONS, size.accounts)
    if settings.organization.source == "organizations":
        pages = math.ceil(size.accounts / 20)
        add(discovery.DESCRIBE_ORGANIZATION, 1)
        add(discovery.LIST_ACCOUNTS, pages)
        add(discovery.LIST_ROOTS, 1)
        add(discovery.LIST_UNITS, 1 + size.units)
        if settings.organization.include.tags or settings.organization.exclude.tags:
            add(discovery.LIST_ACCOUNT_TAGS, size.accounts)
    regions: float = size.account_regions
    empty = 0.0
    if not first and crawl.empty_region_rescan_days and size.active_regions is not None:
        # An empty region is scanned completely once in this number of days.
        empty = (regions - size.active_regions) * (1 - 1 / crawl.empty_region_rescan_days)
    full = regions - empty
    add(KEYS.operation, regions)
    for step in (ALIASES, KEY_STORES):
        add(step.operation, full)
    for kind in kinds:
        add(kind.listing, full if kind.regional else size.accounts)
        for operation in per_item(kind, crawl):
            add(operation, size.resources.get(kind.name, 0))
    if crawl.iam:
        add(GET_ACCOUNT_AUTHORIZATION_DETAILS, size.accounts)
    for operation, of_aws_keys in _of_keys(crawl):
        add(operation, size.keys + (size.aws_keys if of_aws_keys else 0))
    if crawl.last_use.enabled:
        add(GET_KEY_LAST_USAGE, size.keys if first else size.keys / crawl.last_use.interval_days)
    return calls


def per_item(kind: ResourceType, crawl: CrawlSettings) -> tuple[Operation, ...]:
    """Return the operations that are called for each resource of a type."""
    operations = (kind.detail, kind.tags_operation, kind.policy_operation, *kind.extra_operations)
    return tuple(
        operation
        for operation in operations
        if operation is not None and (crawl.secret_policies or operation is not kind.policy_operation)
    )


def _of_keys(crawl: CrawlSettings) -> list[tuple[Operation, bool]]:
    """The operations that are called for each customer managed key, and whether also for AWS managed keys."""
    of_aws_keys = {"DescribeKey"} | ({"GetKeyPolicy", "ListGrants"} if crawl.aws_managed_key_details else set())
    operations = [step.operation for step in KEYS.walk() if step is not KEYS]
    return [(operation, operation.name in of_aws_keys) for operation in operations]


def _price(operation: str) -> float:
    if operation == "s3:ListBuckets":
        return LIST_BUCKETS_PRICE
    return PRICES.get(operation.partition(":")[0], 0.0)

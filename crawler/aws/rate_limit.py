"""Politeness: a token bucket per account, region and operation, at a share of what AWS grants the account.

The quotas are the account's own and are shared with its production: AWS counts the calls of all principals and services
together. So a share of each is ours by default, less when AWS throttles, slowly more again when it does not.
Sources of the rates: AWS KMS developer guide, "Request quotas" (per operation, account and region); Amazon EC2 API throttling
guide (non-mutating calls); AWS Account Management quotas. Services that publish none have a cautious rate of ours.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from functools import cache

from crawler.spec import Operation

RATES = {
    "kms:DescribeKey": 2000.0,
    "kms:ListResourceTags": 2000.0,
    "kms:GetKeyPolicy": 1000.0,
    "kms:GetKeyRotationStatus": 1000.0,
    "kms:ListKeys": 500.0,
    "kms:ListAliases": 500.0,
    "kms:ListGrants": 100.0,
    "kms:ListKeyRotations": 100.0,
    "kms:DescribeCustomKeyStores": 5.0,
    "kms:GetKeyLastUsage": 5.0,
    "secretsmanager:ListSecrets": 100.0,
    "secretsmanager:GetResourcePolicy": 50.0,
    "ec2:DescribeRegions": 20.0,
    "account:ListRegions": 5.0,
}
"""Documented calls a second."""
SERVICE_RATES = {"sts": 600.0, "rds": 10.0, "elasticache": 10.0, "s3": 100.0, "organizations": 10.0, "iam": 5.0}
"""Calls a second for all operations of a service together: STS as it is known to be, cautious where nothing is published."""
OTHERWISE = 10.0

WINDOW = 10.0
"""Seconds of which no stretch holds more calls than our share."""
STEADY = 0.9
"""Of our share; the rest is what a full bucket may let through at once."""
NARROWEST = 1 / 4
WIDENING = 1.05
"""A call that was not throttled widens a narrowed bucket by so much."""
ENOUGH = 1 - 1e-9
"""A whole call, but for what is lost in adding up fractions of it."""


@dataclass(slots=True, eq=False)
class Bucket:
    """Calls that may be made: ``rate`` more each second, at most ``size`` saved up. ``level`` is what is left at time ``at``."""

    rate: float
    size: float
    level: float
    at: float
    factor: float = 1.0
    """Narrower than the rate since AWS throttled, down to :data:`NARROWEST`."""
    waiting: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Whose turn it is to wait for the next call, so that calls leave in the order in which they came."""

    def take(self, now: float) -> bool:
        """Take one call, if there is one."""
        level = self._filled(now)
        if level < ENOUGH:
            return False
        self.level = level - 1.0
        return True

    def delay(self, now: float) -> float:
        """Seconds until there will be a call to take; 0 when there is one."""
        level = self._filled(now)
        return 0.0 if level >= ENOUGH else (1.0 - level) / (self.rate * self.factor)

    def fills_in(self, now: float) -> float:
        """Seconds until a new bucket in its place would let through no more than this one, if nobody asks; 0: it is full."""
        left = (self.size - self._filled(now)) / (self.rate * self.factor)
        return max(left, WINDOW) if self.waiting else left

    def throttled(self) -> None:
        """AWS had enough: half as fast from here on."""
        self.factor = max(NARROWEST, self.factor / 2)

    def accepted(self) -> None:
        """AWS took the call: a narrowed bucket widens a little."""
        if self.factor < 1.0:
            self.factor = min(1.0, self.factor * WIDENING)

    def _filled(self, now: float) -> float:
        self.level = min(self.size, self.level + (now - self.at) * self.rate * self.factor)
        self.at = now
        return self.level


class Pace:
    """The buckets of one process. ``share`` is ours of each quota, 0 to 1."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._buckets: dict[str, dict[tuple[str, str | Operation], Bucket]] = {}
        self._left: dict[str, float] = {}
        """Accounts that are done, and when the last of their buckets will be full again."""

    def bucket(self, account_id: str, region: str, operation: Operation, now: float) -> Bucket:
        """What limits an operation there; ``now`` is the event loop's time."""
        buckets = self._buckets.get(account_id)
        if buckets is None:
            buckets = self._buckets[account_id] = {}
        found = buckets.get((region, operation))
        if found is None:
            group = _group(operation)
            found = buckets.get((region, group))
            if found is None:
                found = buckets[region, group] = _new(
                    self._share * RATES.get(group, SERVICE_RATES.get(group, OTHERWISE)), now
                )
            # By the operation itself too: that is found without putting its name together at each call.
            buckets[region, operation] = found
        return found

    def forget(self, account_id: str, now: float) -> None:
        """Drop the buckets of an account that is done, so that memory does not grow with the organization.

        One that is not full stays until it is: a new one would let through at once what this one holds back.
        """
        self._left[account_id] = now
        for left, due in list(self._left.items()):
            if due > now:
                continue
            buckets = self._buckets.get(left, {})
            kept = {key: (bucket, wait) for key, bucket in buckets.items() if (wait := bucket.fills_in(now)) > 0}
            if kept:
                self._buckets[left] = {key: bucket for key, (bucket, _) in kept.items()}
                self._left[left] = now + max(wait for _, wait in kept.values())
            else:
                self._buckets.pop(left, None)
                del self._left[left]


def _new(ours: float, now: float) -> Bucket:
    """A full bucket that lets through ``ours`` calls a second, counted over any :data:`WINDOW`."""
    if ours >= 1.0:
        return Bucket(ours * STEADY, ours, ours, now)
    # One at a time, so many in a window as it may hold; less than one in a window: one, and then none for longer.
    whole = math.floor(ours * WINDOW + 1e-9) / WINDOW
    return Bucket(whole or ours, 1.0, 1.0, now)


@cache
def _group(operation: Operation) -> str:
    """What shares a bucket: the operation, or its whole service where only that has a rate."""
    return operation.service if operation.service in SERVICE_RATES else str(operation)

"""Politeness: a token bucket per account, region and operation, at a share of what AWS grants the account.

The quotas are the account's own and are shared with its production: AWS counts the calls of all principals and services
together. So a share of each is ours by default, less when AWS throttles, slowly more again when it does not.
Sources of the rates: AWS KMS developer guide, "Request quotas" (per operation, account and region); Amazon EC2 API throttling
guide (non-mutating calls); AWS Account Management quotas. Services that publish none have a cautious rate of ours.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass

from crawler.declare import Operation

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
    "ec2:DescribeRegions": 20.0,
    "account:ListRegions": 5.0,
    "sts:AssumeRole": 600.0,
}
"""Documented calls a second."""
SERVICE_RATES = {"rds": 10.0, "elasticache": 10.0, "s3": 100.0, "organizations": 10.0}
"""Cautious calls a second for all operations of a service together, where nothing is published."""
OTHERWISE = 10.0

STEADY = 0.9
"""Of our share; the rest is what a full bucket may let through at once, so that no ten seconds exceed the share."""
NARROWEST = 1 / 4
WIDENING = 1.05
"""A call that was not throttled widens a narrowed bucket by so much."""


@dataclass(slots=True)
class _Bucket:
    """``level`` may go below zero: that is how long the next caller has to wait."""

    rate: float
    size: float
    level: float
    at: float
    factor: float = 1.0

    def take(self, now: float) -> float:
        """Take one call; the seconds to wait before it may be made."""
        rate = self.rate * self.factor
        self.level = min(self.size, self.level + (now - self.at) * rate) - 1.0
        self.at = now
        return max(0.0, -self.level / rate)


class Pace:
    """The buckets of one process. ``share`` is ours of each quota, 0 to 1."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._buckets: dict[str, dict[tuple[str, str], _Bucket]] = defaultdict(dict)

    async def wait(self, account_id: str, region: str, operation: Operation) -> None:
        """Return when the call may be made."""
        now = asyncio.get_running_loop().time()
        delay = self._bucket(account_id, region, operation, now).take(now)
        if delay > 0:
            await asyncio.sleep(delay)

    def throttled(self, account_id: str, region: str, operation: Operation) -> None:
        """AWS had enough: half as fast from here on."""
        bucket = self._bucket(account_id, region, operation, asyncio.get_running_loop().time())
        bucket.factor = max(NARROWEST, bucket.factor / 2)

    def accepted(self, account_id: str, region: str, operation: Operation) -> None:
        """AWS took the call: a narrowed bucket widens a little."""
        bucket = self._buckets[account_id].get((region, _group(operation)))
        if bucket is not None and bucket.factor < 1.0:
            bucket.factor = min(1.0, bucket.factor * WIDENING)

    def forget(self, account_id: str) -> None:
        """Drop the buckets of an account that is done, so that memory does not grow with the organization."""
        self._buckets.pop(account_id, None)

    def _bucket(self, account_id: str, region: str, operation: Operation, now: float) -> _Bucket:
        group = _group(operation)
        buckets = self._buckets[account_id]
        found = buckets.get((region, group))
        if found is None:
            ours = self._share * RATES.get(group, SERVICE_RATES.get(group, OTHERWISE))
            size = max(1.0, ours)
            found = buckets[region, group] = _Bucket(ours * STEADY, size, size, now)
        return found


def _group(operation: Operation) -> str:
    """What shares a bucket: the operation, or its whole service where only that has a rate."""
    return operation.service if operation.service in SERVICE_RATES else str(operation)

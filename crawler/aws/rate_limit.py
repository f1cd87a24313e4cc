"""Rate limiting: a token bucket per account, region and operation, at a share of the AWS quota.

AWS counts the calls of all principals and services of an account against its quotas, production included. The crawler uses a
share of each quota, halves it when AWS throttles, and slowly raises it again afterwards.
Sources of the rates: AWS KMS developer guide, "Request quotas" (per operation, account and region); Amazon EC2 API throttling
guide (non-mutating calls); AWS Account Management quotas. Services without published quotas have a conservative rate.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
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
    "secretsmanager:DescribeSecret": 10_000.0,
    "ec2:DescribeRegions": 20.0,
    "account:ListRegions": 5.0,
}
"""Documented quotas in calls per second."""
SERVICE_RATES = {"sts": 600.0, "rds": 10.0, "elasticache": 10.0, "s3": 100.0, "organizations": 10.0, "iam": 5.0}
"""Calls per second for all operations of a service: the known rate of STS, conservative rates where none is published."""
DEFAULT_RATE = 10.0

WINDOW = 10.0
"""Seconds over which the share of the quota is never exceeded."""
REFILL_SHARE = 0.9
"""The share of the rate at which a bucket refills; the rest allows for the burst of a full bucket."""
MIN_FACTOR = 1 / 4
RECOVERY_FACTOR = 1.05
"""The factor by which a successful call raises a reduced rate."""
TICK = 0.1
"""Seconds."""
MIN_BURST = 2.0
"""Buckets of this size hold the tokens that arrive before the next tick."""
FULL_TOKEN = 1 - 1e-9
"""One token, less rounding errors."""


@dataclass(slots=True, eq=False)
class Bucket:
    """A token bucket: ``rate`` tokens per second, at most ``size``; ``level`` is the number of tokens at time ``at``."""

    rate: float
    size: float
    level: float
    at: float
    factor: float = 1.0
    """The reduction of the rate after throttling, at least :data:`MIN_FACTOR`."""
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)
    """The calls that wait for a token, in order of arrival."""

    def take(self, now: float) -> bool:
        """Take a token if one is available."""
        level = self._refill(now)
        if level < FULL_TOKEN:
            return False
        self.level = level - 1.0
        return True

    def delay(self, now: float) -> float:
        """Return the seconds after which waiting calls continue, 0 if there is a token.

        Buckets continue at common ticks, each with all of its tokens: many calls in one turn of the event loop cost much less
        than one in each. No token is lost meanwhile.
        """
        level = self._refill(now)
        if level >= FULL_TOKEN:
            return 0.0
        delay = (1.0 - level) / (self.rate * self.factor)
        return delay if self.size < MIN_BURST else max(delay, math.ceil((now + delay) / TICK - 1e-6) * TICK - now)

    def fills_in(self, now: float) -> float:
        """Return the seconds until the bucket is full if unused; a full bucket can be dropped without allowing more calls."""
        seconds = (self.size - self._refill(now)) / (self.rate * self.factor)
        return max(seconds, WINDOW) if self.waiting else seconds

    def throttled(self) -> None:
        """Halve the rate after AWS throttled a call."""
        self.factor = max(MIN_FACTOR, self.factor / 2)

    def accepted(self) -> None:
        """Raise a reduced rate slightly after a successful call."""
        if self.factor < 1.0:
            self.factor = min(1.0, self.factor * RECOVERY_FACTOR)

    def _refill(self, now: float) -> float:
        self.level = min(self.size, self.level + (now - self.at) * self.rate * self.factor)
        self.at = now
        return self.level


class RateLimiter:
    """Holds the buckets of a process; ``share`` is the used share of each quota, 0 to 1."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._buckets: dict[str, dict[tuple[str, str | Operation], Bucket]] = {}
        self._finished: dict[str, float] = {}
        """Finished accounts, and when the last of their buckets is full again."""

    def bucket(self, account_id: str, region: str, operation: Operation, now: float) -> Bucket:
        """Return the bucket of an operation; ``now`` is the time of the event loop."""
        buckets = self._buckets.get(account_id)
        if buckets is None:
            buckets = self._buckets[account_id] = {}
        bucket = buckets.get((region, operation))
        if bucket is None:
            group = _group(operation)
            bucket = buckets.get((region, group))
            if bucket is None:
                bucket = buckets[region, group] = _new_bucket(
                    self._share * RATES.get(group, SERVICE_RATES.get(group, DEFAULT_RATE)), now
                )
            # Also cache it by operation, which avoids building the name at each call.
            buckets[region, operation] = bucket
        return bucket

    def drop_account(self, account_id: str, now: float) -> None:
        """Drop the buckets of a finished account, so that memory does not grow with the organization.

        A bucket is kept until it is full: a new one would start with a burst.
        """
        self._finished[account_id] = now
        for finished, full_at in list(self._finished.items()):
            if full_at > now:
                continue
            buckets = self._buckets.get(finished, {})
            kept = {key: (bucket, wait) for key, bucket in buckets.items() if (wait := bucket.fills_in(now)) > 0}
            if kept:
                self._buckets[finished] = {key: bucket for key, (bucket, _) in kept.items()}
                self._finished[finished] = now + max(wait for _, wait in kept.values())
            else:
                self._buckets.pop(finished, None)
                del self._finished[finished]


def _new_bucket(rate: float, now: float) -> Bucket:
    """Return a full bucket for ``rate`` calls per second, measured over any :data:`WINDOW`."""
    if rate >= 1.0:
        return Bucket(rate * REFILL_SHARE, rate, rate, now)
    # Slow rates allow no burst: whole calls per window, or less than one call per window.
    whole_rate = math.floor(rate * WINDOW + 1e-9) / WINDOW
    return Bucket(whole_rate or rate, 1.0, 1.0, now)


@cache
def _group(operation: Operation) -> str:
    """Return the name of the bucket: the operation, or its service if the rate applies to the whole service."""
    return operation.service if operation.service in SERVICE_RATES else str(operation)

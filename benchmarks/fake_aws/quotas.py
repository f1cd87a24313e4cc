"""Request quotas: a token bucket for each account, region and operation, with request counters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RATES: Mapping[str, float] = {
    # Documented defaults of KMS, in requests per second, account and region.
    "kms:DescribeKey": 2000,
    "kms:ListResourceTags": 2000,
    "kms:GetKeyPolicy": 1000,
    "kms:GetKeyRotationStatus": 1000,
    "kms:ListKeys": 500,
    "kms:ListAliases": 500,
    "kms:ListGrants": 100,
    "kms:ListKeyRotations": 100,
    "kms:GetKeyLastUsage": 5,
    "kms:DescribeCustomKeyStores": 5,
    # Documented or announced.
    "account:ListRegions": 5,
    "secretsmanager:ListSecrets": 100,
    "secretsmanager:GetResourcePolicy": 50,
    "ec2:DescribeRegions": 20,
    # ASSUMPTION: AWS does not publish these rates.
    "sts:AssumeRole": 600,
    "sts:GetCallerIdentity": 600,
}
ASSUMED = 10.0
"""ASSUMPTION: requests per second for operations of RDS, ElastiCache, IAM and Organizations; AWS publishes no rates."""
UNLIMITED = frozenset({"s3:ListBuckets", "s3:GetBucketEncryption", "s3:GetBucketTagging"})
WINDOW = 10.0
"""The length of a counting window in seconds."""

Bucket = tuple[str, str, str]
"""Account, region, operation with its service."""


class Quotas:
    """All token buckets. A bucket holds the refill of one second, so short bursts up to that size pass."""

    def __init__(self) -> None:
        self._levels: dict[Bucket, tuple[float, float]] = {}
        self._windows: dict[Bucket, dict[int, list[int]]] = {}

    def take(self, bucket: Bucket, now: float, factor: float, background: Mapping[str, float]) -> bool:
        """Take a token at `now` (seconds); returns False if the request is throttled.

        `factor` scales all quotas; `background` is the share of a quota, by operation, that other workloads use.
        """
        operation = bucket[2]
        if operation in UNLIMITED:
            return True
        capacity = max(1.0, RATES.get(operation, ASSUMED) * factor)
        refill = RATES.get(operation, ASSUMED) * factor * (1.0 - background.get(operation, 0.0))
        level, then = self._levels.get(bucket, (capacity, now))
        level = min(capacity, level + (now - then) * refill)
        passes = level >= 1.0
        self._levels[bucket] = (level - 1.0 if passes else level, now)
        counted = self._windows.setdefault(bucket, {}).setdefault(int(now // WINDOW), [0, 0])
        counted[0 if passes else 1] += 1
        return passes

    def report(self) -> list[dict[str, Any]]:
        """Passed and throttled requests by bucket and ten-second window."""
        return [
            {
                "account": account,
                "region": region,
                "operation": operation,
                "window": window,
                "passed": p,
                "throttled": t,
            }
            for (account, region, operation), windows in self._windows.items()
            for window, (p, t) in sorted(windows.items())
        ]

    def clear(self) -> None:
        """Refill all buckets and reset the counters."""
        self._levels.clear()
        self._windows.clear()

"""Request quotas: a token bucket an account, region and operation, and what was asked of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RATES: Mapping[str, float] = {
    # Documented defaults of KMS, requests a second in an account and region.
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
    # ASSUMPTION: AWS publishes no rates for these.
    "sts:AssumeRole": 600,
    "sts:GetCallerIdentity": 600,
}
ASSUMED = 10.0
"""ASSUMPTION: requests a second of the operations of RDS, ElastiCache, IAM and Organizations, which AWS does not publish."""
UNLIMITED = frozenset({"s3:ListBuckets", "s3:GetBucketEncryption", "s3:GetBucketTagging"})
WINDOW = 10.0
"""Seconds over which requests are counted together."""

Bucket = tuple[str, str, str]
"""Account, region, operation with its service."""


class Quotas:
    """All buckets. A bucket holds what one second refills, so short bursts up to that pass."""

    def __init__(self) -> None:
        self._levels: dict[Bucket, tuple[float, float]] = {}
        self._windows: dict[Bucket, dict[int, list[int]]] = {}

    def take(self, bucket: Bucket, now: float, factor: float, background: Mapping[str, float]) -> bool:
        """Whether one more request passes at `now` (seconds).

        `factor` scales all quotas; `background` gives the share of an operation's quota that others in the account use up.
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
        """Requests that passed and that were throttled, a bucket and window of ten seconds."""
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
        """Full buckets, nothing counted."""
        self._levels.clear()
        self._windows.clear()

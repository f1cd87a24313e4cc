"""Counts the calls of a crawl by operation, across processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(slots=True)
class OperationCounter:
    """The calls of one operation, retries included; how many AWS throttled; the seconds that they took."""

    calls: int = 0
    throttles: int = 0
    seconds: float = 0.0

    def add(self, other: OperationCounter) -> None:
        """Add the counts of another process."""
        self.calls += other.calls
        self.throttles += other.throttles
        self.seconds += other.seconds


OperationCounters = dict[str, OperationCounter]
"""By ``service:Operation``."""


def merge(counters: OperationCounters, more: Mapping[str, OperationCounter]) -> None:
    """Add the counts of another process to counters."""
    for name, counter in more.items():
        counters.setdefault(name, OperationCounter()).add(counter)

"""A crawl of an AWS that is 60 ms away, against what it cannot do without: processors, round trips, quotas."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import replace

from benchmarks.crawl_runner import nights
from benchmarks.fake_aws.faults import Faults
from benchmarks.fake_aws.presets import DEFAULT_REGIONS, preset
from benchmarks.metrics import Figure
from crawler.aws.rate_limit import DEFAULT_RATE, RATES, SERVICE_RATES
from models.settings.crawl import CrawlSettings

LATENCY = 0.060
PROCESSES = 2
CHAIN = 8
"""Calls of a scope that wait for each other: a session, regions, aliases, keys, a key, its rotation, its rotations."""


def measure(*, quick: bool = False) -> list[Figure]:
    """Two nights with the settings that everybody has, quotas counted; the second one knows what is large, and is judged."""
    world = preset("medium", accounts=6 if quick else 150, outliers=0)
    if quick:
        world = replace(world, regions=DEFAULT_REGIONS[:3], opt_in=())
    share = CrawlSettings().quota_share_percent / 100
    # Quotas of a thousand times the size: they are counted, and never enforced.
    with nights(world, Faults(latency_ms=LATENCY * 1000, quota_factor=1000.0)) as endpoint:
        first = endpoint.crawl(processes=PROCESSES)
        endpoint.fake.control.faults(latency_ms=LATENCY * 1000, quota_factor=1000.0)
        night = endpoint.crawl(again=True, processes=PROCESSES, empty_region_rescan_days=0)
        buckets = endpoint.fake.control.buckets()
    asked: dict[tuple[str, str, str], int] = defaultdict(int)
    for bucket in buckets:
        service, group = bucket["operation"].partition(":")[0], bucket["operation"]
        asked[bucket["account"], bucket["region"], service if service in SERVICE_RATES else group] += bucket["passed"]
    quota, slowest = max(
        (calls / (share * RATES.get(group, SERVICE_RATES.get(group, DEFAULT_RATE))), f"{calls} x {group}")
        for (_, _, group), calls in asked.items()
    )
    processors = min(PROCESSES, os.cpu_count() or 1)
    cpu = (night.cpu + night.endpoint_cpu) / processors
    trips = CHAIN * LATENCY + night.calls * LATENCY / (PROCESSES * CrawlSettings().concurrency)
    bound = max(cpu, trips, quota)
    return [
        Figure("latency: calls", night.calls),
        Figure("latency: keys", night.keys),
        Figure("latency: CPU bound (crawl and endpoint, on two processors)", cpu, "s"),
        Figure("latency: bound of round trips (60 ms, calls in flight as configured)", trips, "s"),
        Figure(f"latency: quota bound ({slowest} in one account-region, at our share)", quota, "s"),
        Figure("latency: clock of the first night, which does not know what is large", first.wall, "s"),
        Figure("latency: clock", night.wall, "s"),
        Figure("latency: clock / largest bound", night.wall / bound, "", None if quick else 1.5),
    ]

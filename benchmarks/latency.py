"""A crawl with 60 ms latency, against the lower bounds of CPU, round trips and quotas."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import replace

from benchmarks.crawl_runner import crawl_runner
from benchmarks.fake_aws.faults import Faults
from benchmarks.fake_aws.presets import DEFAULT_REGIONS, preset
from benchmarks.metrics import Figure
from crawler.aws.rate_limit import DEFAULT_RATE, RATES, SERVICE_RATES
from models.settings.crawl import CrawlSettings

LATENCY = 0.060
PROCESSES = 2
CHAIN = 8
"""Sequential calls of a scope: a session, regions, aliases, keys, a key, its rotation, its rotations."""


def measure(*, quick: bool = False) -> list[Figure]:
    """Crawl twice with the default settings; the second crawl knows which scopes are large and is compared with the bounds."""
    world = preset("medium", accounts=6 if quick else 150, outliers=0)
    if quick:
        world = replace(world, regions=DEFAULT_REGIONS[:3], opt_in=())
    share = CrawlSettings().quota_share_percent / 100
    # Quotas are counted, but multiplied by 1,000 and so never reached.
    with crawl_runner(world, Faults(latency_ms=LATENCY * 1000, quota_factor=1000.0)) as runner:
        first = runner.crawl(processes=PROCESSES)
        runner.fake.control.faults(latency_ms=LATENCY * 1000, quota_factor=1000.0)
        run = runner.crawl(same_ledger=True, processes=PROCESSES, empty_region_rescan_days=0)
        buckets = runner.fake.control.buckets()
    calls_by_quota: dict[tuple[str, str, str], int] = defaultdict(int)
    for bucket in buckets:
        service, group = bucket["operation"].partition(":")[0], bucket["operation"]
        quota_group = service if service in SERVICE_RATES else group
        calls_by_quota[bucket["account"], bucket["region"], quota_group] += bucket["passed"]
    quota, slowest = max(
        (calls / (share * RATES.get(group, SERVICE_RATES.get(group, DEFAULT_RATE))), f"{calls} x {group}")
        for (_, _, group), calls in calls_by_quota.items()
    )
    processors = min(PROCESSES, os.cpu_count() or 1)
    cpu = (run.cpu + run.endpoint_cpu) / processors
    trips = CHAIN * LATENCY + run.calls * LATENCY / (PROCESSES * CrawlSettings().concurrency)
    bound = max(cpu, trips, quota)
    return [
        Figure("latency: calls", run.calls),
        Figure("latency: keys", run.keys),
        Figure("latency: CPU bound (crawl and endpoint on two processors)", cpu, "s"),
        Figure("latency: round-trip bound (60 ms, configured concurrency)", trips, "s"),
        Figure(f"latency: quota bound ({slowest} in one account-region, at the configured share)", quota, "s"),
        Figure("latency: elapsed, first run (without size estimates)", first.wall, "s"),
        Figure("latency: elapsed", run.wall, "s"),
        Figure("latency: elapsed / largest bound", run.wall / bound, "", None if quick else 1.5),
    ]

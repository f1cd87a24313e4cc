"""Throttling: 30 % of all calls to most accounts are refused. Whether the crawl ends, its price, who waits."""

from __future__ import annotations

import statistics
from dataclasses import replace

from benchmarks.crawl_runner import Night, nights
from benchmarks.fake_aws.presets import DEFAULT_REGIONS, preset
from benchmarks.metrics import Figure
from crawler.aws.client import FREE_RETRIES
from models.settings.crawl import CrawlSettings

THROTTLED = 0.3


def measure(*, quick: bool = False, pairs: int = 5) -> list[Figure]:
    """The same organization with and without trouble, in turn."""
    pairs = 1 if quick else pairs
    accounts = 4 if quick else 6
    world = preset("small", accounts=accounts, regions=DEFAULT_REGIONS[:3], opt_in=(), adversarial=False, dense=True)
    world = replace(world, keys_per_account_region=20 if quick else 150, grants_per_key=2)
    moved: list[float] = []
    with nights(world) as endpoint:
        ids = [account.id for account in endpoint.fake.world.accounts]
        # Sessions of all accounts come from the management account.
        healthy, troubled = ids[-1], [one for one in ids[:-1] if one != endpoint.fake.world.management.id]
        for number in range(pairs):
            endpoint.fake.control.faults()
            calm = endpoint.crawl(processes=1)
            endpoint.fake.control.faults(throttle=THROTTLED, accounts=troubled, seed=number)
            bad = endpoint.crawl(processes=1)
            moved.append(bad.finished[healthy] / calm.finished[healthy])
            print(
                f"trouble, pair {number + 1}: {calm.finished[healthy]:.1f} s, {bad.finished[healthy]:.1f} s", flush=True
            )
    return [
        Figure("trouble: calls without trouble", calm.calls),
        Figure("trouble: calls with 30 % throttled in most accounts", bad.calls),
        Figure("trouble: gaps more than without trouble / calls", max(0, bad.gaps - calm.gaps) / bad.calls, "", 0.0001),
        Figure("trouble: clock, calm", calm.wall, "s"),
        Figure("trouble: clock, troubled", bad.wall, "s"),
        Figure("trouble: retries / what the budget allows", bad.retries / _allowed(bad, accounts), "", 1.0),
        Figure("trouble: finish of the healthy account, troubled / calm (median)", statistics.median(moved), "", 1.1),
        Figure("trouble: the same, highest pair", max(moved)),
    ]


def _allowed(night: Night, accounts: int) -> float:
    return accounts * FREE_RETRIES + (night.calls - night.retries) * CrawlSettings().retry_budget_percent / 100

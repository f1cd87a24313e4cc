"""Fault isolation: 30 % of the calls to most accounts are throttled. Measures retries and the effect on a healthy account."""

from __future__ import annotations

import statistics
from dataclasses import replace

from benchmarks.crawl_runner import CrawlResult, crawl_runner
from benchmarks.fake_aws.presets import DEFAULT_REGIONS, preset
from benchmarks.metrics import Figure
from crawler.aws.client import FREE_RETRIES
from models.settings.crawl import CrawlSettings

THROTTLED = 0.3


def measure(*, quick: bool = False, pairs: int = 5) -> list[Figure]:
    """Crawl the same organization with and without throttling, alternately."""
    pairs = 1 if quick else pairs
    accounts = 4 if quick else 6
    world = preset("small", accounts=accounts, regions=DEFAULT_REGIONS[:3], opt_in=(), adversarial=False, dense=True)
    world = replace(world, keys_per_account_region=20 if quick else 150, grants_per_key=2)
    ratios: list[float] = []
    with crawl_runner(world) as runner:
        ids = [account.id for account in runner.fake.world.accounts]
        # The management account issues the sessions of all accounts, so it is not throttled.
        management_id, healthy = runner.fake.world.management.id, ids[-1]
        throttled_accounts = [account_id for account_id in ids[:-1] if account_id != management_id]
        for number in range(pairs):
            runner.fake.control.faults()
            calm_run = runner.crawl(processes=1)
            runner.fake.control.faults(throttle=THROTTLED, accounts=throttled_accounts, seed=number)
            troubled_run = runner.crawl(processes=1)
            ratios.append(troubled_run.finished[healthy] / calm_run.finished[healthy])
            print(
                f"fault isolation, pair {number + 1}: {calm_run.finished[healthy]:.1f} s, "
                f"{troubled_run.finished[healthy]:.1f} s",
                flush=True,
            )
    additional_gaps = max(0, troubled_run.gaps - calm_run.gaps)
    return [
        Figure("fault isolation: calls without throttling", calm_run.calls),
        Figure("fault isolation: calls with 30 % throttled in most accounts", troubled_run.calls),
        Figure("fault isolation: additional gaps / calls", additional_gaps / troubled_run.calls, "", 0.0001),
        Figure("fault isolation: elapsed, without throttling", calm_run.wall, "s"),
        Figure("fault isolation: elapsed, with throttling", troubled_run.wall, "s"),
        Figure(
            "fault isolation: retries / retry budget", troubled_run.retries / _allowed(troubled_run, accounts), "", 1.0
        ),
        Figure(
            "fault isolation: healthy account finished, with / without (median)", statistics.median(ratios), "", 1.1
        ),
        Figure("fault isolation: the same, highest pair", max(ratios)),
    ]


def _allowed(run: CrawlResult, accounts: int) -> float:
    return accounts * FREE_RETRIES + (run.calls - run.retries) * CrawlSettings().retry_budget_percent / 100

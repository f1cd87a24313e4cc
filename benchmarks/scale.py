"""A crawl of a large organization: elapsed time, CPU, and whether memory depends on the number of accounts.

Both organizations contain the giant account-region and the crowded key, so that only the number of accounts differs.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.crawl_runner import CrawlResult, crawl_runner
from benchmarks.fake_aws.presets import DEFAULT_REGIONS, preset
from benchmarks.metrics import Figure

LIMIT = 500
"""Megabytes per process."""
MAX_RATIO = 1.15
MAX_GRANTS = 500
"""Maximum of grants per key, except the crowded key."""
DESIGN_KEYS = 5_000 * 17 * 12
"""Keys in an organization of the design size: 5,000 accounts, 17 regions, 12 keys in each."""


def measure(*, quick: bool = False) -> list[Figure]:
    """Crawl organizations with 100 and 1,000 accounts."""
    small, large = (3, 9) if quick else (100, 1000)
    first, second = _crawl(small, quick=quick), _crawl(large, quick=quick)
    figures = [*_figures(small, first), *_figures(large, second)]
    budget = None if quick else LIMIT
    cpu_per_key = second.cpu / second.keys
    return [
        *figures,
        Figure(f"scale: peak memory of the largest process, {large:,} accounts", second.peak, "MB", budget),
        Figure(
            f"scale: peak memory of {large:,} / {small:,} accounts",
            second.peak / first.peak,
            "",
            None if quick else MAX_RATIO,
        ),
        Figure("scale: CPU per key, total", cpu_per_key * 1e3, "ms"),
        Figure("scale: 5,000 x 17 x 12 keys, extrapolated by keys: CPU", cpu_per_key * DESIGN_KEYS / 3600, "hours"),
        Figure(
            "scale: the same, extrapolated: elapsed on this machine",
            second.wall / second.keys * DESIGN_KEYS / 3600,
            "hours",
        ),
    ]


def _crawl(accounts: int, *, quick: bool) -> CrawlResult:
    # The assumed distribution, but without the few keys with thousands of grants: at the configured share of ListGrants,
    # they alone would determine the elapsed time. The crowded key represents them.
    world = preset("large", accounts=accounts, outliers=8, most_grants=MAX_GRANTS)
    giant_keys, giant_grants = (200, 500) if quick else (20_000, 50_000)
    if quick:
        world = replace(world, regions=DEFAULT_REGIONS[:2], opt_in=(), outliers=0)
    # The full quota: with the default share, the giant account-region alone would take 15 minutes.
    with crawl_runner(replace(world, giant_keys=giant_keys, giant_grants=giant_grants)) as runner:
        return runner.crawl(quota_share_percent=100, processes=2)


def _figures(accounts: int, run: CrawlResult) -> list[Figure]:
    name = f"scale, {accounts:,} accounts:"
    return [
        Figure(f"{name} scopes", run.scopes),
        Figure(f"{name} keys", run.keys),
        Figure(f"{name} grants", run.grants),
        Figure(f"{name} calls", run.calls),
        Figure(f"{name} gaps (all intended)", run.gaps),
        Figure(f"{name} elapsed", run.wall, "s"),
        Figure(f"{name} CPU of the crawl", run.cpu, "s"),
        Figure(f"{name} CPU of the endpoint on the same machine", run.endpoint_cpu, "s"),
        Figure(f"{name} calls per second", run.calls / run.wall),
        *(
            Figure(f"{name} peak memory of {f'worker {number}' if number else 'the main process'}", peak, "MB")
            for number, peak in enumerate(run.peaks)
        ),
    ]

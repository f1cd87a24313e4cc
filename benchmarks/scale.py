"""A crawl of a large organization: does it end, in what memory, and does the memory depend on the number of accounts.

The giant account-region and the crowded key are in both organizations, so that only the number of accounts differs.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.crawl_runner import Night, nights
from benchmarks.fake_aws.presets import DEFAULT_REGIONS, preset
from benchmarks.metrics import Figure

LIMIT = 500
"""Megabytes a process."""
FLAT = 1.15
MOST_GRANTS = 500
"""Of a key other than the crowded one."""
CALLS_OF_FIVE_THOUSAND = 5_000 * 17 * 12
"""Keys of the organization that the design is for: 5,000 accounts, 17 regions, 12 keys in each."""


def measure(*, quick: bool = False) -> list[Figure]:
    """The same kind of organization with a hundred and with a thousand accounts."""
    small, large = (3, 9) if quick else (100, 1000)
    first, second = _night(small, quick=quick), _night(large, quick=quick)
    figures = [*_told(small, first), *_told(large, second)]
    budget = None if quick else LIMIT
    a_key = second.cpu / second.keys
    return [
        *figures,
        Figure(f"scale: peak of the largest process, {large:,} accounts", second.peak, "MB", budget),
        Figure(f"scale: peak of {large:,} / {small:,} accounts", second.peak / first.peak, "", None if quick else FLAT),
        Figure("scale: CPU a key, all told", a_key * 1e3, "ms"),
        Figure(
            "scale: 5,000 x 17 x 12 keys, extrapolated by keys: CPU", a_key * CALLS_OF_FIVE_THOUSAND / 3600, "hours"
        ),
        Figure(
            "scale: the same on these processors, extrapolated: clock",
            second.wall / second.keys * CALLS_OF_FIVE_THOUSAND / 3600,
            "hours",
        ),
    ]


def _night(accounts: int, *, quick: bool) -> Night:
    # As assumed of an organization, but for the few keys with thousands of grants: at our share of ListGrants they alone
    # would make a night of it. The crowded key stands for them.
    world = preset("large", accounts=accounts, outliers=8, most_grants=MOST_GRANTS)
    giant_keys, giant_grants = (200, 500) if quick else (20_000, 50_000)
    if quick:
        world = replace(world, regions=DEFAULT_REGIONS[:2], opt_in=(), outliers=0)
    # The whole quota for its share: at a quarter of it the giant account-region alone takes a quarter of an hour.
    with nights(replace(world, giant_keys=giant_keys, giant_grants=giant_grants)) as endpoint:
        return endpoint.crawl(quota_share_percent=100, processes=2)


def _told(accounts: int, night: Night) -> list[Figure]:
    name = f"scale, {accounts:,} accounts:"
    return [
        Figure(f"{name} scopes", night.scopes),
        Figure(f"{name} keys", night.keys),
        Figure(f"{name} grants", night.grants),
        Figure(f"{name} calls", night.calls),
        Figure(f"{name} gaps, all of them planned", night.gaps),
        Figure(f"{name} clock", night.wall, "s"),
        Figure(f"{name} CPU of the crawl's processes", night.cpu, "s"),
        Figure(f"{name} CPU of the endpoint on the same processors", night.endpoint_cpu, "s"),
        Figure(f"{name} calls a second", night.calls / night.wall),
        *(
            Figure(
                f"{name} peak of {'the process that saves' if not number else f'crawling process {number}'}", peak, "MB"
            )
            for number, peak in enumerate(night.peaks)
        ),
    ]

"""Politeness: how often we are throttled where production uses most of a quota, and whether we keep to our share.

The endpoint counts the requests of each account, region and operation in windows of ten seconds.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.crawl_runner import nights
from benchmarks.fake_aws.faults import Faults
from benchmarks.fake_aws.presets import DEFAULT_REGIONS, preset
from benchmarks.fake_aws.quotas import ASSUMED, RATES, UNLIMITED, WINDOW
from benchmarks.metrics import Figure

PRODUCTION = {"kms:ListGrants": 0.6}
SHARE = 0.25


def measure(*, quick: bool = False) -> list[Figure]:
    """One crawl under enforced quotas."""
    world = preset("small", accounts=3 if quick else 8, regions=DEFAULT_REGIONS[:2], opt_in=(), adversarial=False)
    world = replace(world, giant_keys=60 if quick else 1500, dense=True)
    with nights(world, Faults(quota_factor=1.0, background=PRODUCTION)) as endpoint:
        night = endpoint.crawl(
            quota_share_percent=round(SHARE * 100), last_use={"enabled": True, "max_keys_per_run": 40 if quick else 100}
        )
        buckets = endpoint.fake.control.buckets()
    passed = sum(bucket["passed"] for bucket in buckets)
    throttled = sum(bucket["throttled"] for bucket in buckets)
    used = {bucket["operation"]: 0.0 for bucket in buckets if bucket["operation"] not in UNLIMITED}
    for bucket in buckets:
        operation = bucket["operation"]
        if operation in used:
            quota = RATES.get(operation, ASSUMED) * WINDOW
            used[operation] = max(used[operation], (bucket["passed"] + bucket["throttled"]) / quota)
    worst = max(used, key=lambda name: used[name])
    return [
        Figure("manners: calls", night.calls),
        Figure("manners: clock", night.wall, "s"),
        Figure("manners: kms:ListGrants, most of its quota in any 10 s", used["kms:ListGrants"]),
        Figure("manners: kms:GetKeyLastUsage, most of its quota in any 10 s", used.get("kms:GetKeyLastUsage", 0.0)),
        Figure(f"manners: the most of a quota in any 10 s ({worst}) / our share", used[worst] / SHARE, "", 1.0),
        Figure("manners: throttled / calls", throttled / (passed + throttled), "", 0.01),
    ]

"""Rate limits: throttled requests when production uses most of a quota, and whether a crawl keeps to its quota share.

The endpoint counts requests by account, region and operation in windows of ten seconds.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.crawl_runner import crawl_runner
from benchmarks.fake_aws.faults import Faults
from benchmarks.fake_aws.presets import DEFAULT_REGIONS, preset
from benchmarks.fake_aws.quotas import ASSUMED, RATES, UNLIMITED, WINDOW
from benchmarks.metrics import Figure

PRODUCTION = {"kms:ListGrants": 0.6}
SHARE = 0.25


def measure(*, quick: bool = False) -> list[Figure]:
    """Crawl once with enforced quotas."""
    world = preset("small", accounts=3 if quick else 8, regions=DEFAULT_REGIONS[:2], opt_in=(), adversarial=False)
    world = replace(world, giant_keys=60 if quick else 1500, dense=True)
    with crawl_runner(world, Faults(quota_factor=1.0, background=PRODUCTION)) as runner:
        run = runner.crawl(
            quota_share_percent=round(SHARE * 100), last_use={"enabled": True, "max_keys_per_run": 40 if quick else 100}
        )
        buckets = runner.fake.control.buckets()
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
        Figure("rate limits: calls", run.calls),
        Figure("rate limits: elapsed", run.wall, "s"),
        Figure("rate limits: kms:ListGrants, highest use of its quota in any 10 s", used["kms:ListGrants"]),
        Figure(
            "rate limits: kms:GetKeyLastUsage, highest use of its quota in any 10 s",
            used.get("kms:GetKeyLastUsage", 0.0),
        ),
        Figure(
            f"rate limits: highest use of a quota in any 10 s ({worst}) / configured share",
            used[worst] / SHARE,
            "",
            1.0,
        ),
        Figure("rate limits: throttled / calls", throttled / (passed + throttled), "", 0.01),
    ]

"""CPU of a whole crawl into SQLite, a call, against a boto3 script that makes the same calls; and a crawl's connections.

Every crawl and every script is a process of its own; their CPU is what the system charges them for at their end, processes of
theirs included: start-up, imports and the making of clients too. The endpoint counts the calls and the connections.

    python -m benchmarks crawling
    python -m benchmarks.crawl_cpu --pairs 9 --accounts 30
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.fake_aws.client import ROOT, FakeAws
from benchmarks.fake_aws.presets import DEFAULT_REGIONS, Parameters, preset
from benchmarks.metrics import Figure, machine, table

ALIKE = 0.05
"""The share of an operation in all calls may differ by so much between both ways."""
REGIONS = 4
READ = 8
"""Accounts that the script reads."""
KEYS = 12
"""Customer keys of an account-region, which has some AWS managed ones besides; three grants each."""


class Fleet:
    """Measured processes that talk to one endpoint."""

    def __init__(self, fake: FakeAws, folder: Path) -> None:
        self._fake = fake
        self._folder = folder
        self._made = 0

    def crawl(self, regions: str = "account", **crawl: Any) -> tuple[float, dict[str, int], int]:
        """CPU seconds, calls by operation and connections of a crawl into a new database."""
        self._made += 1
        path = self._folder / f"{self._made}.yaml"
        # The whole quota for its share: how a crawl waits is nothing to measure. Last uses are another lane, of minutes.
        told = {
            "database": f"sqlite:///{path.with_suffix('.db')}",
            "aws": {"endpoint_url": self._fake.url, "ca_bundle": str(self._fake.ca_bundle)},
            "role": {
                "name": self._fake.world.parameters.role_name,
                "external_id": self._fake.world.parameters.external_id,
            },
            # Which regions an account has is asked of the organization, five times a second, or of the account itself.
            "regions": {"source": regions},
            "crawl": {"quota_share_percent": 100, "last_use": {"enabled": False}, **crawl},
        }
        path.write_text(json.dumps(told), encoding="utf-8")  # JSON is YAML
        return self._run("benchmarks.single_crawl", str(path))

    def bare(self, *options: str) -> tuple[float, dict[str, int], int]:
        """The same of the script."""
        parameters = self._fake.world.parameters
        return self._run(
            "benchmarks.boto3_baseline",
            "--role",
            parameters.role_name,
            "--external-id",
            str(parameters.external_id),
            *options,
        )

    def _run(self, module: str, *arguments: str) -> tuple[float, dict[str, int], int]:
        control = self._fake.control
        control.reset()
        before = control.counters()["connections"]
        env = {**os.environ, **self._fake.environment(), "AWS_ENDPOINT_URL": self._fake.url}
        process = subprocess.Popen([sys.executable, "-m", module, *arguments], cwd=ROOT, env=env)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in {0, 3}:
            raise RuntimeError(f"{module} ended with {process.returncode}")
        counters = control.counters()
        # One connection is that of the second question for the counters.
        return usage.ru_utime + usage.ru_stime, counters["operations"], counters["connections"] - before - 1


def measure(*, quick: bool = False, pairs: int = 5, accounts: int = 150) -> list[Figure]:
    """Crawl and script in turn, ``pairs`` times; then crawls of a hundred and of a thousand accounts."""
    if quick:
        pairs, accounts = 1, 3
    return [*_against_a_script(quick=quick, pairs=pairs, accounts=accounts), *_connections(quick=quick)]


def _against_a_script(*, quick: bool, pairs: int, accounts: int) -> Iterator[Figure]:
    regions = DEFAULT_REGIONS[: 1 if quick else REGIONS]
    # A script costs the same for every account, so some of them tell what it costs a call.
    some = ("--accounts", str(min(accounts, READ)))
    world = preset("small", accounts=accounts, regions=regions, opt_in=(), dense=True, adversarial=False, resources=0.2)
    ways: dict[str, list[float]] = {"crawl": [], "script": [], "shared": []}
    calls: dict[str, Mapping[str, int]] = {}
    with _fleet(
        replace(world, keys_per_account_region=3 if quick else KEYS, grants_per_key=3, empty_pages=0.0)
    ) as fleet:
        for number in range(pairs):
            measured = {"crawl": fleet.crawl(), "script": fleet.bare(*some)}
            if not quick:
                measured["shared"] = fleet.bare(*some, "--shared")
            for name, (cpu, operations, _) in measured.items():
                calls[name] = operations
                ways[name].append(cpu / sum(operations.values()))
            _compare(calls["crawl"], calls["script"])
            print(f"crawl, pair {number + 1}: {ways['crawl'][-1] / ways['script'][-1]:.3f}", flush=True)
    ratios = [ours / theirs for ours, theirs in zip(ways["crawl"], ways["script"], strict=True)]
    counts = {name: sum(operations.values()) for name, operations in calls.items()}
    yield Figure(f"crawl: calls ({accounts} accounts, {len(regions)} regions; {pairs} pairs)", counts["crawl"])
    yield Figure("crawl: calls of the script, which reads some of the accounts", counts["script"])
    yield Figure("crawl: CPU of a call, all told (median)", statistics.median(ways["crawl"]) * 1e6, "us")
    yield Figure("crawl: CPU of a call of the script (median)", statistics.median(ways["script"]) * 1e6, "us")
    if ways["shared"]:
        shared = [ours / theirs for ours, theirs in zip(ways["crawl"], ways["shared"], strict=True)]
        yield Figure("crawl: the same, with shared loaders (median)", statistics.median(ways["shared"]) * 1e6, "us")
        yield Figure("crawl: crawl / script with shared loaders (median)", statistics.median(shared))
    yield Figure("crawl: crawl / script, lowest pair", min(ratios))
    yield Figure("crawl: crawl / script, highest pair", max(ratios))
    yield Figure("crawl: crawl / script (median)", statistics.median(ratios), budget=None if quick else 0.20)


def _compare(ours: Mapping[str, int], theirs: Mapping[str, int]) -> None:
    """Both must have asked the same things, as far as it matters to what a call costs."""
    for operation in {*ours, *theirs}:
        here, there = (made.get(operation, 0) / sum(made.values()) for made in (ours, theirs))
        if abs(here - there) > ALIKE:
            raise RuntimeError(
                f"not the same calls: {operation} is {here:.1%} of the crawl's, {there:.1%} of the script's"
            )


@contextmanager
def _fleet(world: Parameters) -> Iterator[Fleet]:
    with (
        tempfile.TemporaryDirectory(prefix="kmsledger-benchmark-") as folder,
        FakeAws(world, process=True, tls=Path(folder)) as fake,
    ):
        yield Fleet(fake, Path(folder))


def _connections(*, quick: bool) -> Iterator[Figure]:
    """Small accounts, so that a thousand of them can be afforded: the number of accounts is what it is about."""
    sizes = (3, 6) if quick else (100, 1000)
    opened: list[int] = []
    for accounts in sizes:
        world = preset(
            "small", accounts=accounts, regions=DEFAULT_REGIONS[:2], opt_in=(), adversarial=False, dense=True
        )
        with _fleet(replace(world, keys_per_account_region=1, grants_per_key=1, resources=0.0)) as fleet:
            _, operations, connections = fleet.crawl(
                resource_types=["AWS::SecretsManager::Secret"], processes=1, regions="ec2"
            )
            opened.append(connections)
            yield Figure(f"connections: calls of a crawl of {accounts:,} accounts", sum(operations.values()))
            yield Figure(f"connections: opened in a crawl of {accounts:,} accounts", connections)
    yield Figure(
        f"connections: {sizes[1]:,} / {sizes[0]:,} accounts", opened[1] / opened[0], budget=None if quick else 1.1
    )


def main() -> None:
    """Run with sizes of your own."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crawl_cpu")
    parser.add_argument("--pairs", type=int, default=5, help="crawls, and runs of the script")
    parser.add_argument("--accounts", type=int, default=150, help="accounts of the organization")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    options = parser.parse_args()
    figures = measure(quick=options.quick, pairs=options.pairs, accounts=options.accounts)
    print(f"\n{machine()}\n\n{table(figures)}")


if __name__ == "__main__":
    main()

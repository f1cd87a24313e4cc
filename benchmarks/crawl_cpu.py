"""CPU per call of a crawl into SQLite, against a boto3 script that makes the same calls; and connections of a crawl.

Every crawl and every script is a separate process. CPU is the total that the system accounts to it, child processes
included: also start-up, imports and client creation. The endpoint counts calls and connections.

    python -m benchmarks crawl_cpu
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

MAX_SHARE_DIFFERENCE = 0.05
"""The maximum difference of an operation's share of all calls between crawl and script."""
REGIONS = 4
BASELINE_ACCOUNTS = 8
"""Number of accounts that the script reads."""
KEYS = 12
"""Customer keys per account-region, with three grants each; AWS managed keys come on top."""


class Fleet:
    """Measured processes that use one endpoint."""

    def __init__(self, fake: FakeAws, folder: Path) -> None:
        self._fake = fake
        self._folder = folder
        self._count = 0

    def crawl(self, regions: str = "account", **crawl: Any) -> tuple[float, dict[str, int], int]:
        """CPU seconds, calls by operation and connections of a crawl into a new database."""
        self._count += 1
        path = self._folder / f"{self._count}.yaml"
        # The full quota, so that waiting does not affect the result. Last-use polling is slow by design and disabled.
        settings = {
            "database": f"sqlite:///{path.with_suffix('.db')}",
            "aws": {"endpoint_url": self._fake.url, "ca_bundle": str(self._fake.ca_bundle)},
            "role": {
                "name": self._fake.world.parameters.role_name,
                "external_id": self._fake.world.parameters.external_id,
            },
            # The regions of an account come from account:ListRegions (five calls per second) or from the account itself.
            "regions": {"source": regions},
            "crawl": {"quota_share_percent": 100, "last_use": {"enabled": False}, **crawl},
        }
        path.write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML
        return self._run("benchmarks.single_crawl", str(path))

    def run_baseline(self, *options: str) -> tuple[float, dict[str, int], int]:
        """The same for the boto3 script."""
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
        # One connection is that of the second request for the counters.
        return usage.ru_utime + usage.ru_stime, counters["operations"], counters["connections"] - before - 1


def measure(*, quick: bool = False, pairs: int = 5, accounts: int = 150) -> list[Figure]:
    """Measure crawl and script alternately, ``pairs`` times; then crawls of 100 and 1,000 accounts."""
    if quick:
        pairs, accounts = 1, 3
    return [*_against_a_script(quick=quick, pairs=pairs, accounts=accounts), *_connections(quick=quick)]


def _against_a_script(*, quick: bool, pairs: int, accounts: int) -> Iterator[Figure]:
    regions = DEFAULT_REGIONS[: 1 if quick else REGIONS]
    # The script has the same cost per account, so a few accounts are enough.
    account_limit = ("--accounts", str(min(accounts, BASELINE_ACCOUNTS)))
    world = preset("small", accounts=accounts, regions=regions, opt_in=(), dense=True, adversarial=False, resources=0.2)
    cpu_by_variant: dict[str, list[float]] = {"crawl": [], "script": [], "shared": []}
    calls: dict[str, Mapping[str, int]] = {}
    with _fleet(
        replace(world, keys_per_account_region=3 if quick else KEYS, grants_per_key=3, empty_pages=0.0)
    ) as fleet:
        for number in range(pairs):
            measured = {"crawl": fleet.crawl(), "script": fleet.run_baseline(*account_limit)}
            if not quick:
                measured["shared"] = fleet.run_baseline(*account_limit, "--shared")
            for name, (cpu, operations, _) in measured.items():
                calls[name] = operations
                cpu_by_variant[name].append(cpu / sum(operations.values()))
            _compare(calls["crawl"], calls["script"])
            print(
                f"crawl, pair {number + 1}: {cpu_by_variant['crawl'][-1] / cpu_by_variant['script'][-1]:.3f}",
                flush=True,
            )
    ratios = [ours / theirs for ours, theirs in zip(cpu_by_variant["crawl"], cpu_by_variant["script"], strict=True)]
    counts = {name: sum(operations.values()) for name, operations in calls.items()}
    yield Figure(f"crawl: calls ({accounts} accounts, {len(regions)} regions; {pairs} pairs)", counts["crawl"])
    yield Figure("crawl: calls of the script (a part of the accounts)", counts["script"])
    yield Figure("crawl: CPU per call, total (median)", statistics.median(cpu_by_variant["crawl"]) * 1e6, "us")
    yield Figure("crawl: CPU per call of the script (median)", statistics.median(cpu_by_variant["script"]) * 1e6, "us")
    if cpu_by_variant["shared"]:
        shared = [ours / theirs for ours, theirs in zip(cpu_by_variant["crawl"], cpu_by_variant["shared"], strict=True)]
        yield Figure(
            "crawl: CPU per call of the script with shared loaders (median)",
            statistics.median(cpu_by_variant["shared"]) * 1e6,
            "us",
        )
        yield Figure("crawl: crawl / script with shared loaders (median)", statistics.median(shared))
    yield Figure("crawl: crawl / script, lowest pair", min(ratios))
    yield Figure("crawl: crawl / script, highest pair", max(ratios))
    yield Figure("crawl: crawl / script (median)", statistics.median(ratios), budget=None if quick else 0.20)


def _compare(ours: Mapping[str, int], theirs: Mapping[str, int]) -> None:
    """Raise RuntimeError unless crawl and script make a similar mix of calls."""
    for operation in {*ours, *theirs}:
        our_share, their_share = (counts.get(operation, 0) / sum(counts.values()) for counts in (ours, theirs))
        if abs(our_share - their_share) > MAX_SHARE_DIFFERENCE:
            raise RuntimeError(
                f"different calls: {operation} is {our_share:.1%} of the crawl's, {their_share:.1%} of the script's"
            )


@contextmanager
def _fleet(world: Parameters) -> Iterator[Fleet]:
    with (
        tempfile.TemporaryDirectory(prefix="kmsledger-benchmark-") as folder,
        FakeAws(world, process=True, tls=Path(folder)) as fake,
    ):
        yield Fleet(fake, Path(folder))


def _connections(*, quick: bool) -> Iterator[Figure]:
    """Measure connections with small accounts, because only the number of accounts matters."""
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
    """Run with other sizes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crawl_cpu")
    parser.add_argument("--pairs", type=int, default=5, help="crawls, and runs of the script")
    parser.add_argument("--accounts", type=int, default=150, help="accounts of the organization")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    options = parser.parse_args()
    figures = measure(quick=options.quick, pairs=options.pairs, accounts=options.accounts)
    print(f"\n{machine()}\n\n{table(figures)}")


if __name__ == "__main__":
    main()

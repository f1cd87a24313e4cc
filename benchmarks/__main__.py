"""``python -m benchmarks [--quick] [name ...]``: runs benchmarks, prints one table, ends with 1 when a budget is broken."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable

from benchmarks.metrics import Figure, machine, table

BENCHMARKS = {
    "access": "who can use which key: 1,000,000 keys analysed, and analysed again after one policy changed",
    "calls": "CPU of a KMS call: through our wire, through a warmed boto3 client",
    "crawling": "CPU of a whole crawl against a bare boto3 script; connections of 100 and 1,000 accounts",
    "latency": "a crawl 60 ms away from AWS, against the bounds of processors, round trips and quotas",
    "manners": "requests throttled where production uses most of a quota; our share in any ten seconds",
    "scale": "1,000 accounts, 17 regions, 100,000 keys: clock, CPU, memory of each process",
    "mart": "the analysts' database: 1,000,000 keys with a year of history, one night of 1 % change taken over",
    "trouble": "30 % of calls throttled: retries, and what the healthy account notices of it",
    "history": "30 nights with 1 % change: rows and bytes written, on both engines",
}
"""Modules of this package by name; each has ``measure(quick) -> list[Figure]``."""


def main() -> int:
    """Run what was asked for, all of it by default."""
    names = "\n".join(f"  {name:<10} {text}" for name, text in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", epilog=names, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="name", help="which ones (all of them by default)")
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it works, proves no budget")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}")
    figures: list[Figure] = []
    for name in options.names or BENCHMARKS:
        measure: Callable[..., list[Figure]] = importlib.import_module(f"benchmarks.{name}").measure
        figures += measure(quick=options.quick)
    print(f"\n{machine()}\n\n{table(figures)}")
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())

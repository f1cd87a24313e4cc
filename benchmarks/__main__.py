"""``python -m benchmarks [--quick] [name ...]``: runs benchmarks and prints a table; exits with 1 if a budget is exceeded."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable

from benchmarks.metrics import Figure, machine, table

BENCHMARKS = {
    "access": "access analysis of 1,000,000 keys, and again after one policy changed",
    "call_cpu": "CPU per KMS call: crawler client against a warmed-up boto3 client",
    "crawl_cpu": "CPU of a crawl against a plain boto3 script; connections for 100 and 1,000 accounts",
    "latency": "a crawl with 60 ms latency, against the lower bounds of CPU, round trips and quotas",
    "rate_limits": "throttled requests when production uses most of a quota; quota share in any ten seconds",
    "scale": "1,000 accounts, 17 regions, 100,000 keys: elapsed time, CPU, memory per process",
    "nightly": "whole commands: CPU of a nightly run of 20 keys and of questions, the report of 8,000 keys, memory for 32,000",
    "mart": "the mart: 1,000,000 keys with a year of history, incremental builds after 1 % of changes",
    "fault_isolation": "30 % of calls throttled: retries, and the effect on an unaffected account",
    "history": "30 runs with 1 % of changes: rows and bytes written, on both database engines",
}
"""Modules of this package by name; each has ``measure(quick) -> list[Figure]``."""


def main() -> int:
    """Run the named benchmarks, all by default."""
    names = "\n".join(f"  {name:<15} {text}" for name, text in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", epilog=names, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="name", help="benchmarks to run (default: all)")
    parser.add_argument("--quick", action="store_true", help="small sizes: a smoke test that checks no budget")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"unknown benchmark: {', '.join(unknown)}")
    figures: list[Figure] = []
    for name in options.names or BENCHMARKS:
        measure: Callable[..., list[Figure]] = importlib.import_module(f"benchmarks.{name}").measure
        figures += measure(quick=options.quick)
    print(f"\n{machine()}\n\n{table(figures)}")
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())

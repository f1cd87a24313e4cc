"""The analysts' database of a large estate with a year of history: one night taken over, the rules, the questions.

1,000,000 keys, 3,000,000 grants, 1,000,000 resources that use keys, 365 nights in each of which 1 % of the rows changed.
Each step is a process of its own, so that its memory is its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import multiprocessing.connection
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Figure, machine, table
from benchmarks.year import Year
from models.settings import Settings
from reports.assess.run import assess
from reports.mart import refresh as stage
from reports.mart.build import build

KEYS = 1_000_000
NIGHTS = 365
REFRESH = 60
RULES = 60
LIMIT = 3000
"""Megabytes."""


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds of the clock and of the processors, and the most memory, of a process and those it started."""

    wall: float
    cpu: float
    peak: float

    def figures(self, name: str, *, wall: float | None = None, peak: float | None = None) -> list[Figure]:
        """As rows of the table."""
        return [
            Figure(f"mart: {name}, clock", self.wall, "s", wall),
            Figure(f"mart: {name}, CPU", self.cpu, "s"),
            Figure(f"mart: {name}, peak of memory", self.peak, "MB", peak),
        ]


def measure(*, quick: bool = False, keys: int = KEYS, nights: int = NIGHTS) -> list[Figure]:
    """Write the ledger, build the mart, and take over nights of 1 % change."""
    if quick:
        keys, nights = min(keys, 5000), min(nights, 20)
    with tempfile.TemporaryDirectory(prefix="kmsledger-benchmark-") as folder:
        return _measure(Year(Path(folder) / "year.db", keys, nights))


def _measure(year: Year) -> list[Figure]:
    mart = year.path.with_suffix(".duckdb")
    settings = Settings.model_validate({"database": year.url, "report": {"mart": str(mart)}})
    began = time.monotonic()
    year.write()
    assess(settings)
    year.analysed_before()
    written = time.monotonic() - began
    print(f"ledger of {year.keys:,} keys and {year.nights} nights written in {written:.0f} s", flush=True)
    whole = apart(_refresh, settings)
    print(f"built as a whole: {whole}", flush=True)
    size = mart.stat().st_size / 1e6
    full = year.keys >= KEYS and year.nights >= NIGHTS
    changed = year.night()
    assessed = apart(_assess, settings)
    taken = apart(_build, settings)
    print(f"a night taken over: {taken}", flush=True)
    year.night()
    both = apart(_refresh, settings)
    print(f"another one, with access and rules: {both}", flush=True)
    rules = max(both.wall - taken.wall - assessed.wall, 0)
    return [
        Figure("mart: keys", year.keys),
        Figure("mart: nights in the ledger", year.nights),
        Figure("mart: ledger", year.path.stat().st_size / 1e6, "MB"),
        Figure("mart: file when built as a whole", size, "MB"),
        Figure("mart: file after two nights were taken over", mart.stat().st_size / 1e6, "MB"),
        *whole.figures("built as a whole with all rules"),
        Figure("mart: rows of the ledger written in a night", changed),
        *taken.figures("a night taken over", wall=REFRESH if full else None, peak=LIMIT if full else None),
        *both.figures("a night taken over with access and all rules", peak=LIMIT if full else None),
        Figure("mart: of it all rules", rules, "s", RULES if full else None),
    ]


def apart(step: Callable[[Settings], None], settings: Settings) -> Spent:
    """Run a step in a process of its own."""
    receive, send = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_measured, args=(step, settings, send))
    process.start()
    send.close()
    try:
        found: Spent = receive.recv()
    finally:
        process.join()
    return found


def _measured(
    step: Callable[[Settings], None], settings: Settings, send: multiprocessing.connection.Connection
) -> None:
    began, cpu = time.perf_counter(), time.process_time()
    step(settings)
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    send.send(Spent(wall, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def _assess(settings: Settings) -> None:
    assess(settings)


def _build(settings: Settings) -> None:
    build(settings.database, settings.report.mart, settings)


def _refresh(settings: Settings) -> None:
    stage.refresh(settings)


def main() -> None:
    """The same in other sizes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mart")
    parser.add_argument("--keys", type=int, default=KEYS)
    parser.add_argument("--nights", type=int, default=NIGHTS)
    options = parser.parse_args()
    print(f"\n{machine()}\n\n{table(measure(keys=options.keys, nights=options.nights))}")


if __name__ == "__main__":
    main()

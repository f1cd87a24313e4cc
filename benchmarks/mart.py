"""The analysts' database of a large estate with a year of history: one night taken over, the rules, the questions.

1,000,000 keys, 3,000,000 grants, 1,000,000 resources that use keys, 365 nights in each of which 1 % of the rows changed.
Each night is a process of its own, so that its memory is its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import multiprocessing.connection
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.history_generator import Year
from benchmarks.metrics import Figure, machine, table
from models.settings import Settings
from reports.access.analysis.stage import analyze_access
from reports.answers.cookbook_loader import recipes
from reports.mart.query import ask
from reports.pipeline import draft_mart, run_rules, store_findings

KEYS = 1_000_000
NIGHTS = 365
REFRESH = 60
RULES = 60
QUESTION = 2
"""Seconds."""
LIMIT = 3000
"""Megabytes."""


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds of the clock, and of the processors."""

    wall: float
    cpu: float

    def __add__(self, other: Spent) -> Spent:
        """Both steps."""
        return Spent(self.wall + other.wall, self.cpu + other.cpu)

    def figures(self, name: str, wall: float | None = None) -> list[Figure]:
        """As rows of the table."""
        return [Figure(f"mart: {name}, clock", self.wall, "s", wall), Figure(f"mart: {name}, CPU", self.cpu, "s")]


@dataclass(slots=True)
class Process:
    """What the steps of a process took, and its memory when it was largest (MB)."""

    steps: dict[str, Spent] = field(default_factory=dict)
    peak: float = 0

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure a step."""
        began, cpu = time.perf_counter(), time.process_time()
        yield
        self.steps[name] = Spent(time.perf_counter() - began, time.process_time() - cpu)

    @property
    def refreshed(self) -> Spent:
        """The mart without access and rules: made and published."""
        return self.steps["mart"] + self.steps["publication"]

    @property
    def ruled(self) -> Spent:
        """All rules: judged, and what changed of findings kept in the ledger."""
        return self.steps["rules"] + self.steps["findings"]

    def __str__(self) -> str:
        """For the log."""
        steps = (f"{name} {one.wall:.1f} s (CPU {one.cpu:.1f} s)" for name, one in self.steps.items())
        return f"{', '.join(steps)}; {self.peak:,.0f} MB"


def measure(*, quick: bool = False, keys: int = KEYS, nights: int = NIGHTS, folder: Path | None = None) -> list[Figure]:
    """Write the ledger, build the mart, take over two nights of 1 % change, ask the cookbook's questions.

    A ``folder`` keeps ledger and mart: the next time only nights are added to them.
    """
    if quick:
        keys, nights = min(keys, 5000), min(nights, 20)
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        return _measure(Year(folder / "year.db", keys, nights))
    with tempfile.TemporaryDirectory(prefix="kmsledger-benchmark-") as temporary:
        return _measure(Year(Path(temporary) / "year.db", keys, nights))


def _measure(year: Year) -> list[Figure]:
    mart = year.path.with_suffix(".duckdb")
    settings = Settings.model_validate({"database": year.url, "report": {"mart": str(mart)}})
    figures: list[Figure] = []
    if mart.exists():
        year.go_on()
    else:
        figures = _whole(year, settings)
    full = year.keys >= KEYS and year.nights >= NIGHTS
    figures += [
        Figure("mart: keys", year.keys),
        Figure("mart: nights in the ledger", year.nights),
        Figure("mart: ledger", year.path.stat().st_size / 1e6, "MB"),
    ]
    # The second one begins from a file that a night was already taken over into.
    for name in ("a night", "the next night"):
        figures.append(Figure(f"mart: {name}, rows written to the ledger", year.night()))
        night = apart(_night, settings)
        print(f"{name}: {night}", flush=True)
        figures += [
            *night.steps["access"].figures(f"{name}, access"),
            *night.refreshed.figures(f"{name} taken over", REFRESH if full else None),
            *night.ruled.figures(f"{name}, all rules", RULES if full else None),
            *night.steps["rules"].figures(f"{name}, of it judging"),
            Figure(f"mart: {name}, peak of memory", night.peak, "MB", LIMIT if full else None),
        ]
    figures.append(Figure("mart: file after two nights", mart.stat().st_size / 1e6, "MB"))
    return figures + _questions(apart(_cookbook, settings), full=full)


def _whole(year: Year, settings: Settings) -> list[Figure]:
    began = time.monotonic()
    year.write()
    analyze_access(settings)
    year.analysed_before()
    print(f"{year.keys:,} keys and {year.nights} nights were written in {time.monotonic() - began:.0f} s", flush=True)
    whole = apart(_night, settings)
    print(f"built as a whole: {whole}", flush=True)
    return [
        Figure("mart: file when built as a whole", settings.report.mart.stat().st_size / 1e6, "MB"),
        *whole.refreshed.figures("built as a whole"),
        *whole.ruled.figures("all rules for the first time"),
        *whole.steps["rules"].figures("of it judging"),
        Figure("mart: built as a whole, peak of memory", whole.peak, "MB"),
    ]


def _questions(cookbook: Process, *, full: bool) -> list[Figure]:
    slowest = sorted(cookbook.steps.items(), key=lambda one: -one[1].wall)
    return [
        Figure("mart: questions of the cookbook", len(slowest)),
        *(Figure(f"mart: {name}", one.wall, "s", QUESTION if full else None) for name, one in slowest[:5]),
    ]


def apart(work: Callable[[Settings], Process], settings: Settings) -> Process:
    """Run steps in a process of their own."""
    receive, send = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_measured, args=(work, settings, send))
    process.start()
    send.close()
    try:
        found: Process = receive.recv()
    finally:
        process.join()
    return found


def _measured(
    work: Callable[[Settings], Process], settings: Settings, send: multiprocessing.connection.Connection
) -> None:
    process = work(settings)
    process.peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    send.send(process)


def _night(settings: Settings) -> Process:
    """The stage after a crawl, as :func:`reports.pipeline.refresh` has it."""
    process = Process()
    with process.step("access"):
        analyze_access(settings)
    with ExitStack() as stack:
        with process.step("mart"):
            mart = stack.enter_context(draft_mart(settings))
        with process.step("rules"):
            run_rules(mart, settings)
        with process.step("findings"):
            store_findings(mart, settings)
        with process.step("publication"):
            stack.close()
    return process


def _cookbook(settings: Settings) -> Process:
    """Each question as the command asks it, in a connection of its own, all rows fetched."""
    process = Process()
    given = {"vendor": "999000000000"}
    _, rows = ask(
        settings.report.mart,
        "SELECT key_arn FROM keys WHERE dependent_resources > 0 ORDER BY key_arn LIMIT 1 OFFSET 500",
    )
    given["key"] = next(iter(rows))[0]
    for recipe in recipes():
        chosen = {one.name: given[one.name] for one in recipe.parameters if one.default is None}
        with process.step(recipe.name):
            _, rows = ask(settings.report.mart, recipe.query, parameters=recipe.values(chosen))
            for _ in rows:
                pass
    return process


def main() -> None:
    """The same in other sizes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mart")
    parser.add_argument("--keys", type=int, default=KEYS)
    parser.add_argument("--nights", type=int, default=NIGHTS)
    parser.add_argument("--folder", type=Path, help="keep ledger and mart there; if they are there, add nights to them")
    options = parser.parse_args()
    figures = measure(keys=options.keys, nights=options.nights, folder=options.folder)
    print(f"\n{machine()}\n\n{table(figures)}")


if __name__ == "__main__":
    main()

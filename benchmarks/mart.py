"""The mart of a large organization with a year of history: incremental builds, rules, and cookbook queries.

1,000,000 keys, 3,000,000 grants, 1,000,000 resources that use keys, and 365 runs in each of which 1 % of the rows changed.
Each build is a separate process, so that its memory can be measured.
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

from benchmarks.browser import browser, longest_tasks
from benchmarks.history_generator import FLAW_INTERVAL, KNOWN_PARTY, HistoryLedger
from benchmarks.metrics import Figure, machine, table
from models.settings import Settings
from reports.access.analysis.stage import analyze_access
from reports.answers.cookbook_loader import recipes
from reports.html.registry import REPORTS, write
from reports.mart.connection import connect, fetch_one
from reports.mart.query import run
from reports.pipeline import draft_mart, run_rules, store_findings

KEYS = 1_000_000
RUNS = 365
REFRESH_S = 60
RULES_S = 60
QUERY = 2
"""Seconds."""
MAX_MEMORY_MB = 3000
"""Megabytes."""
REPORT_MB = 5
"""Megabytes, at any size."""
OVERVIEW_CPU_S = 30
TASK_MS = 200


@dataclass(frozen=True, slots=True)
class Cost:
    """Elapsed and CPU seconds."""

    wall: float
    cpu: float

    def __add__(self, other: Cost) -> Cost:
        """The sum of two steps."""
        return Cost(self.wall + other.wall, self.cpu + other.cpu)

    def figures(self, name: str, wall: float | None = None) -> list[Figure]:
        """The rows of the table."""
        return [Figure(f"mart: {name}, elapsed", self.wall, "s", wall), Figure(f"mart: {name}, CPU", self.cpu, "s")]


@dataclass(slots=True)
class Process:
    """The cost of each step of a process, and its peak memory in MB."""

    steps: dict[str, Cost] = field(default_factory=dict)
    peak: float = 0

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure the cost of a step."""
        began, cpu = time.perf_counter(), time.process_time()
        yield
        self.steps[name] = Cost(time.perf_counter() - began, time.process_time() - cpu)

    @property
    def mart_cost(self) -> Cost:
        """Building and publishing the mart, without access analysis and rules."""
        return self.steps["mart"] + self.steps["publication"]

    @property
    def rules_cost(self) -> Cost:
        """Evaluating all rules and storing changed findings in the ledger."""
        return self.steps["rules"] + self.steps["findings"]

    def __str__(self) -> str:
        """For the log."""
        steps = (f"{name} {cost.wall:.1f} s (CPU {cost.cpu:.1f} s)" for name, cost in self.steps.items())
        return f"{', '.join(steps)}; {self.peak:,.0f} MB"


def measure(
    *,
    quick: bool = False,
    keys: int = KEYS,
    runs: int = RUNS,
    flaw_interval: int = FLAW_INTERVAL,
    folder: Path | None = None,
) -> list[Figure]:
    """Write the ledger, build the mart, update it incrementally twice, and run the cookbook queries.

    With ``folder``, ledger and mart are kept, and the next benchmark only adds runs.
    """
    if quick:
        keys, runs = min(keys, 5000), min(runs, 5)
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        return _measure(HistoryLedger(folder / "year.db", keys, runs, flaw_interval))
    with tempfile.TemporaryDirectory(prefix="kmsledger-benchmark-") as temporary:
        return _measure(HistoryLedger(Path(temporary) / "year.db", keys, runs, flaw_interval))


def _measure(history: HistoryLedger) -> list[Figure]:
    mart = history.path.with_suffix(".duckdb")
    report = {"mart": str(mart), "directory": str(mart.parent / "reports")}
    settings = Settings.model_validate(
        {
            "database": history.url,
            "report": report,
            "known_external_parties": [{"name": "Vendor", "accounts": [KNOWN_PARTY]}],
            # No key of the organization has such a guard.
            "rules": {"disable": ["key-use-guard"]},
        }
    )
    figures: list[Figure] = []
    if mart.exists():
        history.reuse()
    else:
        figures = _full_build(history, settings)
    full = history.keys >= KEYS and history.runs >= RUNS
    figures += [
        Figure("mart: keys", history.keys),
        Figure("mart: runs in the ledger", history.runs),
        Figure("mart: ledger", history.path.stat().st_size / 1e6, "MB"),
    ]
    # The second update starts from a file that was already updated incrementally.
    for name in ("first update", "second update"):
        figures.append(Figure(f"mart: {name}, rows written to the ledger", history.run()))
        run = run_in_process(_pipeline, settings)
        print(f"{name}: {run}", flush=True)
        figures += [
            *run.steps["access"].figures(f"{name}, access"),
            *run.mart_cost.figures(f"{name}, incremental build", REFRESH_S if full else None),
            *run.rules_cost.figures(f"{name}, all rules", RULES_S if full else None),
            *run.steps["rules"].figures(f"{name}, rule evaluation only"),
            Figure(f"mart: {name}, peak memory", run.peak, "MB", MAX_MEMORY_MB if full else None),
        ]
    figures.append(Figure("mart: file after two updates", mart.stat().st_size / 1e6, "MB"))
    with connect(mart) as connection:
        problems = "SELECT count(*) FROM findings WHERE status IN ('fail', 'unknown', 'waived')"
        figures.append(Figure("mart: open problems", fetch_one(connection, problems)[0]))
    figures += _report_figures(run_in_process(_reports, settings), settings, full=history.keys >= KEYS)
    return figures + _cookbook_figures(run_in_process(_cookbook, settings), full=full)


def _full_build(history: HistoryLedger, settings: Settings) -> list[Figure]:
    began = time.monotonic()
    history.write()
    analyze_access(settings)
    history.backfill_analyses()
    print(f"{history.keys:,} keys and {history.runs} runs written in {time.monotonic() - began:.0f} s", flush=True)
    full_build = run_in_process(_pipeline, settings)
    print(f"full rebuild: {full_build}", flush=True)
    return [
        Figure("mart: file after the full rebuild", settings.report.mart.stat().st_size / 1e6, "MB"),
        *full_build.mart_cost.figures("full rebuild"),
        *full_build.rules_cost.figures("full rebuild, all rules"),
        *full_build.steps["rules"].figures("full rebuild, rule evaluation only"),
        Figure("mart: full rebuild, peak memory", full_build.peak, "MB"),
    ]


def _cookbook_figures(cookbook: Process, *, full: bool) -> list[Figure]:
    slowest = sorted(cookbook.steps.items(), key=lambda step: -step[1].wall)
    return [
        Figure("mart: cookbook queries", len(slowest)),
        *(Figure(f"mart: {name}", cost.wall, "s", QUERY if full else None) for name, cost in slowest[:5]),
    ]


def _report_figures(written: Process, settings: Settings, *, full: bool) -> list[Figure]:
    figures = [Figure("mart: reports, peak memory", written.peak, "MB")]
    for name, cost in written.steps.items():
        size = (settings.report.directory / f"kmsledger-{name}.html").stat().st_size / 1e6
        budget = OVERVIEW_CPU_S if full and name == "overview" else None
        figures += [
            Figure(f"mart: report {name}, CPU", cost.cpu, "s", budget),
            Figure(f"mart: report {name}, size", size, "MB", REPORT_MB),
        ]
    if full and browser() is not None:
        tasks = longest_tasks(settings.report.directory / "kmsledger-overview.html")
        figures.append(
            Figure("mart: report overview, longest task in Chromium, CPU", max(tasks.values()), "ms", TASK_MS)
        )
    return figures


def run_in_process(work: Callable[[Settings], Process], settings: Settings) -> Process:
    """Run steps in a separate process."""
    receive, send = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_measured, args=(work, settings, send))
    process.start()
    send.close()
    try:
        process_result: Process = receive.recv()
    finally:
        process.join()
    return process_result


def _measured(
    work: Callable[[Settings], Process], settings: Settings, send: multiprocessing.connection.Connection
) -> None:
    process = work(settings)
    process.peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    send.send(process)


def _pipeline(settings: Settings) -> Process:
    """The steps of :func:`reports.pipeline.refresh` after a crawl."""
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


def _reports(settings: Settings) -> Process:
    """Write each report."""
    process = Process()
    for report in REPORTS:
        with process.step(report.name):
            write([report], settings.report.mart, settings.report.directory, settings)
    return process


def _cookbook(settings: Settings) -> Process:
    """Run each cookbook query in its own connection, like the command, and fetch all rows."""
    process = Process()
    parameters = {"vendor": KNOWN_PARTY}
    used = "SELECT key_arn FROM keys WHERE dependent_resources > 0 ORDER BY key_arn LIMIT 1 OFFSET 500"
    with connect(settings.report.mart) as connection:
        parameters["key"] = fetch_one(connection, used)[0]
    for recipe in recipes():
        chosen = {p.name: parameters[p.name] for p in recipe.parameters if p.default is None}
        with process.step(recipe.name), connect(settings.report.mart) as connection:
            _, rows = run(connection, recipe.query, recipe.values(chosen))
            for _ in rows:
                pass
    return process


def main() -> None:
    """Run with other sizes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mart")
    parser.add_argument("--keys", type=int, default=KEYS)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument(
        "--flaw-interval", type=int, default=FLAW_INTERVAL, help="one key in this number violates rules; 1 for all keys"
    )
    parser.add_argument("--folder", type=Path, help="keep ledger and mart in this directory; if they exist, add runs")
    options = parser.parse_args()
    figures = measure(keys=options.keys, runs=options.runs, flaw_interval=options.flaw_interval, folder=options.folder)
    print(f"\n{machine()}\n\n{table(figures)}")


if __name__ == "__main__":
    main()

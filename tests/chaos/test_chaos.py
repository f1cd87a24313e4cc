"""A crawl with throttling, errors, broken connections, expiring sessions and kill -9 gives the ledger of an undisturbed crawl."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select

from benchmarks.fake_aws.client import FakeAws
from benchmarks.fake_aws.faults import Faults
from benchmarks.fake_aws.presets import preset
from models.store.engine import connect
from models.tables.runs import Run, RunStatus, ScopeCoverage
from tests.dump_tables import rows

ROOT = Path(__file__).parents[2]
KILLS = {"sqlite": 10, "postgresql": 4}
FAULTS = Faults(
    seed=11,
    throttle=0.30,
    error=0.05,
    reset=0.01,
    cut=0.01,
    hang=0.001,
    hang_seconds=10,
    truncate=0.01,
    expire_after_calls=120,
)


@dataclass
class CrashCounts:
    """The number of kills and processes in a series of runs."""

    kills: int = 0
    processes: int = 0


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeAws]:
    """An organization with all edge cases, of which 10 % of the facts change per run."""
    with FakeAws(preset("tiny", seed=5, change_rate=0.1, accounts=6, resources=0.1), process=True) as endpoint:
        yield endpoint


def settings_file(directory: Path, fake: FakeAws, database: str) -> Path:
    """Settings with enough retries for the fault rates: one in a billion calls fails permanently."""
    directory.mkdir()
    path = directory / "settings.yaml"
    path.write_text(
        f"database: {database}\n"
        f"aws: {{endpoint_url: {fake.url}, connect_timeout: 2, read_timeout: 2}}\n"
        f"role: {{external_id: {fake.world.parameters.external_id}}}\n"
        # Last-use polling takes seconds per key by design and has separate tests.
        "crawl: {max_attempts: 20, concurrency: 32, quota_share_percent: 100, last_use: {enabled: false}}\n",
        encoding="utf-8",
    )
    return path


def start(fake: FakeAws, settings: Path, *, resume: bool) -> subprocess.Popen[str]:
    """Start a crawl in a separate process."""
    command = [sys.executable, "-m", "tests.chaos.single_crawl", str(settings), *(["resume"] if resume else [])]
    env = {**os.environ, **fake.environment()}
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> None:
    """Wait for the process and assert that it succeeded."""
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def last_run(engine: Engine) -> tuple[int, str] | None:
    """Id and status of the last run."""
    with engine.connect() as connection:
        row = connection.execute(select(Run.run_id, Run.status).order_by(Run.run_id.desc()).limit(1)).first()
    return (row.run_id, row.status) if row else None


def saved(engine: Engine) -> int:
    """The number of scopes saved in all runs."""
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(ScopeCoverage)).scalar_one()


def crawl_without_faults(fake: FakeAws, settings: Path, runs: int) -> None:
    """Crawl all runs without faults."""
    for day in range(runs):
        fake.control.set_day(day)
        finish(start(fake, settings, resume=False))


def crawl_with_faults(fake: FakeAws, settings: Path, engine: Engine, kills_by_run: Sequence[int]) -> CrashCounts:
    """Crawl the same runs with all faults, and kill and resume the crawls at random moments."""
    rng = random.Random(7)  # noqa: S311 - moments, not secrets
    counts = CrashCounts()
    for day, kills in enumerate(kills_by_run):
        fake.control.set_day(day)
        fake.control.faults(FAULTS)
        remaining_kills = kills
        resume = False
        while remaining_kills:
            process = start(fake, settings, resume=resume)
            counts.processes += 1
            _wait_for_progress(process, engine, rng)
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                counts.kills += 1
                remaining_kills -= 1
            process.communicate(timeout=60)
            run = last_run(engine)
            if run is not None and run[0] == day + 1 and run[1] != RunStatus.RUNNING:
                break
            resume = run is not None and run[0] == day + 1
        else:
            finish(start(fake, settings, resume=resume))
            counts.processes += 1
        fake.control.faults()
    return counts


def _wait_for_progress(process: subprocess.Popen[str], engine: Engine, rng: random.Random) -> None:
    """Wait for at most one more saved scope, and then for a random time."""
    before, new_scopes = saved(engine), rng.choice((0, 0, 1))
    limit = time.monotonic() + 20
    while process.poll() is None and saved(engine) < before + new_scopes and time.monotonic() < limit:
        time.sleep(0.02)
    if process.poll() is None:
        time.sleep(rng.uniform(0.0, 1.0 if new_scopes == 0 else 0.2))


@pytest.mark.deep
def test_runs_with_faults_give_the_ledger_of_undisturbed_runs(
    fake: FakeAws, tmp_path: Path, ledger_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With throttles, errors, resets, timeouts, cut bodies, expiring sessions and kills, all ledger rows are the same."""
    kills = KILLS[ledger_url.partition(":")[0]] // 2
    report = _compare(fake, tmp_path, ledger_url, [kills, kills])
    with capsys.disabled():
        print(f"\nchaos: {report}")  # noqa: T201 - the metrics of this test


def _compare(fake: FakeAws, directory: Path, ledger_url: str, kills_by_run: Sequence[int]) -> str:
    """Crawl the same runs with and without faults and compare the ledgers; returns a summary."""
    reference_settings = settings_file(directory / "reference", fake, "sqlite:///ledger.db")
    crawl_without_faults(fake, reference_settings, len(kills_by_run))
    faulty_settings = settings_file(directory / "troubled", fake, ledger_url)
    reference_engine, engine = connect(f"sqlite:///{directory / 'reference' / 'ledger.db'}"), connect(ledger_url)
    fake.control.reset()
    counts = crawl_with_faults(fake, faulty_settings, engine, kills_by_run)
    accidents = sum(fake.control.counters()["accidents"].values())
    expected, actual = rows(reference_engine), rows(engine)
    reference_engine.dispose()
    engine.dispose()
    for name, expected_rows in expected.items():
        assert actual[name] == expected_rows, name
    assert counts.kills == sum(kills_by_run)
    assert accidents > 150 * len(kills_by_run)
    compared = sum(len(each) for each in expected.values())
    return (
        f"{compared} rows of {len(kills_by_run)} runs equal ({engine.dialect.name}) after {counts.kills} kills "
        f"in {counts.processes} processes and {accidents} accidents"
    )

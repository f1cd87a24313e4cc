"""A crawl through throttling, errors, broken connections, expiring sessions and kill -9 ends where a quiet one ends."""

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
KILLS = {"sqlite": 20, "postgresql": 4}
CHAOS = Faults(
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
class Chaos:
    """What a troubled series of nights went through."""

    kills: int = 0
    processes: int = 0


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeAws]:
    """An organization with everything odd in it, whose facts change by a tenth from night to night."""
    with FakeAws(preset("tiny", seed=5, change_rate=0.1, accounts=6, resources=0.1), process=True) as endpoint:
        yield endpoint


def settings_file(directory: Path, fake: FakeAws, database: str) -> Path:
    """Settings with patience enough for the odds: a call fails for good in one of a billion."""
    directory.mkdir()
    path = directory / "settings.yaml"
    path.write_text(
        f"database: {database}\n"
        f"aws: {{endpoint_url: {fake.url}, connect_timeout: 2, read_timeout: 2}}\n"
        f"role: {{external_id: {fake.world.parameters.external_id}}}\n"
        # Last uses keep a pace of seconds a key, whatever is wrong, and have tests of their own.
        "crawl: {max_attempts: 20, concurrency: 32, quota_share_percent: 100, last_use: {enabled: false}}\n",
        encoding="utf-8",
    )
    return path


def start(fake: FakeAws, settings: Path, *, resume: bool) -> subprocess.Popen[str]:
    """A crawl in a process of its own."""
    command = [sys.executable, "-m", "tests.chaos.single_crawl", str(settings), *(["resume"] if resume else [])]
    env = {**os.environ, **fake.environment()}
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> None:
    """Wait for the end, which must be a good one."""
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def last_run(engine: Engine) -> tuple[int, str] | None:
    """Number and status of the last run."""
    with engine.connect() as connection:
        row = connection.execute(select(Run.run_id, Run.status).order_by(Run.run_id.desc()).limit(1)).first()
    return (row.run_id, row.status) if row else None


def saved(engine: Engine) -> int:
    """Scopes saved in all runs so far."""
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(ScopeCoverage)).scalar_one()


def quiet_nights(fake: FakeAws, settings: Path, nights: int) -> None:
    """Every night crawled without trouble."""
    for night in range(nights):
        fake.control.set_day(night)
        finish(start(fake, settings, resume=False))


def troubled_nights(fake: FakeAws, settings: Path, engine: Engine, kills_by_night: Sequence[int]) -> Chaos:
    """The same nights with everything going wrong, killed at random moments and resumed."""
    chance = random.Random(7)  # noqa: S311 - moments, not secrets
    chaos = Chaos()
    for night, wanted in enumerate(kills_by_night):
        fake.control.set_day(night)
        fake.control.faults(CHAOS)
        kills = wanted
        resume = False
        while kills:
            process = start(fake, settings, resume=resume)
            chaos.processes += 1
            _let_it_work(process, engine, chance)
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                chaos.kills += 1
                kills -= 1
            process.communicate(timeout=60)
            run = last_run(engine)
            if run is not None and run[0] == night + 1 and run[1] != RunStatus.RUNNING:
                break
            resume = run is not None and run[0] == night + 1
        else:
            finish(start(fake, settings, resume=resume))
            chaos.processes += 1
        fake.control.faults()
    return chaos


def _let_it_work(process: subprocess.Popen[str], engine: Engine, chance: random.Random) -> None:
    """Until it has saved something more or nothing, and then a random moment longer."""
    before, wanted = saved(engine), chance.choice((0, 0, 1))
    limit = time.monotonic() + 20
    while process.poll() is None and saved(engine) < before + wanted and time.monotonic() < limit:
        time.sleep(0.02)
    if process.poll() is None:
        time.sleep(chance.uniform(0.0, 1.0 if wanted == 0 else 0.2))


@pytest.mark.deep
def test_troubled_nights_leave_the_ledger_of_quiet_ones(
    fake: FakeAws, tmp_path: Path, ledger_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """30 % throttles, 5 % errors, resets, time-outs, cut bodies, expiring sessions, 20 kills: row by row the same ledger."""
    kills = KILLS[ledger_url.partition(":")[0]] // 2
    report = _compare(fake, tmp_path, ledger_url, [kills, kills])
    with capsys.disabled():
        print(f"\nchaos: {report}")  # noqa: T201 - the figures of the one test that is about figures


def test_a_troubled_night_leaves_the_ledger_of_a_quiet_one(fake: FakeAws, tmp_path: Path, sqlite_url: str) -> None:
    """The same trouble for one night with two kills."""
    _compare(fake, tmp_path, sqlite_url, [2])


def _compare(fake: FakeAws, directory: Path, ledger_url: str, kills_by_night: Sequence[int]) -> str:
    """Crawl the same nights in quiet and in trouble; the ledgers must be equal. What was compared, in words."""
    quiet = settings_file(directory / "quiet", fake, "sqlite:///ledger.db")
    quiet_nights(fake, quiet, len(kills_by_night))
    troubled = settings_file(directory / "troubled", fake, ledger_url)
    calm, engine = connect(f"sqlite:///{directory / 'quiet' / 'ledger.db'}"), connect(ledger_url)
    fake.control.reset()
    chaos = troubled_nights(fake, troubled, engine, kills_by_night)
    accidents = sum(fake.control.counters()["accidents"].values())
    expected, found = rows(calm), rows(engine)
    calm.dispose()
    engine.dispose()
    for name, wanted in expected.items():
        assert found[name] == wanted, name
    assert chaos.kills == sum(kills_by_night)
    assert accidents > 150 * len(kills_by_night)
    compared = sum(len(each) for each in expected.values())
    return (
        f"{compared} rows of {len(kills_by_night)} nights equal ({engine.dialect.name}) after {chaos.kills} kills "
        f"in {chaos.processes} processes and {accidents} accidents"
    )

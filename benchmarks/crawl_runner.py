"""Runs a crawl as a separate process and measures elapsed time, CPU, memory per process, and the metrics in the ledger."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, func, select

from benchmarks.fake_aws.client import ROOT, FakeAws
from benchmarks.fake_aws.faults import Faults
from benchmarks.fake_aws.presets import Parameters
from models.store.engine import connect
from models.tables.keys import Key, KeyGrant
from models.tables.runs import Run, ScopeCoverage

SAMPLE_INTERVAL_S = 0.2
"""Seconds between two samples of the memory."""
MEGABYTE = 1e6


@dataclass(frozen=True, slots=True)
class CrawlResult:
    """The measurements of one crawl."""

    wall: float
    """Elapsed seconds, including the start of Python."""
    cpu: float
    """CPU seconds of all processes of the crawl."""
    endpoint_cpu: float
    """CPU seconds of the endpoint on the same machine."""
    peaks: tuple[float, ...]
    """Peak memory per process in MB; the main process is first."""
    status: str
    calls: int
    retries: int
    scopes: int
    gaps: int
    keys: int
    grants: int
    finished: dict[str, float]
    """Seconds from the start of the run to the end of the last scope, by account."""

    @property
    def peak(self) -> float:
        """Peak memory of the largest process in MB."""
        return max(self.peaks)


class CrawlRunner:
    """Crawls one organization, by default into a new ledger each time."""

    def __init__(self, fake: FakeAws, folder: Path) -> None:
        self.fake = fake
        self._folder = folder
        self._ledgers = 0

    def crawl(self, *, same_ledger: bool = False, **crawl: Any) -> CrawlResult:
        """Crawl with these settings, into the ledger of the previous crawl if ``same_ledger``.

        Last-use polling is disabled by default, because it is slow by design.
        """
        self._ledgers += not same_ledger
        path = self._folder / f"{self._ledgers}.yaml"
        parameters = self.fake.world.parameters
        settings = {
            "database": f"sqlite:///{path.with_suffix('.db')}",
            "aws": {"endpoint_url": self.fake.url, "ca_bundle": str(self.fake.ca_bundle)},
            "role": {"name": parameters.role_name, "external_id": parameters.external_id},
            "crawl": {"last_use": {"enabled": False}, **crawl},
            "log": {"level": "error"},
        }
        path.write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML
        env = {**os.environ, **self.fake.environment()}
        endpoint = _cpu(self.fake.pid)
        began = time.monotonic()
        process = subprocess.Popen([sys.executable, "-m", "benchmarks.single_crawl", str(path)], cwd=ROOT, env=env)
        peaks = _Peaks(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in {0, 3}:
            raise RuntimeError(f"the crawl ended with {process.returncode}")
        engine = connect(f"sqlite:///{path.with_suffix('.db')}")
        try:
            return CrawlResult(
                wall,
                usage.ru_utime + usage.ru_stime,
                _cpu(self.fake.pid) - endpoint,
                peaks.end(),
                **_ledger_metrics(engine),
            )
        finally:
            engine.dispose()


@contextmanager
def crawl_runner(world: Parameters, faults: Faults | None = None) -> Iterator[CrawlRunner]:
    """Start an organization with TLS in a separate process."""
    with (
        tempfile.TemporaryDirectory(prefix="kmsledger-benchmark-") as folder,
        FakeAws(world, faults, process=True, tls=Path(folder)) as fake,
    ):
        yield CrawlRunner(fake, Path(folder))


def _ledger_metrics(engine: Engine) -> dict[str, Any]:
    with engine.connect() as connection:
        last_run_id = connection.execute(select(func.max(Run.run_id))).scalar_one()
        run = connection.execute(
            select(Run.started_at, Run.status, Run.calls, Run.scopes, Run.gaps).where(Run.run_id == last_run_id)
        ).one()
        in_last_run = ScopeCoverage.run_id == last_run_id
        ends = connection.execute(
            select(ScopeCoverage.account_id, func.max(ScopeCoverage.finished_at))
            .where(in_last_run)
            .group_by(ScopeCoverage.account_id)
        )
        known_keys = select(func.count()).select_from(Key).where(Key.valid_to.is_(None))
        known_grants = select(func.count()).select_from(KeyGrant).where(KeyGrant.valid_to.is_(None))
        return {
            "status": run.status,
            "calls": run.calls,
            "scopes": run.scopes,
            "gaps": run.gaps,
            "retries": connection.execute(select(func.sum(ScopeCoverage.retries)).where(in_last_run)).scalar_one() or 0,
            "keys": connection.execute(known_keys).scalar_one(),
            "grants": connection.execute(known_grants).scalar_one(),
            "finished": {account: (end - run.started_at).total_seconds() for account, end in ends if end is not None},
        }


class _Peaks:
    """Samples the peak resident memory of a process and its children until it ends."""

    def __init__(self, process_id: int) -> None:
        self._process_id = process_id
        self._peaks_by_process: dict[int, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def end(self) -> tuple[float, ...]:
        """Stop sampling; returns the peaks in MB, the process itself first."""
        self._ended.set()
        self._thread.join()
        own = self._peaks_by_process.pop(self._process_id, 0.0)
        return (own, *self._peaks_by_process.values())

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLE_INTERVAL_S):
            for process_id in (self._process_id, *_children(self._process_id)):
                peak = _high_water(process_id)
                if peak:
                    self._peaks_by_process[process_id] = peak


def _children(process_id: int) -> list[int]:
    try:
        children = [
            int(child)
            for thread in Path(f"/proc/{process_id}/task").iterdir()
            for child in (thread / "children").read_text(encoding="ascii").split()
        ]
    except OSError:
        return []
    return [child for child in children if "resource_tracker" not in _command(child)]


def _command(process_id: int) -> str:
    try:
        return Path(f"/proc/{process_id}/cmdline").read_text(encoding="utf-8")
    except OSError:
        return "resource_tracker"


def _high_water(process_id: int) -> float:
    try:
        lines = Path(f"/proc/{process_id}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    entry = next((line for line in lines if line.startswith("VmHWM:")), "VmHWM: 0 kB")
    return int(entry.split()[1]) * 1024 / MEGABYTE


def _cpu(process_id: int) -> float:
    fields = Path(f"/proc/{process_id}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

"""A crawl as a process of its own, measured from outside: clock, CPU, memory of each process, and what the ledger then tells."""

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

LOOK = 0.2
"""Seconds between two looks at the processes' memory."""
MEGABYTE = 1e6


@dataclass(frozen=True, slots=True)
class Night:
    """One crawl."""

    wall: float
    """Seconds, the start of Python included."""
    cpu: float
    """Seconds of all its processes."""
    endpoint_cpu: float
    """Seconds of the endpoint, which shares the machine."""
    peaks: tuple[float, ...]
    """Megabytes, a process each: the crawl's own first."""
    status: str
    calls: int
    retries: int
    scopes: int
    gaps: int
    keys: int
    grants: int
    finished: dict[str, float]
    """Seconds from the run's start to the end of each account's last scope."""

    @property
    def peak(self) -> float:
        """Megabytes of the largest process."""
        return max(self.peaks)


class Nights:
    """Crawls of one organization, each into a new ledger."""

    def __init__(self, fake: FakeAws, folder: Path) -> None:
        self.fake = fake
        self._folder = folder
        self._made = 0

    def crawl(self, *, again: bool = False, **crawl: Any) -> Night:
        """Crawl with these settings, into the last crawl's ledger if ``again``.

        Last uses are asked only when they are wanted: they take minutes by design.
        """
        self._made += not again
        path = self._folder / f"{self._made}.yaml"
        parameters = self.fake.world.parameters
        told = {
            "database": f"sqlite:///{path.with_suffix('.db')}",
            "aws": {"endpoint_url": self.fake.url, "ca_bundle": str(self.fake.ca_bundle)},
            "role": {"name": parameters.role_name, "external_id": parameters.external_id},
            "crawl": {"last_use": {"enabled": False}, **crawl},
            "log": {"level": "error"},
        }
        path.write_text(json.dumps(told), encoding="utf-8")  # JSON is YAML
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
            return Night(
                wall,
                usage.ru_utime + usage.ru_stime,
                _cpu(self.fake.pid) - endpoint,
                peaks.end(),
                **_told(engine),
            )
        finally:
            engine.dispose()


@contextmanager
def nights(world: Parameters, faults: Faults | None = None) -> Iterator[Nights]:
    """An organization behind TLS, in a process of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="kmsledger-benchmark-") as folder,
        FakeAws(world, faults, process=True, tls=Path(folder)) as fake,
    ):
        yield Nights(fake, Path(folder))


def _told(engine: Engine) -> dict[str, Any]:
    with engine.connect() as connection:
        last = connection.execute(select(func.max(Run.run_id))).scalar_one()
        run = connection.execute(
            select(Run.started_at, Run.status, Run.calls, Run.scopes, Run.gaps).where(Run.run_id == last)
        ).one()
        here = ScopeCoverage.run_id == last
        ends = connection.execute(
            select(ScopeCoverage.account_id, func.max(ScopeCoverage.finished_at))
            .where(here)
            .group_by(ScopeCoverage.account_id)
        )
        known_keys = select(func.count()).select_from(Key).where(Key.valid_to.is_(None))
        known_grants = select(func.count()).select_from(KeyGrant).where(KeyGrant.valid_to.is_(None))
        return {
            "status": run.status,
            "calls": run.calls,
            "scopes": run.scopes,
            "gaps": run.gaps,
            "retries": connection.execute(select(func.sum(ScopeCoverage.retries)).where(here)).scalar_one() or 0,
            "keys": connection.execute(known_keys).scalar_one(),
            "grants": connection.execute(known_grants).scalar_one(),
            "finished": {account: (end - run.started_at).total_seconds() for account, end in ends if end is not None},
        }


class _Peaks:
    """Looks at the resident memory of a process and its children until it ends; the kernel keeps the highest."""

    def __init__(self, process_id: int) -> None:
        self._process_id = process_id
        self._found: dict[int, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def end(self) -> tuple[float, ...]:
        """Megabytes, the process itself first."""
        self._ended.set()
        self._thread.join()
        own = self._found.pop(self._process_id, 0.0)
        return (own, *self._found.values())

    def _look(self) -> None:
        while not self._ended.wait(LOOK):
            for process_id in (self._process_id, *_children(self._process_id)):
                peak = _high_water(process_id)
                if peak:
                    self._found[process_id] = peak


def _children(process_id: int) -> list[int]:
    try:
        found = [
            int(child)
            for thread in Path(f"/proc/{process_id}/task").iterdir()
            for child in (thread / "children").read_text(encoding="ascii").split()
        ]
    except OSError:
        return []
    return [child for child in found if "resource_tracker" not in _command(child)]


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
    found = next((line for line in lines if line.startswith("VmHWM:")), "VmHWM: 0 kB")
    return int(found.split()[1]) * 1024 / MEGABYTE


def _cpu(process_id: int) -> float:
    fields = Path(f"/proc/{process_id}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

"""The same night on several processes and on a Dask cluster, some of which die, is the night of one process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from sqlalchemy import Engine, func, select

from models.store.engine import connect
from models.tables.runs import ScopeCoverage
from tests.dump_tables import rows
from tests.end_to_end.conftest import House


def _finish(crawl: subprocess.Popen[str]) -> str:
    _, errors = crawl.communicate(timeout=240)
    assert crawl.returncode == 3, errors
    return errors


def _saved(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(ScopeCoverage)).scalar_one()


def _wait_for_scopes(engine: Engine, crawl: subprocess.Popen[str], wanted: int) -> None:
    """Until the crawl has saved some scopes and has not ended."""
    limit = time.monotonic() + 90
    while _saved(engine) < wanted:
        assert crawl.poll() is None, crawl.communicate()
        assert time.monotonic() < limit
        time.sleep(0.02)


def _children(process_id: int) -> list[int]:
    """The crawling processes of a crawl."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
            command = (entry / "cmdline").read_text(encoding="utf-8")
        except OSError:
            continue
        if parent == process_id and "spawn_main" in command:
            found.append(int(entry.name))
    return found


def _assert_same(house: House, reference: House, engine: Engine) -> None:
    expected_engine = connect(f"sqlite:///{reference.directory / 'ledger.db'}")
    expected, found = rows(expected_engine), rows(engine)
    expected_engine.dispose()
    assert house.directory != reference.directory
    for name, wanted in expected.items():
        assert found[name] == wanted, name


@pytest.mark.deep
def test_a_process_killed_half_way_costs_nothing_but_time(fresh: House, crawled: House) -> None:
    """Two crawling processes, one of them killed: its scopes are crawled again and the ledger is that of one process."""
    fresh.change(crawl={"processes": 2})
    engine = connect(f"sqlite:///{fresh.directory / 'ledger.db'}")
    crawl = fresh.start("crawl")
    while not (fresh.directory / "ledger.db").exists() or len(_children(crawl.pid)) < 2:
        assert crawl.poll() is None, crawl.communicate()
        time.sleep(0.02)
    _wait_for_scopes(engine, crawl, 3)
    os.kill(_children(crawl.pid)[0], signal.SIGKILL)
    errors = _finish(crawl)
    assert "another takes its place" in errors
    _assert_same(fresh, crawled, engine)
    engine.dispose()


def test_a_killed_crawl_leaves_no_process_behind(fresh: House) -> None:
    """When the crawl itself is killed, its processes end by themselves."""
    fresh.change(crawl={"processes": 2})
    crawl = fresh.start("crawl")
    while len(children := _children(crawl.pid)) < 2:
        assert crawl.poll() is None, crawl.communicate()
        time.sleep(0.02)
    crawl.send_signal(signal.SIGKILL)
    crawl.communicate(timeout=30)
    limit = time.monotonic() + 20
    while alive := [child for child in children if Path(f"/proc/{child}").exists()]:
        assert time.monotonic() < limit, alive
        time.sleep(0.05)


@contextmanager
def _dask(directory: Path, env: dict[str, str]) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and two workers, each a process of its own."""
    directory.mkdir()
    file = directory / "scheduler.json"
    options = {"cwd": directory, "env": env, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    dask = [sys.executable, "-m", "dask"]
    running = [
        subprocess.Popen(
            [*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)],
            **options,  # type: ignore[call-overload]  # the same options for all three
        )
    ]
    try:
        workers = [
            subprocess.Popen(
                [*dask, "worker", "--scheduler-file", str(file), "--nthreads", "8", "--no-nanny", "--no-dashboard"],
                **options,  # type: ignore[call-overload]  # the same options for all three
            )
            for _ in range(2)
        ]
        running += workers
        limit = time.monotonic() + 60
        while not file.exists():
            assert time.monotonic() < limit
            time.sleep(0.05)
        address = yaml.safe_load(file.read_text(encoding="utf-8"))["address"].removeprefix("tcp://")
        yield address, workers
    finally:
        for process in running:
            process.kill()
            process.wait()


@pytest.mark.deep
def test_a_dask_worker_killed_half_way_costs_nothing_but_time(
    fresh: House, crawled: House, postgresql_url: str, tmp_path: Path
) -> None:
    """A scheduler, two workers, PostgreSQL, one worker killed: the ledger is that of one process."""
    fresh.change(database=postgresql_url)
    env = fresh.environment
    engine = connect(postgresql_url)
    with _dask(tmp_path / "dask", env) as (address, workers):
        crawl = fresh.start("crawl", "--executor", f"dask://{address}")
        _wait_for_scopes(engine, crawl, 3)
        workers[0].kill()
        _finish(crawl)
    _assert_same(fresh, crawled, engine)
    engine.dispose()


def test_a_cluster_that_is_not_there(fresh: House) -> None:
    """One sentence names the address; the run is told as failed, not as running."""
    done = fresh.run("crawl", "--executor", "dask://127.0.0.1:9")
    assert done.returncode == 2
    assert "dask://127.0.0.1:9 cannot be used" in done.stderr
    assert "Traceback" not in done.stderr

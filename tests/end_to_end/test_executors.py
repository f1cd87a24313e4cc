"""Crawls with several processes and on a Dask cluster, with killed workers, give the ledger of a single-process crawl."""

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
from tests.end_to_end.conftest import Workspace


def _finish(crawl: subprocess.Popen[str]) -> str:
    _, errors = crawl.communicate(timeout=240)
    assert crawl.returncode == 3, errors
    return errors


def _saved(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(ScopeCoverage)).scalar_one()


def _wait_for_scopes(engine: Engine, crawl: subprocess.Popen[str], expected_rows: int) -> None:
    """Wait until the crawl has saved a number of scopes."""
    limit = time.monotonic() + 90
    while _saved(engine) < expected_rows:
        assert crawl.poll() is None, crawl.communicate()
        assert time.monotonic() < limit
        time.sleep(0.05)


def _children(process_id: int) -> list[int]:
    """The worker processes of a crawl."""
    threads = Path(f"/proc/{process_id}/task").glob("*")
    children = [int(child) for thread in threads for child in _text(thread / "children").split()]
    return [child for child in children if "spawn_main" in _text(Path(f"/proc/{child}/cmdline"))]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def _assert_same(workspace: Workspace, reference: Workspace, engine: Engine) -> None:
    expected_engine = connect(f"sqlite:///{reference.directory / 'ledger.db'}")
    expected, actual = rows(expected_engine), rows(engine)
    expected_engine.dispose()
    assert workspace.directory != reference.directory
    for name, expected_rows in expected.items():
        assert actual[name] == expected_rows, name


@pytest.mark.deep
def test_a_killed_process_does_not_change_the_ledger(empty_workspace: Workspace, crawled: Workspace) -> None:
    """If one of two workers is killed, its scopes are crawled again, and the ledger is that of a single-process crawl."""
    empty_workspace.change(crawl={"processes": 2})
    engine = connect(f"sqlite:///{empty_workspace.directory / 'ledger.db'}")
    crawl = empty_workspace.start("crawl")
    while not (empty_workspace.directory / "ledger.db").exists() or len(_children(crawl.pid)) < 2:
        assert crawl.poll() is None, crawl.communicate()
        time.sleep(0.05)
    _wait_for_scopes(engine, crawl, 3)
    os.kill(_children(crawl.pid)[0], signal.SIGKILL)
    errors = _finish(crawl)
    assert "restarting" in errors
    _assert_same(empty_workspace, crawled, engine)
    engine.dispose()


@pytest.mark.deep
def test_a_killed_crawl_leaves_no_process_behind(empty_workspace: Workspace) -> None:
    """When the main process is killed, its workers exit."""
    empty_workspace.change(crawl={"processes": 2})
    crawl = empty_workspace.start("crawl")
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
    """A scheduler and two workers, each in a separate process."""
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
        # The scheduler creates the file before it writes into it.
        while not (file.exists() and file.read_text(encoding="utf-8").rstrip().endswith("}")):
            assert time.monotonic() < limit
            time.sleep(0.05)
        address = yaml.safe_load(file.read_text(encoding="utf-8"))["address"].removeprefix("tcp://")
        yield address, workers
    finally:
        for process in running:
            process.kill()
            process.wait()


@pytest.mark.deep
def test_a_killed_dask_worker_does_not_change_the_ledger(
    empty_workspace: Workspace, crawled: Workspace, postgresql_url: str, tmp_path: Path
) -> None:
    """With PostgreSQL, and one of two Dask workers killed, the ledger is that of a single-process crawl."""
    empty_workspace.change(database=postgresql_url)
    env = empty_workspace.environment
    engine = connect(postgresql_url)
    with _dask(tmp_path / "dask", env) as (address, workers):
        crawl = empty_workspace.start("crawl", "--executor", f"dask://{address}")
        _wait_for_scopes(engine, crawl, 3)
        workers[0].kill()
        _finish(crawl)
    _assert_same(empty_workspace, crawled, engine)
    engine.dispose()


@pytest.mark.deep
def test_an_unreachable_cluster(empty_workspace: Workspace) -> None:
    """An unreachable cluster gives one error message with the address."""
    done = empty_workspace.run("crawl", "--executor", "dask://127.0.0.1:9")
    assert done.returncode == 2
    assert "dask://127.0.0.1:9 cannot be used" in done.stderr
    assert "Traceback" not in done.stderr

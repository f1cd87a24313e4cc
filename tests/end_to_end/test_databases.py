"""Databases that fail: one sentence with the documented exit code, no half-written scope, and the crawl can go on."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, inspect, select

from benchmarks.fake_aws.client import FakeAws
from benchmarks.fake_aws.faults import Faults
from benchmarks.fake_aws.presets import preset
from models.store.engine import connect
from models.tables.keys import Key
from models.tables.runs import Outcome, Run, RunStatus, ScopeCoverage
from tests import command, postgres
from tests.dump_tables import rows

READ = ScopeCoverage.outcome.in_([Outcome.COMPLETE, Outcome.PARTIAL])
COMMAND = str(Path(sys.executable).with_name("kmsledger"))


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeAws]:
    """An organization that does not change."""
    with FakeAws(preset("tiny", seed=4, accounts=6, keys_per_account_region=3, resources=0.1)) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def crawled(fake: FakeAws, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the settings and ledger of one undisturbed crawl."""
    directory = tmp_path_factory.mktemp("undisturbed")
    _settings(directory, fake, "sqlite:///ledger.db")
    done = _run(directory, fake)
    assert done.returncode == 3, done.stderr
    with sqlite3.connect(directory / "ledger.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return directory


def _settings(directory: Path, fake: FakeAws, database: str) -> None:
    (directory / "settings.yaml").write_text(
        f"database: {database}\n"
        f"aws: {{endpoint_url: {fake.url}}}\ncrawl: {{quota_share_percent: 100}}\n"
        f"role: {{external_id: {fake.world.parameters.external_id}}}\n",
        encoding="utf-8",
    )


def _run(
    directory: Path, fake: FakeAws, *arguments: str, prefix: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    arguments = (*(arguments or ("crawl",)), "--config", "settings.yaml")
    env = {**os.environ, **fake.environment()}
    if not prefix:
        return command.run(*arguments, env=env, cwd=directory)
    command_line = [*prefix, COMMAND, *arguments]
    return subprocess.run(
        command_line, cwd=directory, env=env, capture_output=True, text=True, check=False, timeout=240
    )


def _says(code: int, errors: str, *words: str) -> None:
    assert "Traceback" not in errors
    sentences = [line for line in errors.splitlines() if line.startswith("kmsledger: ")]
    assert len(sentences) == 1, errors
    assert code == 4, errors
    for word in words:
        assert word in sentences[0], sentences[0]


def test_a_directory_that_cannot_be_written(fake: FakeAws, crawled: Path, tmp_path: Path) -> None:
    """A ledger in a directory without write permission is refused in one sentence, and is untouched."""
    for name in ("settings.yaml", "ledger.db"):
        shutil.copy(crawled / name, tmp_path)
        (tmp_path / name).chmod(0o444)
    before = (tmp_path / "ledger.db").read_bytes()
    tmp_path.chmod(0o555)
    # Permissions bind root only without this capability.
    bound = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
    done = _run(tmp_path, fake, prefix=bound)
    tmp_path.chmod(0o755)
    _says(done.returncode, done.stderr, "ledger.db cannot be", "write")
    assert (tmp_path / "ledger.db").read_bytes() == before


@pytest.mark.parametrize(("where", "words"), [(0, "not a SQLite database"), (20 * 4096, "damaged")])
def test_a_damaged_file(fake: FakeAws, crawled: Path, tmp_path: Path, where: int, words: str) -> None:
    """Garbage at the beginning or in the middle of the file: restore it from a backup."""
    for name in ("settings.yaml", "ledger.db"):
        shutil.copy(crawled / name, tmp_path)
    with (tmp_path / "ledger.db").open("r+b") as file:
        file.seek(where)
        file.write(b"\xa5" * (4096 if where == 0 else (tmp_path / "ledger.db").stat().st_size - where - 4096))
    for name in ("crawl", "mart"):
        done = _run(tmp_path, fake, name)
        _says(done.returncode, done.stderr, "ledger.db", words if name == "crawl" else "")


@contextmanager
def _own_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Callable[..., None]]]:
    """The URL of a server that only this test uses, and what controls it: `control("stop")`, `control("start")`."""
    session = uuid.uuid4().hex
    monkeypatch.delenv("TEST_DATABASE_URL", raising=False)
    monkeypatch.setenv("PYTEST_XDIST_TESTRUNUID", session)
    with postgres.server() as url:
        home = postgres._place() / f"kmsledger-postgres-{session}" / "server"
        programs = Path((home / "data" / "postmaster.opts").read_text().split()[0]).parent

        def control(*arguments: str) -> None:
            log = ["-l", str(home / "log")] if "start" in arguments else []
            postgres._run([f"{programs}/pg_ctl", *arguments, "-w", *log, "-D", str(home / "data")], home / "log")

        yield url, control


def _saved(engine: Engine) -> int:
    if not inspect(engine).has_table(ScopeCoverage.__tablename__):
        return 0
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(ScopeCoverage).where(READ)).scalar_one()


def test_a_server_that_goes_away_and_comes_back(
    fake: FakeAws, crawled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The crawl ends in one sentence; scopes are saved whole or not at all; resumed it ends like an undisturbed one."""
    with _own_server(monkeypatch) as (url, control):
        _settings(tmp_path, fake, url)
        engine = connect(url)
        fake.control.faults(Faults(latency_ms=60))
        command_line = [COMMAND, "crawl", "--config", "settings.yaml"]
        env = {**os.environ, **fake.environment()}
        with subprocess.Popen(command_line, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True) as running:
            limit = time.monotonic() + 60
            while _saved(engine) < 6 and running.poll() is None and time.monotonic() < limit:
                time.sleep(0.02)
            control("stop", "-m", "immediate")
            _, errors = running.communicate(timeout=120)
        fake.control.faults()
        _says(running.returncode, errors, "server")
        engine.dispose()
        control("start")
        with engine.connect() as connection:
            done = select(ScopeCoverage.account_id, ScopeCoverage.region).where(READ)
            covered = {tuple(row) for row in connection.execute(done)}
            found = {tuple(row) for row in connection.execute(select(Key.account_id, Key.region).distinct())}
            assert connection.scalar(select(Run.status)) in {RunStatus.RUNNING, RunStatus.FAILED}
        everywhere = {(account, region) for account, region in covered if region not in {"global", "organization", "*"}}
        # The server of the tests may lose its last commits: it does not wait for the disk.
        assert covered
        # Each account-region of this organization has keys, unless the list itself is refused there.
        assert found <= everywhere
        resumed = _run(tmp_path, fake, "crawl", "--resume")
        assert resumed.returncode == 3, resumed.stderr
        undisturbed = connect(f"sqlite:///{crawled / 'ledger.db'}")
        expected, got = rows(undisturbed), rows(engine)
        undisturbed.dispose()
        engine.dispose()
        for name, wanted in expected.items():
            assert got[name] == wanted, name

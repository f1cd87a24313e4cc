"""Database failures: one error message with the documented exit code, no partially written scope, and a resumable crawl."""

from __future__ import annotations

import os
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
from tests.end_to_end.conftest import FEW_RULES, RULES
from tests.reports.sample_ledger import sample_ledger

READ = ScopeCoverage.outcome.in_([Outcome.COMPLETE, Outcome.PARTIAL])
COMMAND = str(Path(sys.executable).with_name("kmsledger"))


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeAws]:
    """An organization without changes."""
    with FakeAws(preset("tiny", seed=4, accounts=6, keys_per_account_region=3, resources=0.1)) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def crawled(fake: FakeAws, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the settings and the ledger of one crawl without failures."""
    directory = tmp_path_factory.mktemp("undisturbed")
    _settings(directory, fake, "sqlite:///ledger.db")
    done = _run(directory, fake)
    assert done.returncode == 3, done.stderr
    with sqlite3.connect(directory / "ledger.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return directory


@pytest.fixture
def sample(fake: FakeAws, tmp_path: Path) -> Path:
    """A directory with the settings and a sample ledger."""
    _settings(tmp_path, fake, "sqlite:///ledger.db")
    sample_ledger(tmp_path / "ledger.db")
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return tmp_path


def _settings(directory: Path, fake: FakeAws, database: str) -> None:
    (directory / "settings.yaml").write_text(
        f"database: {database}\n"
        f"aws: {{endpoint_url: {fake.url}}}\ncrawl: {{quota_share_percent: 100}}\n"
        f"role: {{external_id: {fake.world.parameters.external_id}}}\n"
        f"rules: {{disable: {sorted({path.stem for path in RULES.glob('*.sql')} - FEW_RULES)}}}\n",
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


def _assert_error(code: int, errors: str, *words: str) -> None:
    assert "Traceback" not in errors
    sentences = [line for line in errors.splitlines() if line.startswith("kmsledger: ")]
    assert len(sentences) == 1, errors
    assert code == 4, errors
    for word in words:
        assert word in sentences[0], sentences[0]


def test_a_directory_that_cannot_be_written(fake: FakeAws, sample: Path) -> None:
    """A ledger in a read-only directory gives one error message and stays unchanged."""
    for name in ("settings.yaml", "ledger.db"):
        (sample / name).chmod(0o444)
    before = (sample / "ledger.db").read_bytes()
    sample.chmod(0o555)
    # Root ignores file permissions unless this capability is dropped.
    prefix_command = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
    done = _run(sample, fake, prefix=prefix_command)
    sample.chmod(0o755)
    _assert_error(done.returncode, done.stderr, "ledger.db cannot be", "write")
    assert (sample / "ledger.db").read_bytes() == before


@pytest.mark.parametrize(("offset", "words"), [(0, "not a SQLite database"), (20 * 4096, "damaged")])
def test_a_damaged_file(fake: FakeAws, sample: Path, offset: int, words: str) -> None:
    """A file that is overwritten at the beginning or in the middle gives one error message."""
    with (sample / "ledger.db").open("r+b") as file:
        file.seek(offset)
        file.write(b"\xa5" * (4096 if offset == 0 else (sample / "ledger.db").stat().st_size - offset - 4096))
    for name in ("crawl", "mart"):
        done = _run(sample, fake, name)
        _assert_error(done.returncode, done.stderr, "ledger.db", words if name == "crawl" else "")


@contextmanager
def _own_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Callable[..., None]]]:
    """The URL of a server for this test only, and a function to control it: `control("stop")`, `control("start")`."""
    session = uuid.uuid4().hex
    monkeypatch.delenv("TEST_DATABASE_URL", raising=False)
    monkeypatch.setenv("PYTEST_XDIST_TESTRUNUID", session)
    with postgres.server() as url:
        server_dir = postgres._temporary_directory() / f"kmsledger-postgres-{session}" / "server"
        programs = Path((server_dir / "data" / "postmaster.opts").read_text().split()[0]).parent

        def control(*arguments: str) -> None:
            log = ["-l", str(server_dir / "log")] if "start" in arguments else []
            postgres._run(
                [f"{programs}/pg_ctl", *arguments, "-w", *log, "-D", str(server_dir / "data")],
                server_dir / "log",
            )

        yield url, control


def _saved(engine: Engine) -> int:
    if not inspect(engine).has_table(ScopeCoverage.__tablename__):
        return 0
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(ScopeCoverage).where(READ)).scalar_one()


@pytest.mark.deep
def test_a_server_that_goes_away_and_comes_back(
    fake: FakeAws, crawled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The crawl fails with one message and no partial scope; resumed, it gives the same ledger as without the failure."""
    with _own_server(monkeypatch) as (url, control):
        _settings(tmp_path, fake, url)
        engine = connect(url)
        fake.control.faults(Faults(latency_ms=60))
        command_line = [COMMAND, "crawl", "--config", "settings.yaml"]
        env = {**os.environ, **fake.environment()}
        with subprocess.Popen(command_line, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True) as running:
            limit = time.monotonic() + 60
            while _saved(engine) < 6 and running.poll() is None and time.monotonic() < limit:
                time.sleep(0.1)
            control("stop", "-m", "immediate")
            _, errors = running.communicate(timeout=120)
        fake.control.faults()
        _assert_error(running.returncode, errors, "server")
        engine.dispose()
        control("start")
        with engine.connect() as connection:
            done = select(ScopeCoverage.account_id, ScopeCoverage.region).where(READ)
            covered = {tuple(row) for row in connection.execute(done)}
            keys_read = {tuple(row) for row in connection.execute(select(Key.account_id, Key.region).distinct())}
            assert connection.scalar(select(Run.status)) in {RunStatus.RUNNING, RunStatus.FAILED}
        everywhere = {(account, region) for account, region in covered if region not in {"global", "organization", "*"}}
        # The test server can lose its last commits, because it does not wait for the disk.
        assert covered
        # Each account-region of this organization has keys, unless ListKeys is denied.
        assert keys_read <= everywhere
        resumed = _run(tmp_path, fake, "crawl", "--resume")
        assert resumed.returncode == 3, resumed.stderr
        undisturbed = connect(f"sqlite:///{crawled / 'ledger.db'}")
        expected, actual = rows(undisturbed), rows(engine)
        undisturbed.dispose()
        engine.dispose()
        for name, expected_rows in expected.items():
            assert actual[name] == expected_rows, name

"""Access analysis, mart and findings are computed by one process at a time."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from models.settings import Settings
from models.store import crawl_lock
from models.store.crawl_lock import Lock, LockedError
from models.store.engine import connect
from models.store.retention import prune
from reports.access.analysis import stage
from reports.access.analysis.cli import analyze_access
from reports.access.analysis.dedup_grants import find_pending_grants
from reports.cli import mart
from reports.mart.connection import connect as connect_mart
from tests.reports.ledger_builder import LedgerBuilder, settings_of

SHOP, IRELAND = "111122223333", "eu-west-1"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A ledger with one run."""
    world = LedgerBuilder(f"sqlite:///{tmp_path / 'ledger.db'}")
    world.account(SHOP, "shop", IRELAND)
    key = world.key(SHOP, IRELAND, "1234abcd-12ab-34cd-56ef-1234567890ab")
    world.grant(key, "backup", grantee_principal="arn:aws:iam::444455556666:role/Backup")
    world.crawl()
    (tmp_path / "kmsledger.yaml").write_text(
        f"database: {world.url}\nreport: {{mart: mart.duckdb}}\n", encoding="utf-8"
    )
    return settings_of(database=world.url, report={"mart": tmp_path / "mart.duckdb"})


def config(settings: Settings) -> list[str]:
    return ["--config", str(settings.report.mart.with_name("kmsledger.yaml"))]


def test_a_second_process_is_refused(settings: Settings) -> None:
    """While results are computed, `mart` and `analyze-access` end with one sentence, and write nothing."""
    before = settings.report.mart.read_bytes()  # only the views
    with crawl_lock.results(settings.database):
        for command in (mart, analyze_access):
            done = CliRunner().invoke(command, config(settings))
            assert isinstance(done.exception, LockedError)
            assert "the results of run 1 have been computed by another process since" in str(done.exception)
        assert settings.report.mart.read_bytes() == before
    assert CliRunner().invoke(mart, config(settings)).exit_code == 0
    with connect_mart(settings.report.mart) as duck:
        assert duck.execute("SELECT count(*) FROM keys").fetchone() == (1,)


def test_two_analyses_at_once_do_not_collide(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """An analysis that starts between the transactions of another is refused: both would insert the same rows."""
    refused: list[BaseException | None] = []

    def start_another(*arguments: object) -> object:
        if not refused:
            refused.append(CliRunner().invoke(analyze_access, config(settings)).exception)
        return find_pending_grants(*arguments)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(stage, "find_pending_grants", start_another)
    done = CliRunner().invoke(analyze_access, config(settings))
    assert done.exit_code == 0, done.exception
    assert isinstance(refused[0], LockedError)


def test_a_run_waits_for_results_that_are_computed(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """A nightly run whose crawl has ended waits for a `kmsledger mart` that still runs, and says so once."""
    caplog.set_level("INFO")
    released = threading.Event()

    def hold() -> None:
        with crawl_lock.results(settings.database):
            released.set()
            time.sleep(0.8)

    holder = threading.Thread(target=hold)
    holder.start()
    released.wait()
    with crawl_lock.results(settings.database, wait=30):
        holder.join(0)
    holder.join()
    (message,) = caplog.messages
    assert message.endswith("; waiting")


def test_maintenance_excludes_results(settings: Settings) -> None:
    """Rows are not pruned while a mart reads them; a crawl's lock does not keep results from being computed."""
    import datetime as dt

    engine = connect(settings.database)
    with crawl_lock.results(settings.database), pytest.raises(LockedError):
        prune(engine, dt.timedelta(days=1))
    with engine.begin() as connection:
        crawl_lock.acquire(connection, 1)
    with crawl_lock.results(settings.database):
        pass
    with crawl_lock.kept(settings.database, 1), pytest.raises(LockedError), engine.begin() as connection:
        crawl_lock.acquire(connection, 1, Lock.RUN)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM crawl_lock").scalar() == 0
    engine.dispose()


def test_heartbeats_keep_the_lock_of_a_long_stage(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On PostgreSQL, which other hosts use too, the lock of a stage is renewed; a lost lock is a warning."""
    monkeypatch.setattr(crawl_lock, "HEARTBEAT_INTERVAL", 0.05)
    engine = connect(postgresql_url)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO run (started_at, status, version, accounts, scopes, calls, gaps) "
            "VALUES (now(), 'complete', '1', 0, 0, 0, 0)"
        )

    def heartbeat() -> object:
        with engine.connect() as connection:
            return connection.exec_driver_sql("SELECT heartbeat FROM crawl_lock").scalar()

    with crawl_lock.results(postgresql_url):
        first, until = heartbeat(), time.monotonic() + 20
        while heartbeat() == first and time.monotonic() < until:
            time.sleep(0.05)
        assert heartbeat() != first
        with engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM crawl_lock")
        while not caplog.messages and time.monotonic() < until:
            time.sleep(0.05)
    engine.dispose()
    assert "could not be renewed" in caplog.messages[0]

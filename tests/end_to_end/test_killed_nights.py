"""Nightly runs that are killed at random moments, and resumed, leave the databases of undisturbed runs; nothing is sent twice."""

from __future__ import annotations

import contextlib
import random
import signal
import sqlite3
import time
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pytest

from benchmarks.fake_aws.client import FakeAws
from demo import certificates
from demo.smtp import MailServer
from models.stages import STAGES
from models.store.engine import connect
from tests.dump_tables import rows
from tests.end_to_end import night_process
from tests.end_to_end.conftest import Installation
from tests.end_to_end.night_process import Night
from tests.end_to_end.small_installation import install, small_organization

KILLS = 25
NIGHTS = 5
RECIPIENT = "once@killed.example"
_MAX_DELAY_S = {"start": 1.0, "crawl": 0.5, "access": 0.6, "rules": 0.3, "mart": 0.8, "reports": 0.6}
"""Seconds from the end of a stage (or the start) to the latest kill: about the duration of the next stage."""
_OF_ONE_RUN = {"calls", "retries", "started_at", "finished_at", "version_id", "sent_at", "polled_at", "message"}
"""Columns that two runs with the same facts do not share: times, repeated calls, and the order in which rows were inserted."""
_BOOKKEEPING = {"internal.analysis_watermark", "internal.delivery", "internal.build_manifest"}


def ledger_of(installation: Installation) -> dict[str, set[tuple[Any, ...]]]:
    """All facts, findings and outcomes with their intervals."""
    engine = connect(f"sqlite:///{installation.directory / 'ledger.db'}")
    contents = rows(engine)
    engine.dispose()
    return contents


def mart_of(installation: Installation) -> dict[str, list[str]]:
    """The rows of all tables and views of the mart, without what two runs with the same facts do not share."""
    with duckdb.connect(str(installation.directory / "kmsledger.duckdb"), read_only=True) as duck:
        columns: dict[str, list[str]] = {}
        for schema, table, column, kind in duck.execute(
            "SELECT table_schema, table_name, column_name, data_type FROM information_schema.columns"
        ).fetchall():
            shared = "TIMESTAMP" not in kind and column not in _OF_ONE_RUN
            columns.setdefault(f"{schema}.{table}", []).extend([column] if shared else [])
        contents = {}
        for name, shown in columns.items():
            if name in _BOOKKEEPING or not shown:
                continue
            schema, _, table = name.partition(".")
            selected = ", ".join(f'"{column}"' for column in shown)
            contents[name] = sorted(map(str, duck.execute(f'SELECT {selected} FROM "{schema}"."{table}"').fetchall()))
    return contents


def deliveries(installation: Installation) -> dict[int, str]:
    """The status of the delivery of each run's report."""
    with contextlib.closing(sqlite3.connect(installation.directory / "ledger.db")) as ledger:
        return dict(ledger.execute("SELECT run_id, status FROM delivery WHERE report = 'overview'"))


def kill(night: Night, rng: random.Random) -> str:
    """Kill a night at a random moment after the end of a random stage; returns the stage, or "" if the night ended before."""
    stage = rng.choice(["start", *_MAX_DELAY_S])
    running = stage == "start" or night.wait_until(lambda: f"stage {stage} took" in night.errors.read_text())
    if running:
        time.sleep(rng.uniform(0, _MAX_DELAY_S[stage]))
    killed = night.running
    night.send(signal.SIGKILL)
    return stage if killed and night.wait().code == -signal.SIGKILL else ""


@pytest.mark.soak
def test_killed_nights_leave_the_databases_of_undisturbed_nights(
    mail: MailServer, tls: certificates.Certificates, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After 25 kills -9 at random moments of five nights, each followed by --resume, ledger and mart are the undisturbed ones."""
    rng = random.Random(17)  # noqa: S311 - moments, not secrets
    parameters = small_organization(
        regions=("us-east-1",), opt_in=(), accounts=3, keys_per_account_region=2, resources=0.05, change_rate=0.2
    )
    kills: Counter[str] = Counter()
    with FakeAws(parameters, process=True) as aws:
        crawl = {"quota_share_percent": 100, "last_use": {"enabled": False}}
        calm = install(tmp_path / "calm", aws, mail, tls, ["calm@killed.example"], crawl=crawl)
        troubled = install(tmp_path / "troubled", aws, mail, tls, [RECIPIENT], crawl=crawl)
        for day in range(NIGHTS):
            aws.control.set_day(day)
            undisturbed = night_process.run(calm, "nightly")
            assert undisturbed.code == 3, undisturbed.errors
            wanted, resume = KILLS * (day + 1) // NIGHTS, False
            while kills.total() < wanted:
                night = night_process.start(troubled, "nightly", *(["--resume"] if resume else []))
                if stage := kill(night, rng):
                    kills[stage] += 1
                resume = started(troubled, day + 1)
            ended = night_process.run(troubled, "nightly", *(["--resume"] if resume else []))
            status = deliveries(troubled)[day + 1]
            # A kill while the mail is sent leaves it unknown whether it arrived.
            assert (ended.code, status) in {(3, "sent"), (4, "sending")}, ended
            sent = [message for message in mail.messages if message.recipients == (RECIPIENT,)]
            received = sum(f"kmsledger-overview-run{day + 1}.html".encode() in message.content for message in sent)
            assert received <= 1
            assert received == 1 or status == "sending"
            expected, actual = ledger_of(calm), ledger_of(troubled)
            assert {name for name in expected if actual[name] != expected[name]} == set(), day
            marts = mart_of(calm), mart_of(troubled)
            assert {name for name in marts[0] if marts[0][name] != marts[1][name]} == set(), day
    with capsys.disabled():
        print(f"\nkilled nights: {kills.total()} kills, by the stage that had ended: {dict(kills)}")  # noqa: T201 - the metrics
    assert kills.total() == KILLS
    assert set(kills) > set(STAGES) - {"delivery", "rules"}


def started(installation: Installation, run_id: int) -> bool:
    """Whether the run of this night exists already, so that it can be resumed."""
    if not (installation.directory / "ledger.db").exists():
        return False
    with contextlib.closing(sqlite3.connect(installation.directory / "ledger.db")) as ledger:
        tables = ledger.execute("SELECT count(*) FROM sqlite_master WHERE name = 'run'").fetchone()
        return bool(tables[0] and ledger.execute("SELECT count(*) FROM run WHERE run_id = ?", [run_id]).fetchone()[0])

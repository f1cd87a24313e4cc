"""A nightly run that is interrupted in any stage and resumed leaves what the undisturbed run leaves, and sends nothing twice."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from sqlalchemy import select

from benchmarks.fake_aws.client import FakeAws
from demo import certificates
from demo.smtp import MailServer
from models.store.engine import connect
from models.tables.runs import Delivery
from reports import pipeline
from reports.notify.delivery_log import DeliveryLog
from tests.dump_tables import rows
from tests.end_to_end import small_installation
from tests.end_to_end.conftest import Installation
from tests.reports.mart.test_incremental import everything

pytestmark = pytest.mark.deep  # each case builds several marts

FIRST, SECOND = "first@resume.example", "second@resume.example"
STAGES = {
    "access analysis, half of it committed": "reports.access.analysis.stage.find_pending_grants",
    "mart": "reports.mart.view_loader.create",
    "rules": "reports.pipeline.evaluate_rules",
    "findings recorded, mart not published": "reports.mart.build.DraftMart.apply_findings",
    "reports": "reports.pipeline.write",
    "reports written, nothing delivered": "reports.pipeline.deliver",
}
"""The stages after the crawl, with a function that each of them calls."""


@pytest.fixture(scope="module")
def aws() -> Iterator[FakeAws]:
    with FakeAws(small_installation.small_organization()) as endpoint:
        yield endpoint


Install = Callable[[Path], Installation]


@pytest.fixture(scope="module")
def install(aws: FakeAws, mail: MailServer, tls: certificates.Certificates) -> Install:
    """A factory of installations without a ledger, with two recipients."""

    def make(directory: Path) -> Installation:
        crawl = {"last_use": {"enabled": False}}
        return small_installation.install(directory, aws, mail, tls, [FIRST, SECOND], crawl=crawl)

    return make


@pytest.fixture(scope="module")
def undisturbed(install: Install, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """A nightly run from start to end; its folder `crawled` has the state between the crawl and the access analysis."""
    directory = tmp_path_factory.mktemp("undisturbed") / "nightly"
    installation = install(directory)
    refresh = pipeline.refresh

    def copy_and_refresh(*arguments: Any) -> Any:
        shutil.copytree(directory, directory.parent / "crawled")
        return refresh(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "refresh", copy_and_refresh)
        done = installation.run("nightly")
    assert done.returncode == 3, done.stderr
    return installation


def copy_of_crawled(undisturbed: Installation, directory: Path) -> Installation:
    """An installation whose nightly run ended after the crawl."""
    shutil.copytree(undisturbed.directory.parent / "crawled", directory)
    # The lock of the run that was copied, whose process is this one; that of a dead process is replaced.
    with contextlib.closing(sqlite3.connect(directory / "ledger.db")) as connection:
        connection.execute("DELETE FROM crawl_lock")
        connection.commit()
    return Installation(undisturbed.mail, directory, directory / undisturbed.settings.name, undisturbed.environment)


def received(installation: Installation) -> dict[str, int]:
    """The number of mails per recipient."""
    sent = [message.recipients for message in installation.mail.messages]
    return {recipient: sent.count((recipient,)) for recipient in (FIRST, SECOND)}


def ledger(installation: Installation) -> dict[str, Any]:
    """Everything that the crawl, the rules and the deliveries have left in the ledger, without times."""
    engine = connect(f"sqlite:///{installation.directory / 'ledger.db'}")
    delivery = select(Delivery.run_id, Delivery.report, Delivery.recipient, Delivery.status)
    with engine.connect() as connection:
        contents = {**rows(engine), "delivery": {tuple(row) for row in connection.execute(delivery)}}
    engine.dispose()
    return contents


def assert_same(actual: Installation, expected: Installation) -> None:
    """Ledger, mart and reports are equal, to the byte for reports."""
    assert ledger(actual) == ledger(expected)
    marts = [everything(installation.directory / "kmsledger.duckdb") for installation in (actual, expected)]
    for mart in marts:
        # Deliveries are copied before the report is delivered, and each analysis from nothing has a new identity.
        del mart["internal.delivery"], mart["internal.analysis_watermark"]
    assert {name for name in marts[0] if marts[0][name] != marts[1][name]} == set()
    folders = [installation.directory / "reports" for installation in (actual, expected)]
    reports = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]
    assert reports[0] == reports[1]
    assert len(reports[0]) == 4


def interrupt(*_arguments: object, **_options: object) -> NoReturn:
    """End the process as Ctrl-C and SIGTERM do."""
    raise KeyboardInterrupt


def test_a_run_interrupted_in_each_stage_after_the_crawl_is_finished(undisturbed: Installation, tmp_path: Path) -> None:
    """Interrupted once in each stage, then resumed: ledger, mart and reports are those of the undisturbed run, each mail once."""
    installation = copy_of_crawled(undisturbed, tmp_path / "nightly")
    before = received(installation)
    claim = DeliveryLog.claim

    def claim_first(log: DeliveryLog, recipient: str, *, resend: bool = False) -> bool:
        return claim(log, recipient, resend=resend) if recipient == FIRST else interrupt()

    for stage, target in {**STAGES, "half-sent mail": "reports.notify.delivery.DeliveryLog.claim"}.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(target, claim_first if target.endswith(".claim") else interrupt)
            stopped = installation.run("nightly", "--resume")
        assert stopped.returncode == 4, (stage, stopped.stderr)
        assert "kmsledger nightly --resume" in stopped.stderr, stage
        assert received(installation) == {**before, FIRST: before[FIRST] + ("mail" in stage)}, stage
    # A run that has finished every stage is left as it is, and no other is started. The gate changes only the exit code.
    for gate, code in (((), 3), (("--min-coverage", "100%"), 4)):
        resumed = installation.run("nightly", "--resume", *gate)
        assert resumed.returncode == code, resumed.stderr
        assert received(installation) == {recipient: count + 1 for recipient, count in before.items()}
    assert f"delivery: {FIRST}: it was sent" in resumed.stdout
    assert "which is below the minimum of 100 %: see `kmsledger coverage`" in resumed.stderr
    assert_same(installation, undisturbed)


def test_a_run_interrupted_in_the_crawl_is_finished(
    install: Install, undisturbed: Installation, tmp_path: Path
) -> None:
    """`nightly --resume` crawls only what is missing, and then runs all later stages of the same run."""
    installation = install(tmp_path / "nightly")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("crawler.crawl.resolve_references", interrupt)
        stopped = installation.run("nightly")
    assert stopped.returncode == 4
    assert "`kmsledger nightly --resume` finishes the run" in stopped.stderr
    before = received(installation)
    resumed = installation.run("nightly", "--resume")
    assert resumed.returncode == 3, resumed.stderr
    assert received(installation) == {recipient: count + 1 for recipient, count in before.items()}
    assert ledger(installation) == ledger(undisturbed)
    assert installation.sql("SELECT count(*) AS n FROM findings") == undisturbed.sql(
        "SELECT count(*) AS n FROM findings"
    )


def test_a_crawl_interrupted_in_the_rules_is_finished(undisturbed: Installation, tmp_path: Path) -> None:
    """`crawl --resume` makes no call to AWS when the crawl has ended: it records the findings and applies the gate."""
    installation = copy_of_crawled(undisturbed, tmp_path / "crawl")
    offline = {**installation.environment, "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    installation.environment = offline
    installation.change(aws={"endpoint_url": "http://127.0.0.1:9"}, coverage={"max_consecutive_gaps": 1})
    resumed = installation.run("crawl", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "which coverage.max_consecutive_gaps tolerates" in resumed.stdout
    expected = undisturbed.sql("SELECT * FROM findings ORDER BY ALL")
    assert expected
    assert installation.sql("SELECT * FROM findings ORDER BY ALL") == expected


def test_a_killed_run_is_finished(undisturbed: Installation, tmp_path: Path) -> None:
    """After kill -9 while the mart is built, and again while reports are written, the result is that of the undisturbed run."""
    installation = copy_of_crawled(undisturbed, tmp_path / "nightly")
    for signs in (".kmsledger.duckdb.*.new", "reports"):
        with installation.start("nightly", "--resume") as process:
            while process.poll() is None and not list(installation.directory.glob(signs)):
                time.sleep(0.01)
            assert process.poll() is None, process.communicate()
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=60)
    resumed = installation.run("nightly", "--resume")
    assert resumed.returncode == 3, resumed.stderr
    assert_same(installation, undisturbed)

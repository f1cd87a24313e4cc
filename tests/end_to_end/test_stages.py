"""The stages of a nightly run, ended by signals, by the deadline and by failures: each is reported, and finished later."""

from __future__ import annotations

import email
import email.policy
import json
import signal
import socket
import time
from collections.abc import Iterator
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

from benchmarks.fake_aws.client import FakeAws
from demo import certificates
from demo.smtp import MailServer
from reports.mart.errors import MartError
from tests.end_to_end import night_process
from tests.end_to_end.conftest import Installation
from tests.end_to_end.small_installation import install, small_organization

pytestmark = pytest.mark.soak  # each test makes several runs

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
STAGES = {
    "access": ("reports.access.analysis.stage.find_pending_grants", "sqlite"),
    "mart": ("reports.mart.view_loader.create", "duckdb"),
    "rules": ("reports.pipeline.evaluate_rules", "duckdb"),
    "reports": ("reports.pipeline.write", "python"),
}
"""The stages after the crawl: a function that each of them calls, and what never ends in it."""


@pytest.fixture(scope="module")
def aws() -> Iterator[FakeAws]:
    parameters = small_organization(
        regions=("us-east-1",), opt_in=(), accounts=2, adversarial=False, keys_per_account_region=1, resources=0.0
    )
    with FakeAws(parameters, process=True) as endpoint:
        yield endpoint


def mails(installation: Installation, recipient: str) -> list[EmailMessage]:
    """The accepted messages for one recipient."""
    return [
        email.message_from_bytes(message.content, policy=email.policy.default)
        for message in installation.mail.messages
        if message.recipients == (recipient,)
    ]


def test_every_signal_ends_every_stage(
    aws: FakeAws, mail: MailServer, tls: certificates.Certificates, tmp_path: Path
) -> None:
    """SIGTERM, SIGINT and SIGHUP end each stage within 10 s with one sentence; resumed, the run is complete, with one mail."""
    to = "signals@stages.example"
    crawl = {"last_use": {"enabled": False}}
    installation = install(tmp_path / "nightly", aws, mail, tls, [to], crawl=crawl)

    def interrupted(number: signal.Signals, night: night_process.Night) -> None:
        began = time.monotonic()
        night.send(number)
        ended = night.wait()
        assert time.monotonic() - began < 10, (number, ended)
        assert ended.code == 4, (number, ended)
        assert "Traceback" not in ended.errors
        (sentence,) = [line for line in ended.errors.splitlines() if line.startswith("kmsledger: ")]
        assert "`kmsledger nightly --resume`" in sentence

    for attempt, number in enumerate(SIGNALS):
        aws.control.faults(latency_ms=20_000)
        night = night_process.start(installation, "nightly", *(["--resume"] if attempt else []))
        assert night.wait_until(lambda: aws.control.counters()["requests"] > 0)
        aws.control.reset()
        time.sleep(0.5)
        interrupted(number, night)
        aws.control.faults()
    assert night_process.run(installation, "crawl", "--resume").code == 0
    for stage, (target, how) in STAGES.items():
        for number in SIGNALS:
            before = partial(night_process.hold, target, how)
            night = night_process.start(installation, "nightly", "--resume", before=before)
            assert night.wait_until(lambda night=night: "held" in night.errors.read_text()), stage  # type: ignore[misc]  # of this round
            interrupted(number, night)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        installation.change(mail={"port": silent.getsockname()[1]})
        for number in SIGNALS:
            night = night_process.start(installation, "nightly", "--resume")
            assert night.wait_until(lambda night=night: "stage reports took" in night.errors.read_text())  # type: ignore[misc]  # as above
            connection, _ = silent.accept()
            with connection:
                interrupted(number, night)
    installation.change(mail={"port": mail.port})
    assert mails(installation, to) == []
    resumed = night_process.run(installation, "nightly", "--resume")
    assert resumed.code == 0, resumed.errors
    (report,) = mails(installation, to)
    assert next(report.iter_attachments()).get_filename() == "kmsledger-overview-run1.html"


def test_a_failed_stage_is_reported_once(
    aws: FakeAws, mail: MailServer, tls: certificates.Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recipients of the report get one message with run, stage, cause and fix; the resumed run sends the report."""
    to = "failure@stages.example"
    settings = {"crawl": {"last_use": {"enabled": False}}, "log": {"format": "json"}}
    installation = install(tmp_path / "nightly", aws, mail, tls, [to], **settings)

    def fail(*_arguments: object, **_options: object) -> NoReturn:
        raise MartError("the mart cannot be written: free disk space")

    with monkeypatch.context() as patch:
        patch.setattr("reports.pipeline.evaluate_rules", fail)
        failed, again = installation.run("nightly"), installation.run("nightly", "--resume")
    assert (failed.returncode, again.returncode) == (4, 4)
    (message,) = mails(installation, to)
    assert message["Subject"] == "[kmsledger] KMS ledger: run 1 failed in the stage rules"
    assert "Cause and fix: the mart cannot be written: free disk space" in message.get_content()
    for done in (failed, again):
        lines = [json.loads(line) for line in (done.stdout + done.stderr).splitlines()]
        assert {line.get("run_id") for line in lines} == {1}
    resumed = installation.run("nightly", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert len(mails(installation, to)) == 2
    assert all(json.loads(line)["run_id"] == 1 for line in (resumed.stdout + resumed.stderr).splitlines())


def test_the_deadline_delivers_what_there_is(
    aws: FakeAws, mail: MailServer, tls: certificates.Certificates, tmp_path: Path
) -> None:
    """When the crawl's part of the deadline is over, the rest becomes gaps and the report is sent; a late stage is reported."""
    to = "deadline@stages.example"
    crawl = {"last_use": {"enabled": False}}
    nightly = {"deadline": 68, "reserve": 60}
    installation = install(tmp_path / "nightly", aws, mail, tls, [to], crawl=crawl, nightly=nightly)
    aws.control.faults(latency_ms=3_000)
    late = night_process.run(installation, "nightly")
    aws.control.faults()
    assert late.code == 3, late.errors
    (report,) = mails(installation, to)
    body = report.get_body(("plain",))
    assert body is not None
    assert "the deadline was exceeded" in " ".join(body.get_content().split())
    installation.change(nightly={"deadline": 15, "reserve": 5})
    stuck = night_process.run(
        installation, "nightly", before=partial(night_process.hold, "reports.pipeline.write", "python")
    )
    assert stuck.code == 4
    assert "not finished within 15 s (nightly.deadline); publication of run 2 interrupted" in stuck.errors
    failure = mails(installation, to)[-1]
    assert "run 2 failed in the stage reports" in failure["Subject"]

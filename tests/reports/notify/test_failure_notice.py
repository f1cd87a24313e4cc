"""A failed stage is reported through every channel, once per run, and never hides its own error."""

from __future__ import annotations

import email
import email.policy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from models import console
from models.cli_main import InterruptedCommandError, interruptible
from models.errors import UserError
from models.settings import Settings
from models.stages import failed_stage, stage
from models.store.crawl_lock import LockedError
from models.store.engine import connect
from reports.notify import failure_notice
from reports.notify.delivery_log import DeliveryLog
from reports.notify.failure_notice import reported
from reports.notify.result import Outcome
from tests.reports.notify.conftest import RUN, Post, free_port, run_post
from tests.reports.notify.delivery_helpers import settings_of
from tests.reports.notify.http_receiver import Receiver, run_receiver
from tests.reports.notify.test_webhook import SECRET

SENTENCE = "the disk that holds https://evil.example/\x1b[2J is full: free some space and run the command again"


class FullDiskError(UserError):
    """A failure with its fix."""


@pytest.fixture(autouse=True)
def run_number() -> Iterator[None]:
    """The run that fails."""
    console.set_run(RUN)
    yield
    console.set_run(None)


@pytest.fixture
def channels(folder: Path) -> Iterator[tuple[Settings, Post, Receiver, Receiver]]:
    """Settings with a mail recipient, a webhook and a chat, and their servers."""
    with run_post() as post, run_receiver() as siem, run_receiver() as room:
        values: dict[str, Any] = settings_of(folder, post.port).model_dump(mode="python")
        values = {"database": values["database"], "mail": {"host": "127.0.0.1", "port": post.port, "security": "none"}}
        values["mail"] |= {"sender": "ledger@example.org", "recipients": ["ciso@example.org"], "timeout": 1}
        values["webhooks"] = [{"name": "siem", "url": siem.url, "secret": SECRET}]
        values["chat"] = [{"name": "team", "url": room.url.replace("http://", "json://")}]
        yield Settings.model_validate(values), post, siem, room


def fail(settings: Settings, error: BaseException = FullDiskError(SENTENCE)) -> None:  # noqa: B008 - never changed
    with pytest.raises(type(error)), reported(settings), stage("mart"):
        raise error


def test_each_channel_gets_one_short_message(
    channels: tuple[Settings, Post, Receiver, Receiver], capsys: pytest.CaptureFixture[str]
) -> None:
    """Mail, webhook and chat name run, stage, cause, fix and the next command, once; hostile text is defanged."""
    settings, post, siem, room = channels
    fail(settings)
    fail(settings)
    ((to, content),) = post.delivered
    mail = email.message_from_bytes(content, policy=email.policy.default)
    assert to == "ciso@example.org"
    assert mail["Subject"] == f"[kmsledger] KMS ledger: run {RUN} failed in the stage mart"
    text = mail.get_content()
    for words in (
        f"Run: {RUN}",
        "Stage: mart",
        "hxxps://evil.example/",
        "is full: free some space",
        "nightly --resume",
    ):
        assert words in text
    assert "\x1b" not in text
    (event,) = siem.requests
    data = json.loads(event.body)
    assert (data["type"], data["data"]["run_id"], data["data"]["stage"]) == ("kmsledger.failure", RUN, "mart")
    assert data["data"]["message"] == SENTENCE
    assert "webhook-signature" in event.headers
    (chat,) = room.requests
    assert "failed in the stage mart" in json.loads(chat.body)["title"]
    assert capsys.readouterr().out.count("failure reported to ") == 3


def test_a_failure_in_another_stage_is_reported_too(folder: Path) -> None:
    """Once means once per run and stage: the next failure of the same run is another one."""
    with run_post() as post:
        settings = settings_of(folder, post.port)
        fail(settings)
        with pytest.raises(FullDiskError), reported(settings), stage("reports"):
            raise FullDiskError(SENTENCE)
        assert len(post.delivered) == 2


def test_a_failure_that_could_not_be_reported_is_reported_next_time(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """While the mail server is down, the error of the run is raised all the same, and a second failure reports it."""
    fail(settings_of(folder, free_port()))
    assert "the failure could not be reported to ciso@example.org" in capsys.readouterr().err
    with run_post() as post:
        fail(settings_of(folder, post.port))
        assert len(post.delivered) == 1


def test_a_ledger_that_cannot_be_written_does_not_silence_the_report(folder: Path) -> None:
    """Without a delivery log, the failure is reported: a full disk or a lost database is what has to be known."""
    with run_post() as post:
        settings = settings_of(folder, post.port)
        (folder / "ledger.db").write_bytes(b"no database" * 1000)
        fail(settings)
        assert len(post.delivered) == 1


@pytest.mark.parametrize(
    "error",
    [InterruptedCommandError("interrupted"), LockedError("locked"), click.exceptions.Exit(3), KeyboardInterrupt()],
)
def test_what_somebody_caused_is_not_reported(folder: Path, error: BaseException) -> None:
    """An interruption, and a run that another one excludes, are no failures to report."""
    with run_post() as post:
        fail(settings_of(folder, post.port), error)
        assert post.delivered == []


def test_a_bug_is_reported(folder: Path) -> None:
    """An unexpected error is reported with its type."""
    with run_post() as post:
        fail(settings_of(folder, post.port), ZeroDivisionError("boom"))
        ((_, content),) = post.delivered
    assert b"unexpected ZeroDivisionError: boom" in content


def test_undelivered_reports_are_reported_to_other_channels(
    channels: tuple[Settings, Post, Receiver, Receiver],
) -> None:
    """If a recipient of the mail did not get the report, webhooks and chats learn who and why."""
    settings, post, siem, room = channels
    engine = connect(settings.database)
    log = DeliveryLog(engine, RUN, "overview")
    for outcome in (
        Outcome("ciso@example.org", "rejected", "550 no such mailbox"),
        Outcome("webhook:siem", "sent", ""),
    ):
        log.claim(outcome.recipient)
        log.record(outcome)
    engine.dispose()
    failure_notice.report_undelivered(settings, RUN)
    assert post.delivered == []
    assert len(room.requests) == 1
    data = json.loads(siem.requests[0].body)["data"]
    assert data["message"] == "1 of 2 recipients did not get the report (ciso@example.org: 550 no such mailbox)"
    assert "`kmsledger mail`" in data["then"]


def test_the_innermost_stage_has_failed() -> None:
    """Of nested stages, also behind another exception, the innermost is named."""
    with pytest.raises(InterruptedCommandError) as raised, interruptible("interrupted"), stage("mart"), stage("rules"):
        raise KeyboardInterrupt
    assert failed_stage(raised.value) == "rules"
    assert failed_stage(FullDiskError("elsewhere")) is None

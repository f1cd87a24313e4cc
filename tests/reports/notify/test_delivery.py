"""Deliveries: each recipient gets the report of a run once, and the log says what became of it, whatever goes wrong."""

import email
import email.policy
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from models.store.engine import connect
from reports.notify.delivery import NoRecipientError
from reports.notify.delivery_log import DeliveryLog
from reports.notify.result import Outcome
from tests.reports.notify.conftest import RUN, Post, add_runs, free_port, run_post
from tests.reports.notify.delivery_helpers import log_of, send, settings_of
from tests.reports.notify.test_message import SUMMARY

KILLED = """
import os, sys
from pathlib import Path
from tests.reports.notify.delivery_helpers import send, settings_of
send(settings_of(Path(sys.argv[1]), int(sys.argv[2])))
"""


def received(post: Post, recipient: str) -> list[EmailMessage]:
    """The mails that the server accepted for a recipient."""
    return [
        email.message_from_bytes(content, policy=email.policy.default)
        for to, content in post.delivered
        if to == recipient
    ]


@pytest.fixture
def post() -> Iterator[Post]:
    with run_post() as running:
        yield running


def test_each_recipient_gets_the_report_once(folder: Path, post: Post, capsys: pytest.CaptureFixture[str]) -> None:
    """A second delivery sends nothing, and says when each recipient got the report."""
    settings = settings_of(folder, post.port, ("ciso@example.org", "audit@example.org"))
    assert send(settings)
    assert send(settings)
    assert [len(received(post, to)) for to in ("ciso@example.org", "audit@example.org")] == [1, 1]
    output = capsys.readouterr()
    assert output.err == ""
    assert "delivery: sent to ciso@example.org" in output.out
    assert "delivery: audit@example.org: it was sent (" in output.out


@pytest.mark.parametrize(
    ("stage", "reply", "status", "message"),
    [
        ("at_mail", "451 4.3.0 try later", "failed", "accepts no mail at the moment"),
        ("at_mail", "553 5.7.1 not yours", "failed", "rejects the sender"),
        ("at_mail", "abort", "failed", "was lost after 0 of 1 mails"),
        ("at_rcpt", "450 4.7.1 greylisted", "failed", "accepts no mail at the moment"),
        ("at_rcpt", "550 5.1.1 no such user", "rejected", "check mail.recipients"),
        ("at_rcpt", "421 4.3.2 closing", "failed", "was lost after 0 of 1 mails"),
        ("at_rcpt", "silence", "failed", "timeout"),
        ("at_data", "451 4.3.0 no space", "failed", "accepts no mail at the moment"),
        ("at_data", "554 5.7.1 spam", "rejected", "rejects all 1 recipients"),
        ("at_data", "abort", "unknown", "the mail to ciso@example.org is unknown"),
        ("at_data", "silence", "unknown", "the mail to ciso@example.org is unknown"),
    ],
)
def test_smtp_failures(
    folder: Path, capsys: pytest.CaptureFixture[str], *, stage: str, reply: str, status: str, message: str
) -> None:
    """RFC 5321: 4xx and connections lost before the end of DATA are retried; 5xx is final; later, the mail may have arrived."""
    repeated = status == "failed"
    address = "ledger@example.org" if stage == "at_mail" else "ciso@example.org"
    post = Post()
    getattr(post, stage)[address] = reply
    with run_post(post):
        assert not send(settings_of(folder, post.port))
    assert log_of(settings_of(folder, 1)) == {"ciso@example.org": status}
    assert message in capsys.readouterr().err
    with run_post() as post:
        assert send(settings_of(folder, post.port)) == repeated
        assert len(post.delivered) == repeated
    if not repeated:
        assert "it is not sent again without --resend" in capsys.readouterr().err


def test_a_server_that_cannot_be_reached_is_tried_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a connection nothing was sent: the cause is printed once, and the next delivery sends the mails."""
    recipients = ("ciso@example.org", "audit@example.org")
    assert not send(settings_of(folder, free_port(), recipients))
    assert capsys.readouterr().err.count("refuses the connection") == 1
    with run_post() as post:
        assert send(settings_of(folder, post.port, recipients))
        assert len(post.delivered) == 2


def test_a_process_killed_between_sending_and_recording(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The mail that the server took from a process killed with SIGKILL is not sent again, and never reported as sent."""

    class Killer(Post):
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
            await super().handle_DATA(server, session, envelope)
            process.send_signal(signal.SIGKILL)
            return "250 2.0.0 queued"

    with run_post(Killer()) as post:
        command = [sys.executable, "-c", KILLED, str(folder), str(post.port)]
        with subprocess.Popen(command, cwd=Path(__file__).parents[3]) as process:
            process.wait(60)
    assert process.returncode == -signal.SIGKILL
    assert len(post.delivered) == 1
    settings = settings_of(folder, 1)
    assert log_of(settings) == {"ciso@example.org": "sending"}
    assert not send(settings)
    error = capsys.readouterr().err
    assert "delivery to ciso@example.org: it may have arrived: its delivery was interrupted" in error
    assert "it is not sent again without --resend" in error
    with run_post() as post:
        assert send(settings_of(folder, post.port), resend=True)
        assert len(post.delivered) == 1


def test_two_processes_deliver_at_the_same_time(folder: Path, post: Post) -> None:
    """Each recipient gets one mail, and each delivery says truthfully whether everyone has got it."""
    recipients = tuple(f"{number}@example.org" for number in range(6))
    settings = settings_of(folder, post.port, recipients, timeout=30)
    ready = threading.Barrier(2)

    def run(_: int) -> bool:
        ready.wait(30)
        return send(settings)

    with ThreadPoolExecutor(2) as pool:
        complete = list(pool.map(run, range(2)))
    assert sorted(to for to, _ in post.delivered) == sorted(recipients)
    assert set(log_of(settings).values()) == {"sent"}
    assert send(settings)
    assert len(complete) == 2


def test_a_lost_connection_changes_no_delivery_of_another_process(folder: Path) -> None:
    """The recipients without a claim are failed, but not those that another process has served in the meantime."""
    recipients = ("first@example.org", "sent@example.org", "claimed@example.org", "last@example.org")

    class Race(Post):
        async def handle_MAIL(self, *arguments: Any) -> str:  # noqa: N802 - aiosmtpd's name
            engine = connect(settings.database)
            other = DeliveryLog(engine, RUN, SUMMARY.report)
            assert other.claim("sent@example.org")
            other.record(Outcome("sent@example.org", "sent", ""))
            assert other.claim("claimed@example.org")
            engine.dispose()
            return await super().handle_MAIL(*arguments)

    with run_post(Race(at_mail={"ledger@example.org": "abort"})) as post:
        settings = settings_of(folder, post.port, recipients, timeout=10)
        assert not send(settings)
    assert log_of(settings) == {
        "first@example.org": "failed",
        "sent@example.org": "sent",
        "claimed@example.org": "sending",
        "last@example.org": "failed",
    }


def test_sending_again_in_vain_keeps_what_is_known(folder: Path, post: Post) -> None:
    """If --resend does not reach the server, the log still says that the report was sent."""
    assert send(settings_of(folder, post.port))
    settings = settings_of(folder, free_port())
    assert not send(settings, resend=True)
    assert log_of(settings) == {"ciso@example.org": "sent"}


def test_a_mail_that_is_sent_again_has_a_new_message_id(folder: Path, post: Post) -> None:
    """Mail systems hide a mail whose Message-ID they have seen; --resend is for recipients who need it again."""
    settings = settings_of(folder, post.port, ("ciso@example.org", "audit@example.org"))
    assert send(settings)
    assert send(settings, only={"ciso@example.org"}, resend=True)
    first, again = received(post, "ciso@example.org")
    assert first["Message-ID"] != again["Message-ID"]
    assert first["References"] == again["References"]
    assert len(received(post, "audit@example.org")) == 1
    assert log_of(settings) == {"ciso@example.org": "sent", "audit@example.org": "sent"}


def test_an_unknown_recipient_is_an_error(folder: Path, post: Post) -> None:
    """--to selects from the settings: it is no way to send the report to anyone else."""
    with pytest.raises(
        NoRecipientError, match=r"eve@evil\.example is no recipient.*: choose from ciso@example\.org"
    ) as caught:
        send(settings_of(folder, post.port), only={"eve@evil.example"})
    assert caught.value.exit_code == 2
    assert post.delivered == []


def test_settings_without_recipients_are_an_error(folder: Path) -> None:
    """A delivery without a channel is an error, not a success."""
    settings = settings_of(folder, 1).model_copy(update={"mail": None})
    with pytest.raises(NoRecipientError, match="add the section `mail`"):
        send(settings)


def test_a_dry_run_lists_who_gets_what(folder: Path, post: Post, capsys: pytest.CaptureFixture[str]) -> None:
    """A dry run names subject and files for pending recipients, the state of the others, and changes nothing."""
    assert send(settings_of(folder, post.port))
    capsys.readouterr()
    settings = settings_of(folder, post.port, ("ciso@example.org", "audit@example.org"))
    assert send(settings, dry_run=True)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("delivery: ciso@example.org: it was sent (")
    assert second == (
        "delivery: audit@example.org gets “[kmsledger] KMS ledger of Example Corp: 2 keys will be deleted within 7 days · "
        "14 new findings” with report.html (0.0 MB)"
    )
    assert len(post.delivered) == 1
    assert log_of(settings) == {"ciso@example.org": "sent"}


@pytest.mark.parametrize(
    ("only_changes", "unchanged", "previous", "mails"),
    [
        (True, True, "sent", 0),
        (True, True, "skipped", 0),
        (True, True, "failed", 1),
        (True, True, None, 1),
        (True, False, "sent", 1),
        (False, True, "sent", 1),
    ],
)
def test_nothing_is_sent_when_nothing_changed(
    folder: Path, post: Post, *, only_changes: bool, unchanged: bool, previous: Any, mails: int
) -> None:
    """With only_changes, a recipient who knows the previous run gets no mail about a run that does not differ from it."""
    settings = settings_of(folder, post.port, only_changes=only_changes)
    if previous:
        engine = connect(settings.database)
        DeliveryLog(engine, RUN - 1, SUMMARY.report).record(Outcome("ciso@example.org", previous, ""))
        engine.dispose()
    assert send(settings, RUN - 1 if unchanged else None)
    assert len(post.delivered) == mails
    assert log_of(settings) == {"ciso@example.org": "sent" if mails else "skipped"}
    assert send(settings, resend=True)
    assert len(post.delivered) == mails + 1


def test_a_recipient_is_claimed_once(ledger: Engine) -> None:
    """Of several processes one gets the claim; a failed delivery can be claimed again, and any other with `resend` only."""
    add_runs(ledger)
    log = DeliveryLog(ledger, RUN, "overview")
    assert log.claim("a@example.org")
    assert not log.claim("a@example.org")
    assert log.claim("b@example.org")
    log.record(Outcome("a@example.org", "failed", "x"))
    assert log.claim("a@example.org")
    for status in ("sent", "rejected", "unknown", "skipped", "sending"):
        log.record(Outcome("a@example.org", status, "x"))
        assert not log.claim("a@example.org")
        assert log.claim("a@example.org", resend=True)

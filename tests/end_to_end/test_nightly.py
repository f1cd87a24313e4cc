"""The unattended run: crawl, mart, reports and mail, with one exit code."""

from __future__ import annotations

import email
import email.policy
import shutil
import socket
import sqlite3

import pytest

from demo import certificates
from tests.end_to_end.conftest import Workspace


def mails(workspace: Workspace, recipient: str) -> list[email.message.EmailMessage]:
    """The accepted messages for one recipient."""
    return [
        email.message_from_bytes(message.content, policy=email.policy.default)
        for message in workspace.mail.messages
        if message.recipients == (recipient,)
    ]


def assert_run_completed(workspace: Workspace) -> None:
    """Assert that ledger, mart and report of the second run exist."""
    assert workspace.sql("select max(run_id) n from runs") == [{"n": 2}]
    assert list((workspace.directory / "reports").glob("kmsledger-overview-run2.html"))


def test_the_mail_arrives_once_with_the_report(account: Workspace) -> None:
    """The recipient gets text, HTML and the attached report over STARTTLS with a login, once per run."""
    account.change(mail={"recipients": ["once@northwind.example"]})
    done = account.run("nightly")
    assert done.returncode == 3, done.stderr
    (message,) = mails(account, "once@northwind.example")
    assert [part.get_content_type() for part in message.walk() if not part.is_multipart()] == [
        "text/plain",
        "text/html",
        "text/html",
    ]
    (attached,) = list(message.iter_attachments())
    assert attached.get_content() == (account.directory / "reports" / "kmsledger-overview-run2.html").read_text()
    again = account.run("mail")
    assert again.returncode == 0, again.stderr
    assert len(mails(account, "once@northwind.example")) == 1


def test_a_refused_connection(account: Workspace) -> None:
    """Without a mail server, the exit code is 4, crawl and report are complete, and `mail` sends the report later."""
    port = account.mail.port
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        dead = taken.getsockname()[1]
    account.change(mail={"port": dead, "recipients": ["later@northwind.example"]})
    done = account.run("nightly")
    assert done.returncode == 4
    assert f"{dead}" in done.stderr
    assert done.stderr.count("refuses the connection") == 1
    assert_run_completed(account)
    account.change(mail={"port": port})
    assert account.run("mail").returncode == 0
    assert len(mails(account, "later@northwind.example")) == 1


def test_an_untrusted_certificate(account: Workspace, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A server with a certificate of another CA gets neither password nor mail."""
    other_ca = certificates.create(tmp_path_factory.mktemp("other"))
    shutil.copy(other_ca.authority, account.directory / "tls" / "ca.pem")
    account.change(mail={"recipients": ["tls@northwind.example"]})
    done = account.run("nightly")
    assert done.returncode == 4
    assert "certificate" in done.stderr
    assert_run_completed(account)
    assert mails(account, "tls@northwind.example") == []


def test_a_wrong_password(account: Workspace) -> None:
    """The message reports a rejected login without the password."""
    account.change(mail={"password": "not-the-password", "recipients": ["login@northwind.example"]})
    done = account.run("nightly")
    assert done.returncode == 4
    assert "mail.password" in done.stderr or "password" in done.stderr
    assert "not-the-password" not in done.stderr
    assert_run_completed(account)


def test_a_rejected_recipient_leaves_the_others_their_mail(account: Workspace) -> None:
    """If the server rejects one recipient, the other gets the mail; delivery log and exit code record the rejection."""
    account.change(mail={"recipients": ["gone@northwind.example", "here@northwind.example"]})
    done = account.run("nightly")
    assert done.returncode == 4
    assert "gone@northwind.example" in done.stderr
    assert len(mails(account, "here@northwind.example")) == 1
    with sqlite3.connect(account.directory / "ledger.db") as connection:
        delivery_log = dict(connection.execute("select recipient, status from delivery"))
    assert delivery_log == {"gone@northwind.example": "rejected", "here@northwind.example": "sent"}
    assert_run_completed(account)

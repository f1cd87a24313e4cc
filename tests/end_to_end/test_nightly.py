"""The unattended night: crawl, mart, reports and mail, with one exit code."""

from __future__ import annotations

import email
import email.policy
import shutil
import socket
import sqlite3

import pytest

from demo import certificates
from tests.end_to_end.conftest import House


def mails(house: House, recipient: str) -> list[email.message.EmailMessage]:
    """The messages that the server accepted for one recipient."""
    return [
        email.message_from_bytes(message.content, policy=email.policy.default)
        for message in house.mail.messages
        if message.recipients == (recipient,)
    ]


def crawl_and_report_are_there(house: House) -> None:
    """Ledger, mart and report of the second run are intact."""
    assert house.sql("select max(run_id) n from runs") == [{"n": 2}]
    assert list((house.directory / "reports").glob("kmsledger-overview-run2.html"))


def test_the_mail_arrives_once_with_the_report(account: House) -> None:
    """Text, HTML and the attached report reach the recipient over STARTTLS with a login, once per run."""
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


def test_a_refused_connection(account: House) -> None:
    """No mail server: a clear message and exit code 4; crawl and report are there, and `mail` sends it later."""
    port = account.mail.port
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        dead = taken.getsockname()[1]
    account.change(mail={"port": dead, "recipients": ["later@northwind.example"]})
    done = account.run("nightly")
    assert done.returncode == 4
    assert f"{dead}" in done.stderr
    assert done.stderr.count("refuses the connection") == 1
    crawl_and_report_are_there(account)
    account.change(mail={"port": port})
    assert account.run("mail").returncode == 0
    assert len(mails(account, "later@northwind.example")) == 1


def test_a_wrong_certificate(account: House, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A server that another authority signed gets no password and no mail."""
    other = certificates.create(tmp_path_factory.mktemp("other"))
    shutil.copy(other.authority, account.directory / "tls" / "ca.pem")
    account.change(mail={"recipients": ["tls@northwind.example"]})
    done = account.run("nightly")
    assert done.returncode == 4
    assert "certificate" in done.stderr
    crawl_and_report_are_there(account)
    assert mails(account, "tls@northwind.example") == []


def test_a_wrong_password(account: House) -> None:
    """A refused login is named as such, without the password."""
    account.change(mail={"password": "not-the-password", "recipients": ["login@northwind.example"]})
    done = account.run("nightly")
    assert done.returncode == 4
    assert "mail.password" in done.stderr or "password" in done.stderr
    assert "not-the-password" not in done.stderr
    crawl_and_report_are_there(account)


def test_a_rejected_recipient_leaves_the_others_their_mail(account: House) -> None:
    """One recipient is refused by the server: the other has the mail, the refusal is in the books and in the exit code."""
    account.change(mail={"recipients": ["gone@northwind.example", "here@northwind.example"]})
    done = account.run("nightly")
    assert done.returncode == 4
    assert "gone@northwind.example" in done.stderr
    assert len(mails(account, "here@northwind.example")) == 1
    with sqlite3.connect(account.directory / "ledger.db") as connection:
        books = dict(connection.execute("select recipient, status from delivery"))
    assert books == {"gone@northwind.example": "rejected", "here@northwind.example": "sent"}
    crawl_and_report_are_there(account)

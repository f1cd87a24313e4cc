"""The mail server of the demo: it requires TLS and a password, and rejects with the documented codes."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from demo.certificates import Certificates
from demo.smtp import MailServer

USER, PASSWORD = "reports", "password of the relay"
TIMEOUT_S = 10


@pytest.fixture
def server(local_certificates: Certificates, tmp_path: Path) -> Iterator[MailServer]:
    with MailServer(
        local_certificates,
        user=USER,
        password=PASSWORD,
        rejected=["Nobody@northwind.example"],
        directory=tmp_path / "mail",
    ) as running:
        yield running


@pytest.fixture
def trust(local_certificates: Certificates) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(local_certificates.authority))


@pytest.fixture
def client(server: MailServer, trust: ssl.SSLContext) -> Iterator[smtplib.SMTP]:
    with smtplib.SMTP("localhost", server.port, timeout=TIMEOUT_S) as connection:
        connection.starttls(context=trust)
        yield connection


def mail(*recipients: str) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"] = "ledger@northwind.example", ", ".join(recipients)
    message["Subject"] = "Five changes"
    message.set_content("Gr\u00fc\u00dfe\n")
    return message


@pytest.mark.parametrize("mechanism", ["auth_plain", "auth_login"])
def test_mail_is_stored_unchanged(server: MailServer, client: smtplib.SMTP, tmp_path: Path, mechanism: str) -> None:
    """After STARTTLS and either AUTH mechanism, bytes and envelope are stored in memory and on disk."""
    client.ehlo()
    client.user, client.password = USER, PASSWORD
    code, _ = client.auth(mechanism[5:].upper(), getattr(client, mechanism))
    assert code == 235
    client.send_message(mail("ciso@northwind.example", "team@northwind.example"))
    [message] = server.messages
    assert message.sender == "ledger@northwind.example"
    assert message.recipients == ("ciso@northwind.example", "team@northwind.example")
    assert b"Subject: Five changes" in message.content
    assert (tmp_path / "mail" / "0001.eml").read_bytes() == message.content


def test_a_wrong_password_is_rejected(client: smtplib.SMTP) -> None:
    """A wrong password gives 535, and the connection stays open."""
    with pytest.raises(smtplib.SMTPAuthenticationError) as refusal:
        client.login(USER, "guess")
    assert refusal.value.smtp_code == 535
    assert client.noop()[0] == 250


def test_tls_is_required(server: MailServer) -> None:
    """Before STARTTLS, the server accepts neither a password nor mail."""
    with smtplib.SMTP("localhost", server.port, timeout=TIMEOUT_S) as connection:
        connection.ehlo()
        assert not connection.has_extn("auth")
        assert connection.mail("ledger@northwind.example")[0] == 530
    assert server.messages == []


def test_a_password_is_required(client: smtplib.SMTP, server: MailServer) -> None:
    """TLS without a login is not enough to send mail."""
    client.ehlo()
    assert client.mail("ledger@northwind.example")[0] == 530
    assert server.messages == []


def test_a_rejected_recipient_is_reported(client: smtplib.SMTP, server: MailServer) -> None:
    """A rejected recipient gives 550, in any letter case; the others get the mail."""
    client.login(USER, PASSWORD)
    refused = client.send_message(mail("nobody@northwind.example", "ciso@northwind.example"))
    assert {address: code for address, (code, _) in refused.items()} == {"nobody@northwind.example": 550}
    assert server.messages[0].recipients == ("ciso@northwind.example",)


def test_a_client_without_the_ca_rejects_the_certificate(server: MailServer) -> None:
    """The certificate is valid only for clients that trust the CA."""
    with (
        smtplib.SMTP("localhost", server.port, timeout=TIMEOUT_S) as connection,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        connection.starttls(context=ssl.create_default_context())


def test_the_private_key_is_private(local_certificates: Certificates) -> None:
    """Only the owner can read the private key."""
    assert local_certificates.key.stat().st_mode & 0o077 == 0

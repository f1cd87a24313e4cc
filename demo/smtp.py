"""A mail server that requires TLS and a password, like a company relay, and stores the received messages."""

from __future__ import annotations

import asyncio
import hmac
import logging
import ssl
import threading
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword, Session

from demo.certificates import Certificates

START_TIMEOUT_S = 20.0
# aiosmtpd logs a warning about a deprecated attribute of its own.
logging.getLogger("mail.log").setLevel(logging.ERROR)


@dataclass(frozen=True, slots=True)
class Message:
    """A received message: sender and recipients (SMTP envelope, not headers) and its bytes."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes


class MailServer:
    """An SMTP server on 127.0.0.1 with STARTTLS and AUTH PLAIN or LOGIN, in its own threads.

        with MailServer(certificates.create(folder), user="reports", password="secret") as server:
            ...                                     # server.host, server.port, server.messages

    It rejects a wrong password with 535, a recipient in `rejected` with 550, and mail before STARTTLS with 530. With
    `directory`, it also writes each message there as 0001.eml and so on.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        certificates: Certificates,
        *,
        user: str,
        password: str,
        rejected: Collection[str] = (),
        directory: Path | None = None,
    ) -> None:
        self.user = user
        self.password = password
        self._rejected = {address.casefold() for address in rejected}
        self._directory = directory
        self._lock = threading.Lock()
        self._messages: list[Message] = []
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificates.certificate, certificates.key)
        self._controller = _Controller(
            self,
            hostname=self.host,
            port=0,
            ready_timeout=START_TIMEOUT_S,
            tls_context=tls,
            require_starttls=True,
            auth_required=True,
            authenticator=self._authenticate,
        )

    def __enter__(self) -> Self:
        if self._directory:
            self._directory.mkdir(parents=True, exist_ok=True)
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()

    @property
    def port(self) -> int:
        """The TCP port of the server."""
        return self._controller.bound_port

    @property
    def messages(self) -> list[Message]:
        """All accepted messages, oldest first."""
        with self._lock:
            return list(self._messages)

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: Any, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Accept or reject one recipient (called by aiosmtpd)."""
        if address.casefold() in self._rejected:
            return "550 5.1.1 No such mailbox here"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 OK"

    async def handle_DATA(self, _server: Any, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - as above
        """Store one message (called by aiosmtpd)."""
        content = envelope.content if isinstance(envelope.content, bytes) else str(envelope.content).encode()
        message = Message(envelope.mail_from or "", tuple(envelope.rcpt_tos), content)
        with self._lock:
            self._messages.append(message)
            number = len(self._messages)
        if self._directory:
            (self._directory / f"{number:04}.eml").write_bytes(content)
        return "250 2.0.0 Message kept"

    def _authenticate(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        success = (
            isinstance(data, LoginPassword)
            and hmac.compare_digest(data.login, self.user.encode())
            and hmac.compare_digest(data.password, self.password.encode())
        )
        # handled=False lets aiosmtpd send the 535 itself; without it a client with a wrong password waits forever.
        return AuthResult(success=success, handled=False)


class _Controller(Controller):
    """aiosmtpd's controller on a port that the system chooses."""

    bound_port = 0

    def _trigger_server(self) -> None:
        """Learn the port, then let aiosmtpd check that the server answers on it."""
        if isinstance(self.server, asyncio.Server):  # not None, and not a loop's own kind without sockets
            self.port = self.bound_port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()  # type: ignore[no-untyped-call]  # aiosmtpd annotates only some of its methods

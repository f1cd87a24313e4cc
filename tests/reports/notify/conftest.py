"""A mail server and a certificate authority of the tests' own: real SMTP, real TLS, on this machine only."""

import asyncio
import datetime as dt
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy import Engine, insert

from models.settings import MailSettings
from models.store.engine import connect
from models.tables.runs import Run, RunStatus

PASSWORD = "correct horse, Würfel"

RUN = 42
"""The run of the sample report."""

SettingsFactory = Callable[..., MailSettings]


class Authority:
    """A throw-away certificate authority that writes PEM files into one folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = _name(name)
        certificate = self._build(self._subject, self._key, 30, x509.BasicConstraints(ca=True, path_length=0))
        self.bundle = folder / f"{name}.pem"
        self.bundle.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def server_context(self, host: str = "localhost", *, days: int = 30) -> ssl.SSLContext:
        """A server's TLS context for `host`; negative `days` create a certificate that expired that many days ago."""
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.DNSName(host)]
        if host == "localhost":
            names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        certificate = self._build(_name(host), key, days, x509.SubjectAlternativeName(names))
        path = self._folder / f"{self._name}-{host}-{days}.pem"
        path.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def _build(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, days: int, extension: x509.ExtensionType
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=60))
            .not_valid_after(now + dt.timedelta(days=days))
            .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
            .sign(self._key, hashes.SHA256())
        )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


@dataclass
class Post:
    """The mail server's behaviour and memory: each `at_` maps an address to the reply it gets at that stage.

    A reply of "abort" closes the connection instead of answering, "silence" leaves the client without an answer.
    """

    at_mail: dict[str, str] = field(default_factory=dict)
    at_rcpt: dict[str, str] = field(default_factory=dict)
    at_data: dict[str, str] = field(default_factory=dict)
    delivered: list[tuple[str, bytes]] = field(default_factory=list)
    transactions: int = 0
    sessions: set[int] = field(default_factory=set)
    port: int = 0
    largest: int = 10**9
    """The mail server rejects larger mails after DATA."""

    async def handle_MAIL(  # noqa: N802 - aiosmtpd finds its hooks by these names
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        """Answer MAIL; counts transactions and connections."""
        self.transactions += 1
        self.sessions.add(id(session))
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return await self._reply(server, self.at_mail.get(address)) or "250 OK"

    async def handle_RCPT(  # noqa: N802 - as above
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        """Answer RCPT."""
        del session, options
        refusal = await self._reply(server, self.at_rcpt.get(address))
        if refusal:
            return refusal
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - as above
        """Keep the mail and answer the end of DATA."""
        del session
        [recipient] = envelope.rcpt_tos
        refusal = self.at_data.get(recipient)
        if len(envelope.content) > self.largest:
            refusal = "552 5.3.4 message size exceeds limit"
        if refusal in {None, "abort", "silence"}:
            self.delivered.append((recipient, envelope.content))
        return await self._reply(server, refusal) or "250 2.0.0 queued"

    @staticmethod
    async def _reply(server: Any, reply: str | None) -> str | None:
        if reply == "abort":
            server.transport.abort()
        if reply == "silence":
            await asyncio.sleep(3)
        return reply


def _authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: LoginPassword) -> AuthResult:
    del server, session, envelope, mechanism
    # handled=False makes aiosmtpd answer 535 itself; otherwise the client would wait forever.
    return AuthResult(success=(data.login, data.password) == (b"ledger", PASSWORD.encode()), handled=False)


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def run_post(
    post: Post | None = None, *, starttls: ssl.SSLContext | None = None, tls: ssl.SSLContext | None = None, **smtp: Any
) -> Iterator[Post]:
    """Run a mail server in a thread; `smtp` goes to aiosmtpd's SMTP (data_size_limit, auth_required ...)."""
    post = post or Post()
    post.port = free_port()
    controller = Controller(
        post,
        hostname="127.0.0.1",
        port=post.port,
        ssl_context=tls,
        tls_context=starttls,
        authenticator=_authenticate,
        **{"auth_require_tls": tls is None, **smtp},
    )
    controller.start()
    try:
        yield post
    finally:
        controller.stop()


@contextmanager
def run_script(*lines: bytes | None) -> Iterator[int]:
    """Run a server for one client that sends each line after what it reads, whatever that is; None is silence.

    Yields the port. The first line is the greeting; after the last one the connection is closed.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        done = threading.Event()

        def serve() -> None:
            with suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    for index, line in enumerate(lines):
                        if index and not connection.recv(65_536):
                            return
                        if line is None:
                            done.wait(5)
                            return
                        connection.sendall(line)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            done.set()
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


@pytest.fixture
def mail_settings(authority: Authority) -> SettingsFactory:
    """Build settings that trust the tests' authority; keyword arguments replace single ones."""

    def build(**changes: Any) -> MailSettings:
        values = {
            "host": "localhost",
            "ca_bundle": str(authority.bundle),
            "timeout": 2,
            "sender": "ledger@example.org",
            "recipients": ["ciso@example.org"],
        }
        return MailSettings.model_validate({**values, **changes})

    return build


@pytest.fixture
def starttls_post(authority: Authority) -> Callable[..., AbstractContextManager[Post]]:
    """Start a server that offers STARTTLS with a good certificate."""

    def start(post: Post | None = None, **smtp: Any) -> AbstractContextManager[Post]:
        return run_post(post, starttls=authority.server_context(), **smtp)

    return start


def add_runs(engine: Engine) -> None:
    """Add the run of the report and the one before it."""
    values = {"started_at": dt.datetime.now(dt.UTC), "status": str(RunStatus.COMPLETE), "version": "test"}
    with engine.begin() as connection:
        connection.execute(insert(Run), [{**values, "run_id": run_id} for run_id in (RUN - 1, RUN)])


@pytest.fixture
def folder(tmp_path: Path, sqlite_url: str) -> Path:
    """A directory with a ledger that has the run of the sample report and the one before it."""
    engine = connect(sqlite_url)
    add_runs(engine)
    engine.dispose()
    return tmp_path

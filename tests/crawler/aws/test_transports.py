"""Both ways of sending: what they make of answers that are not AWS's, and whose credentials sign which call."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from crawler.aws.errors import AwsError
from crawler.aws.transport_boto3 import Boto3Transport, Credentials, Transport
from crawler.aws.transport_curl import CurlTransport
from crawler.collector import items_of
from crawler.discovery import DESCRIBE_REGIONS, LIST_REGIONS
from crawler.services.kms import DESCRIBE_KEY, LIST_KEYS
from crawler.services.resource_types import BUCKET, DB_INSTANCE
from crawler.spec import Operation
from models.settings import AwsSettings
from models.tables.runs import Cause
from tests.crawler.scripted_aws import REGION

HTML = b"<html><body>Please log in to the guest network.</body></html>"
OWN = Credentials("AKIAOWN", "secret", "token")
Reply = tuple[int, str, bytes]
pytestmark = pytest.mark.parametrize("kind", ["boto3", "wire"])


class Server(ThreadingHTTPServer):
    """Takes many connections at once."""

    daemon_threads = True
    request_queue_size = 256


@contextmanager
def serving(
    reply: Callable[[Mapping[str, str]], Reply | None], clock: Callable[[], str] | None = None
) -> Iterator[str]:
    """A server that answers every request alike; ``None`` hangs up without an answer. ``clock`` gives its Date."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            """As reply says."""
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = reply({name.lower(): value for name, value in self.headers.items()})
            if answer is None:
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            status, kind, body = answer
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def date_time_string(self, timestamp: float | None = None) -> str:
            """The Date header."""
            return clock() if clock is not None else super().date_time_string(timestamp)

        def do_GET(self) -> None:
            """As for POST."""
            self.do_POST()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextmanager
def sending(kind: str, url: str, **settings: Any) -> Iterator[Callable[[Operation], Cause | None]]:
    """Asks one operation after the other through one transport: why each, or the reading of its items, failed."""
    aws = AwsSettings.model_validate({"endpoint_url": url, **settings})
    with asyncio.Runner() as runner:
        transport = make(kind, aws)

        def cause(operation: Operation) -> Cause | None:
            try:
                items_of(operation, runner.run(transport.send(OWN, operation, REGION, {})))
            except AwsError as error:
                return error.cause
            return None

        yield cause
        transport.close()


def make(kind: str, aws: AwsSettings) -> Transport:
    """A transport; call it where an event loop runs."""
    return Boto3Transport(aws, 16) if kind == "boto3" else CurlTransport(aws)


def test_an_answer_that_is_not_from_aws_is_no_empty_listing(kind: str) -> None:
    """A proxy's log-in page with status 200 must not read as "there are no keys here", in any protocol."""
    bodies = [HTML, b"", b"{}", b"[]", b"null", b"7"]
    body = [b""]
    wrong = []
    with serving(lambda _: (200, "text/html", body[0])) as url, sending(kind, url) as cause:
        for operation in (LIST_KEYS, LIST_REGIONS, DESCRIBE_REGIONS, DB_INSTANCE.listing, BUCKET.listing):
            for body[0] in bodies:
                if (found := cause(operation)) not in {Cause.INVALID_RESPONSE, Cause.SERVICE_ERROR}:
                    wrong.append((str(operation), body[0], found))
    assert wrong == []


def test_a_time_beyond_all_calendars_is_an_answer_that_cannot_be_read(kind: str) -> None:
    """An absurd date in one answer is an error of that call."""
    body = b'{"KeyMetadata": {"KeyId": "x", "CreationDate": 1e300}}'
    with serving(lambda _: (200, "application/x-amz-json-1.1", body)) as url, sending(kind, url) as cause:
        assert cause(DESCRIBE_KEY) is Cause.SERVICE_ERROR


def test_trouble_on_the_way_has_its_cause(kind: str) -> None:
    """Gateways, proxies and connections that break are told apart from AWS's own refusals."""
    troubles: list[tuple[Reply | None, Cause]] = [
        ((502, "text/html", HTML), Cause.SERVICE_ERROR),
        ((503, "application/json", b"{}"), Cause.SERVICE_ERROR),
        ((407, "text/html", HTML), Cause.REJECTED),
        ((429, "text/plain", b"slow down"), Cause.THROTTLED),
        (None, Cause.UNREACHABLE),
    ]
    now = [troubles[0][0]]
    found = []
    with serving(lambda _: now[0]) as url, sending(kind, url) as cause:
        for reply, expected in troubles:
            now[0] = reply
            found.append((expected, cause(LIST_KEYS)))
    assert [got for _, got in found] == [expected for expected, _ in found]


def test_nobody_listens(kind: str) -> None:
    """A closed port is unreachable, and so is a server that does not answer in time."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with sending(kind, url, connect_timeout=0.5, read_timeout=0.2) as cause:
            assert cause(LIST_KEYS) is Cause.UNREACHABLE
            silent.listen()
            assert cause(LIST_KEYS) is Cause.UNREACHABLE


def test_each_call_is_signed_by_its_own_credentials(kind: str) -> None:
    """Clients are shared by all accounts; many calls at once must not sign for one another."""
    mixed: list[tuple[str, str]] = []

    def reply(headers: Mapping[str, str]) -> Reply:
        key = headers["authorization"].partition("Credential=")[2].partition("/")[0]
        mixed.append((key, headers["x-amz-security-token"]))
        return 200, "application/x-amz-json-1.1", b'{"Keys": [{"KeyId": "' + key.encode() + b'"}]}'

    async def many(url: str) -> list[tuple[str, dict[str, Any]]]:
        transport = make(kind, AwsSettings.model_validate({"endpoint_url": url}))
        try:
            names = [f"ASIA{number:03}" for number in range(100)]
            calls = (
                transport.send(Credentials(name, "secret", f"token-{name}"), LIST_KEYS, REGION, {}) for name in names
            )
            return list(zip(names, await asyncio.gather(*calls), strict=True))
        finally:
            transport.close()

    with serving(reply) as url:
        found = asyncio.run(many(url))
    assert all(answer == {"Keys": [{"KeyId": name}]} for name, answer in found)
    assert len(mixed) == 100
    assert all(token == f"token-{key}" for key, token in mixed)

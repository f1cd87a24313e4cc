"""The wire: what boto3 makes of answers that are not AWS's, and whose credentials sign which call."""

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
from crawler.aws.transport import Boto3Transport, Credentials
from crawler.collect import items_of
from crawler.declare import Operation
from crawler.kms import LIST_KEYS
from crawler.organization import DESCRIBE_REGIONS, LIST_REGIONS
from crawler.usage import BUCKET, DB_INSTANCE
from models.run import Cause
from models.settings import AwsSettings
from tests.crawler.scripted import REGION

HTML = b"<html><body>Please log in to the guest network.</body></html>"
OWN = Credentials("AKIAOWN", "secret", "token")
Reply = tuple[int, str, bytes]


@contextmanager
def serving(reply: Callable[[Mapping[str, str]], Reply | None]) -> Iterator[str]:
    """A server that answers every request alike; ``None`` hangs up without an answer."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            """As reply says."""
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = reply(dict(self.headers.items()))
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

        def do_GET(self) -> None:
            """As for POST."""
            self.do_POST()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def sent(url: str, operation: Operation, **settings: Any) -> dict[str, Any]:
    """The answer of one call through boto3."""
    transport = Boto3Transport(AwsSettings.model_validate({"endpoint_url": url, **settings}), 2)
    try:
        return asyncio.run(transport.send(OWN, operation, REGION, {}))
    finally:
        transport.close()


def cause(url: str, operation: Operation, **settings: Any) -> Cause:
    """Why a call, or the reading of its items, failed."""
    with pytest.raises(AwsError) as failure:
        items_of(operation, sent(url, operation, **settings))
    assert "secret" not in str(failure.value)
    return failure.value.cause


@pytest.mark.parametrize(
    "operation", [LIST_KEYS, LIST_REGIONS, DESCRIBE_REGIONS, DB_INSTANCE.listing, BUCKET.listing], ids=str
)
@pytest.mark.parametrize("body", [HTML, b"", b"{}", b"[]", b"null"], ids=["html", "empty", "object", "list", "null"])
def test_an_answer_that_is_not_from_aws_is_no_empty_listing(operation: Operation, body: bytes) -> None:
    """A proxy's log-in page with status 200 must not read as "there are no keys here", in any protocol."""
    with serving(lambda _: (200, "text/html", body)) as url:
        assert cause(url, operation) in {Cause.MALFORMED, Cause.SERVICE_ERROR}


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ((502, "text/html", HTML), Cause.SERVICE_ERROR),
        ((503, "application/json", b"{}"), Cause.SERVICE_ERROR),
        ((407, "text/html", HTML), Cause.REFUSED),
        ((429, "text/plain", b"slow down"), Cause.THROTTLED),
        (None, Cause.UNREACHABLE),
    ],
)
def test_trouble_on_the_way_has_its_cause(reply: Reply | None, expected: Cause) -> None:
    """Gateways, proxies and connections that break are told apart from AWS's own refusals."""
    with serving(lambda _: reply) as url:
        assert cause(url, LIST_KEYS) is expected


def test_nobody_listens() -> None:
    """A closed port is unreachable, and so is a server that does not answer in time."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert cause(url, LIST_KEYS) is Cause.UNREACHABLE
        silent.listen()
        assert cause(url, LIST_KEYS, read_timeout=0.2) is Cause.UNREACHABLE


def test_each_call_is_signed_by_its_own_credentials() -> None:
    """Clients are shared by all accounts; many calls at once must not sign for one another."""
    mixed: list[tuple[str, str]] = []

    def reply(headers: Mapping[str, str]) -> Reply:
        key = headers["Authorization"].partition("Credential=")[2].partition("/")[0]
        mixed.append((key, headers["X-Amz-Security-Token"]))
        return 200, "application/x-amz-json-1.1", b'{"Keys": [{"KeyId": "' + key.encode() + b'"}]}'

    async def many(url: str) -> list[tuple[str, dict[str, Any]]]:
        transport = Boto3Transport(AwsSettings.model_validate({"endpoint_url": url}), 16)
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

"""Both transports: responses that do not come from AWS, network errors, and credentials per call."""

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
from crawler.aws.response_validation import items_of
from crawler.aws.transport_boto3 import Boto3Transport, Credentials, Transport
from crawler.aws.transport_curl import CurlTransport
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
pytestmark = pytest.mark.parametrize("kind", ["boto3", "curl"])


class Server(ThreadingHTTPServer):
    """Accepts many concurrent connections."""

    daemon_threads = True
    request_queue_size = 256


@contextmanager
def serving(
    reply: Callable[[Mapping[str, str]], Reply | None], clock: Callable[[], str] | None = None
) -> Iterator[str]:
    """Run a server with the same response to every request; ``None`` closes the connection. ``clock`` sets the Date header."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            """Send the reply."""
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            response = reply({name.lower(): value for name, value in self.headers.items()})
            if response is None:
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            status, content_type, body = response
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def date_time_string(self, timestamp: float | None = None) -> str:
            """Return the Date header."""
            return clock() if clock is not None else super().date_time_string(timestamp)

        def do_GET(self) -> None:
            """Handle GET like POST."""
            self.do_POST()

        def log_message(self, *_: object) -> None:
            """Do not log."""

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextmanager
def sending(kind: str, url: str, **settings: Any) -> Iterator[Callable[[Operation], Cause | None]]:
    """Yield a function that calls an operation and returns the cause of its failure, if any."""
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
    """Create a transport; requires a running event loop."""
    return Boto3Transport(aws, 16) if kind == "boto3" else CurlTransport(aws)


def test_a_response_that_is_not_from_aws_is_not_an_empty_listing(kind: str) -> None:
    """A proxy's login page with status 200 is an error and not an empty listing, in every protocol."""
    bodies = [HTML, b"", b"{}", b"[]", b"null", b"7"]
    body = [b""]
    failures = []
    with serving(lambda _: (200, "text/html", body[0])) as url, sending(kind, url) as cause:
        for operation in (LIST_KEYS, LIST_REGIONS, DESCRIBE_REGIONS, DB_INSTANCE.listing, BUCKET.listing):
            for body[0] in bodies:
                if (actual := cause(operation)) not in {Cause.INVALID_RESPONSE, Cause.SERVICE_ERROR}:
                    failures.append((str(operation), body[0], actual))
    assert failures == []


def test_a_timestamp_out_of_range_is_an_error_of_its_item(kind: str) -> None:
    """A timestamp out of range makes its own member unreadable and no other."""
    body = b'{"KeyMetadata": {"KeyId": "x", "CreationDate": 1e300}}'
    with serving(lambda _: (200, "application/x-amz-json-1.1", body)) as url, asyncio.Runner() as runner:
        transport = make(kind, AwsSettings.model_validate({"endpoint_url": url}))
        metadata = runner.run(transport.send(OWN, DESCRIBE_KEY, REGION, {}))["KeyMetadata"]
        transport.close()
    assert metadata["KeyId"] == "x"
    with pytest.raises(AwsError, match="CreationDate is a time out of range") as failure:
        metadata.get("CreationDate")
    assert failure.value.cause is Cause.INVALID_RESPONSE


def test_an_error_code_of_megabytes_is_cut(kind: str) -> None:
    """A long error code, which ends like that of a missing resource, is cut before it is classified."""
    code = "NoSuch" * 1_000_000 + "NotFound"
    body = b'{"__type": "%b", "message": "no"}' % code.encode()
    with serving(lambda _: (400, "application/x-amz-json-1.1", body)) as url, sending(kind, url) as cause:
        assert cause(LIST_KEYS) is Cause.NOT_FOUND


def test_network_errors_have_their_cause(kind: str) -> None:
    """Errors of gateways, proxies and connections are distinguished from AWS errors."""
    errors: list[tuple[Reply | None, Cause]] = [
        ((502, "text/html", HTML), Cause.SERVICE_ERROR),
        ((503, "application/json", b"{}"), Cause.SERVICE_ERROR),
        ((407, "text/html", HTML), Cause.REJECTED),
        ((429, "text/plain", b"slow down"), Cause.THROTTLED),
        (None, Cause.UNREACHABLE),
    ]
    current = [errors[0][0]]
    causes = []
    with serving(lambda _: current[0]) as url, sending(kind, url) as cause:
        for reply, expected in errors:
            current[0] = reply
            causes.append((expected, cause(LIST_KEYS)))
    assert [actual for _, actual in causes] == [expected for expected, _ in causes]


def test_an_unreachable_endpoint(kind: str) -> None:
    """A closed port and a server that does not respond in time are unreachable."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with sending(kind, url, connect_timeout=0.5, read_timeout=0.2) as cause:
            assert cause(LIST_KEYS) is Cause.UNREACHABLE
            silent.listen()
            assert cause(LIST_KEYS) is Cause.UNREACHABLE


def test_each_call_is_signed_by_its_own_credentials(kind: str) -> None:
    """Concurrent calls over shared clients are signed with their own credentials."""
    signatures: list[tuple[str, str]] = []

    def reply(headers: Mapping[str, str]) -> Reply:
        key = headers["authorization"].partition("Credential=")[2].partition("/")[0]
        signatures.append((key, headers["x-amz-security-token"]))
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
        results = asyncio.run(many(url))
    assert all(response == {"Keys": [{"KeyId": name}]} for name, response in results)
    assert len(signatures) == 100
    assert all(token == f"token-{key}" for key, token in signatures)

"""A transport that signs requests itself and sends them with libcurl; connections are shared by all accounts.

A connection belongs to an endpoint, credentials belong to the request. libcurl reads the proxies from the environment
(``https_proxy``, ``HTTPS_PROXY``, ``NO_PROXY`` ...), the CA bundle from the settings, AWS_CA_BUNDLE or the AWS config file.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import botocore.exceptions
import botocore.session
from botocore.httpsession import get_cert_path

from crawler.aws.codecs import Codec, Codecs, Request, Response
from crawler.aws.curl_multi import Multi
from crawler.aws.endpoints import Endpoint, Endpoints
from crawler.aws.errors import AwsError, classify
from crawler.aws.semaphore import FairSemaphore
from crawler.aws.sigv4 import Signer
from crawler.aws.transport_boto3 import Credentials, server_clock_offset
from crawler.spec import Operation
from models.settings import AwsSettings

MAX_CONNECTIONS_PER_ENDPOINT = 256
"""Further calls wait for a connection."""
SKEW_CODES = frozenset(
    {"RequestTimeTooSkewed", "RequestInTheFuture", "InvalidSignatureException", "SignatureDoesNotMatch"}
)
MIN_SKEW = 240.0
"""Clock skew in seconds that is corrected; AWS rejects signatures older than five minutes."""
SUPPRESSED_HEADERS = ("Expect:", "Accept:")
"""Headers without a value, which libcurl then omits: with Expect it would wait before sending a body."""


@dataclass(frozen=True, slots=True)
class _Target:
    """The URL of a request, and the signer of all requests that differ only in their body."""

    url: str
    signer: Signer


@dataclass(frozen=True, slots=True)
class _Route:
    """The prepared parts of an operation's requests in a region."""

    endpoint: Endpoint
    codec: Codec
    target: _Target | None
    """Set if the requests differ only in their body."""
    connections: FairSemaphore
    """Calls wait for a connection here, not in libcurl: outside their timeout, and before they are signed."""


class CurlTransport:
    """Sends calls with libcurl. One per process; belongs to the event loop of its first use."""

    def __init__(self, settings: AwsSettings) -> None:
        session = _session(settings.profile)
        self._settings = settings
        # Two exchanges if the first one corrects the clock.
        self.max_seconds = 2 * (settings.connect_timeout + settings.read_timeout)
        self._endpoints = Endpoints(settings, session)
        self._codecs = Codecs(session)
        bundle = settings.ca_bundle or session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
        self._authorities = str(bundle or get_cert_path(True))
        self._multi: Multi | None = None
        self._routes: dict[tuple[Operation, str], _Route] = {}
        self._semaphores: dict[str, FairSemaphore] = {}
        self._skew = 0.0
        """Seconds by which the server clock is ahead of the local clock, if signatures are corrected by it."""
        self._dated = False
        self.clock_offset: float | None = None
        """The same difference as measured by the date of the first response."""
        self._second = 0
        self._timestamp = ""

    async def send(
        self, credentials: Credentials, operation: Operation, region: str, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Call ``operation`` in ``region``; retries once after correcting the clock."""
        route = self._routes.get((operation, region)) or self._route(operation, region)
        codec = route.codec
        request = codec.request(params)
        response = await self._exchange(credentials, route, request)
        if response.status < 300:
            return codec.parse(response)
        code, message = codec.error(response)
        if code in SKEW_CODES and self._correct_skew(response):
            response = await self._exchange(credentials, route, request)
            if response.status < 300:
                return codec.parse(response)
            code, message = codec.error(response)
        raise AwsError(classify(code, message, response.status), code, message)

    @property
    def connections(self) -> int:
        """The number of connections opened so far."""
        return self._multi.opened if self._multi is not None else 0

    def close(self) -> None:
        """Close all connections. Call it before the event loop ends, because libcurl still calls back."""
        if self._multi is not None:
            self._multi.close()
            self._multi = None

    def _route(self, operation: Operation, region: str) -> _Route:
        endpoint = self._endpoints.find(operation.service, region)
        codec = self._codecs.of(operation)
        connections = self._semaphores.get(endpoint.url)
        if connections is None:
            connections = self._semaphores[endpoint.url] = FairSemaphore(MAX_CONNECTIONS_PER_ENDPOINT)
        target = _target(endpoint, Request("POST", "/", "", b"", codec.headers)) if codec.headers is not None else None
        route = self._routes[operation, region] = _Route(endpoint, codec, target, connections)
        return route

    async def _exchange(self, credentials: Credentials, route: _Route, request: Request) -> Response:
        if self._multi is None:
            self._multi = Multi(self._settings, self._authorities, MAX_CONNECTIONS_PER_ENDPOINT)
        async with route.connections:
            target = route.target or _target(route.endpoint, request)
            headers = target.signer.sign(credentials, self._now(), request.body)
            response = await self._multi.perform(request.method, target.url, headers, request.body)
        if not self._dated:
            self._dated = True
            self.clock_offset = server_clock_offset(response.headers.get("date"))
        return response

    def _now(self) -> str:
        """Return the server time in the format of the signature."""
        second = int(time.time() + self._skew)
        if second != self._second:
            self._second = second
            self._timestamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
        return self._timestamp

    def _correct_skew(self, response: Response) -> bool:
        """Adopt the server clock; return whether the difference explains the error."""
        skew = server_clock_offset(response.headers.get("date"))
        if skew is None or abs(skew - self._skew) < MIN_SKEW:
            return False
        self._skew = skew
        return True


def _target(endpoint: Endpoint, request: Request) -> _Target:
    path = f"{endpoint.path}{request.path}" or "/"
    headers = {**request.headers, "host": endpoint.host}
    # S3 signs the path as sent and a hash of the body; the other services encode the path once more.
    signed_path = path
    if endpoint.signing_name == "s3":
        headers["x-amz-content-sha256"] = hashlib.sha256(request.body).hexdigest()
    else:
        signed_path = quote(path, safe="/-_.~")
    # Without a content type, libcurl would send that of a form.
    unsigned = SUPPRESSED_HEADERS if "content-type" in headers else (*SUPPRESSED_HEADERS, "Content-Type:")
    signing = (endpoint.signing_region, endpoint.signing_name)
    signer = Signer(request.method, signed_path, request.query, headers, *signing, unsigned=unsigned)
    return _Target(f"{endpoint.url}{path}{'?' + request.query if request.query else ''}", signer)


def _session(profile: str | None) -> botocore.session.Session:
    session = botocore.session.Session(profile=profile)
    try:
        session.get_config_variable("ca_bundle")
    except botocore.exceptions.ProfileNotFound:
        # The lookup of credentials reports this error.
        return botocore.session.Session()
    return session

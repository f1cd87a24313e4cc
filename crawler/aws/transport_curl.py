"""Sending on our own: signed here, carried by libcurl, connections shared by all accounts.

A connection belongs to an endpoint; credentials belong to the request. Proxies come from the environment as libcurl reads it
(``https_proxy``, ``HTTPS_PROXY``, ``NO_PROXY`` ...), the CA bundle from the settings, AWS_CA_BUNDLE or the AWS config file.
"""

from __future__ import annotations

import email.utils
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

from crawler.aws.codecs import Answer, Codec, Codecs, Request
from crawler.aws.curl_multi import Multi
from crawler.aws.endpoints import Endpoint, Endpoints
from crawler.aws.errors import AwsError, classify
from crawler.aws.semaphore import Slots
from crawler.aws.sigv4 import EMPTY_HASH, Signer, authorization, canonical_query
from crawler.aws.transport_boto3 import Credentials
from crawler.spec import Operation
from models.settings import AwsSettings

PER_ENDPOINT = 256
"""Connections to one host at most; further calls wait for one of them."""
SKEW_CODES = frozenset(
    {"RequestTimeTooSkewed", "RequestInTheFuture", "InvalidSignatureException", "SignatureDoesNotMatch"}
)
SKEW_NOTICED = 240.0
"""Seconds. AWS refuses signatures of five minutes ago."""
UNASKED = ("Expect:", "Accept:")
"""Headers without a value are those that libcurl is not to send: it would wait for leave to send bodies."""


@dataclass(frozen=True, slots=True)
class _Route:
    """How an operation is asked in a region."""

    endpoint: Endpoint
    codec: Codec
    signer: Signer | None
    """Where requests differ in their body only."""
    url: str
    """Of such requests."""
    place: Slots
    """Waiting for a connection here, not in libcurl, keeps it out of the call's time-out and signs it when it is sent."""


class WireTransport:
    """The fast way. One a process; it belongs to the event loop that it is first used in."""

    def __init__(self, settings: AwsSettings) -> None:
        session = _session(settings.profile)
        self._settings = settings
        # Two exchanges, where the first one taught us the time.
        self.patience = 2 * (settings.connect_timeout + settings.read_timeout)
        self._endpoints = Endpoints(settings, session)
        self._codecs = Codecs(session)
        bundle = settings.ca_bundle or session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
        self._authorities = str(bundle or get_cert_path(True))
        self._multi: Multi | None = None
        self._routes: dict[tuple[Operation, str], _Route] = {}
        self._places: dict[str, Slots] = {}
        self._skew = 0.0
        """Seconds by which the servers' clock is ahead of ours."""
        self._second = 0
        self._timestamp = ""

    async def send(
        self, credentials: Credentials, operation: Operation, region: str, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Ask ``operation`` of ``region``; once more when only the clock was wrong."""
        route = self._routes.get((operation, region)) or self._route(operation, region)
        codec = route.codec
        request = codec.request(params)
        answer = await self._exchange(credentials, route, request)
        if answer.status < 300:
            return codec.read(answer)
        code, message = codec.error(answer)
        if code in SKEW_CODES and self._learn_skew(answer):
            answer = await self._exchange(credentials, route, request)
            if answer.status < 300:
                return codec.read(answer)
            code, message = codec.error(answer)
        raise AwsError(classify(code, message, answer.status), code, message)

    @property
    def connections(self) -> int:
        """Connections opened so far."""
        return self._multi.opened if self._multi is not None else 0

    def close(self) -> None:
        """Close all connections; before the event loop ends, because libcurl still calls back."""
        if self._multi is not None:
            self._multi.close()
            self._multi = None

    def _route(self, operation: Operation, region: str) -> _Route:
        endpoint = self._endpoints.find(operation.service, region)
        codec = self._codecs.of(operation)
        place = self._places.get(endpoint.url)
        if place is None:
            place = self._places[endpoint.url] = Slots(PER_ENDPOINT)
        signer = None
        path = f"{endpoint.path}/"
        if codec.json:
            headers = {**codec.headers, "host": endpoint.host}
            signed_path = quote(path, safe="/-_.~")
            signing = (endpoint.signing_region, endpoint.signing_name)
            signer = Signer("POST", signed_path, "", headers, *signing, unsigned=UNASKED)
        found = self._routes[operation, region] = _Route(endpoint, codec, signer, f"{endpoint.url}{path}", place)
        return found

    async def _exchange(self, credentials: Credentials, route: _Route, request: Request) -> Answer:
        if self._multi is None:
            self._multi = Multi(self._settings, self._authorities, PER_ENDPOINT)
        async with route.place:
            if route.signer is not None:
                headers = route.signer.sign(credentials, self._now(), request.body)
                return await self._multi.perform("POST", route.url, headers, request.body)
            url, headers = self._signed(credentials, route.endpoint, request)
            return await self._multi.perform(request.method, url, headers, request.body)

    def _now(self) -> str:
        """The servers' time, as it is signed."""
        second = int(time.time() + self._skew)
        if second != self._second:
            self._second = second
            self._timestamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
        return self._timestamp

    def _signed(self, credentials: Credentials, endpoint: Endpoint, request: Request) -> tuple[str, list[str]]:
        timestamp = self._now()
        query = canonical_query(dict(request.query))
        path = f"{endpoint.path}{request.path}" or "/"
        payload_hash = hashlib.sha256(request.body).hexdigest() if request.body else EMPTY_HASH
        headers = {**request.headers, "host": endpoint.host, "x-amz-date": timestamp}
        if endpoint.signing_name == "s3":
            headers["x-amz-content-sha256"] = payload_hash
        if credentials.token:
            headers["x-amz-security-token"] = credentials.token
        signature = authorization(
            method=request.method,
            # Only S3 signs the path as it is sent; for all others it is encoded once more.
            path=path if endpoint.signing_name == "s3" else quote(path, safe="/-_.~"),
            query=query,
            headers=headers,
            payload_hash=payload_hash,
            credentials=credentials,
            region=endpoint.signing_region,
            service=endpoint.signing_name,
            timestamp=timestamp,
        )
        sent = [f"{name}: {value}" for name, value in headers.items()]
        sent += [f"Authorization: {signature}", *UNASKED]
        if "content-type" not in headers:
            # libcurl would announce a form where there is none.
            sent.append("Content-Type:")
        return f"{endpoint.url}{path}{'?' + query if query else ''}", sent

    def _learn_skew(self, answer: Answer) -> bool:
        """Take the server's clock for right; whether ours was far enough off to explain the refusal."""
        told = answer.headers.get("date")
        if told is None:
            return False
        try:
            theirs = email.utils.parsedate_to_datetime(told)
            skew = theirs.timestamp() - time.time()
        except (OverflowError, ValueError):
            return False
        if abs(skew - self._skew) < SKEW_NOTICED:
            return False
        self._skew = skew
        return True


def _session(profile: str | None) -> botocore.session.Session:
    session = botocore.session.Session(profile=profile)
    try:
        session.get_config_variable("ca_bundle")
    except botocore.exceptions.ProfileNotFound:
        # Whoever looks for credentials says so, in a sentence.
        return botocore.session.Session()
    return session

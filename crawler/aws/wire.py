"""Sending on our own: libcurl's multi interface in the event loop, connections shared by all accounts.

A connection belongs to an endpoint; credentials belong to the request. Proxies come from the environment as libcurl reads it
(``https_proxy``, ``HTTPS_PROXY``, ``NO_PROXY`` ...), the CA bundle from the settings, AWS_CA_BUNDLE or the AWS config file.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import email.utils
import hashlib
import os
from collections import deque
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import botocore.exceptions
import botocore.session
import pycurl
from botocore.httpsession import get_cert_path

from crawler.aws.endpoints import Endpoint, Endpoints
from crawler.aws.errors import AwsError, classify
from crawler.aws.protocol import Answer, Codecs, Request
from crawler.aws.sigv4 import EMPTY_HASH, authorization, canonical_query
from crawler.aws.transport import Credentials
from crawler.declare import Operation
from models.run import Cause
from models.settings import AwsSettings

PER_ENDPOINT = 64
"""Connections to one host at most; further calls wait for one of them."""
IDLE_SECONDS = 60
LIFETIME_SECONDS = 3600
ANSWER_LIMIT = 64 * 1024 * 1024
"""Bytes. No declared operation answers with more than a fraction of it."""
SKEW_CODES = frozenset(
    {"RequestTimeTooSkewed", "RequestInTheFuture", "InvalidSignatureException", "SignatureDoesNotMatch"}
)
SKEW_NOTICED = dt.timedelta(minutes=4)
AGENT = "kmsledger"
MILLISECONDS = 1000

_UNTRUSTED = {pycurl.E_PEER_FAILED_VERIFICATION, pycurl.E_SSL_CACERT_BADFILE, pycurl.E_SSL_CONNECT_ERROR}
_NAMES = {
    pycurl.E_COULDNT_RESOLVE_HOST: "UnknownHost",
    pycurl.E_COULDNT_RESOLVE_PROXY: "UnknownProxy",
    pycurl.E_COULDNT_CONNECT: "ConnectionRefused",
    pycurl.E_OPERATION_TIMEDOUT: "Timeout",
    pycurl.E_PARTIAL_FILE: "TruncatedAnswer",
    pycurl.E_GOT_NOTHING: "ConnectionClosed",
    pycurl.E_SEND_ERROR: "ConnectionReset",
    pycurl.E_RECV_ERROR: "ConnectionReset",
    pycurl.E_WRITE_ERROR: "AnswerTooLarge",
}


class WireTransport:
    """The fast way. One a process; it belongs to the event loop that it is first used in."""

    def __init__(self, settings: AwsSettings) -> None:
        session = _session(settings.profile)
        self._settings = settings
        self._endpoints = Endpoints(settings, session)
        self._codecs = Codecs(session)
        bundle = settings.ca_bundle or session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
        self._authorities = str(bundle or get_cert_path(True))
        self._multi: _Multi | None = None
        self._places: dict[str, asyncio.Semaphore] = {}
        self._skew = dt.timedelta()

    async def send(
        self, credentials: Credentials, operation: Operation, region: str, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Ask ``operation`` of ``region``; once more when only the clock was wrong."""
        endpoint = self._endpoints.find(operation.service, region)
        codec = self._codecs.of(operation)
        request = codec.request(params)
        answer = await self._exchange(credentials, endpoint, request)
        if answer.status < 300:
            return codec.read(answer)
        code, message = codec.error(answer)
        if code in SKEW_CODES and self._learn_skew(answer):
            answer = await self._exchange(credentials, endpoint, request)
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

    async def _exchange(self, credentials: Credentials, endpoint: Endpoint, request: Request) -> Answer:
        if self._multi is None:
            self._multi = _Multi(self._settings, self._authorities)
        place = self._places.get(endpoint.url)
        if place is None:
            place = self._places[endpoint.url] = asyncio.Semaphore(PER_ENDPOINT)
        # Waiting for a connection here, not in libcurl, keeps it out of the call's time-out and signs it when it is sent.
        async with place:
            url, headers = self._signed(credentials, endpoint, request)
            return await self._multi.perform(request.method, url, headers, request.body)

    def _signed(self, credentials: Credentials, endpoint: Endpoint, request: Request) -> tuple[str, list[str]]:
        timestamp = (dt.datetime.now(dt.UTC) + self._skew).strftime("%Y%m%dT%H%M%SZ")
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
        # libcurl would wait for leave to send bodies, and announce a form where there is none.
        sent += [f"Authorization: {signature}", f"User-Agent: {AGENT}", "Expect:", "Accept:"]
        if "content-type" not in headers:
            sent.append("Content-Type:")
        return f"{endpoint.url}{path}{'?' + query if query else ''}", sent

    def _learn_skew(self, answer: Answer) -> bool:
        """Take the server's clock for right; whether ours was far enough off to explain the refusal."""
        told = answer.headers.get("date")
        if told is None:
            return False
        try:
            theirs = email.utils.parsedate_to_datetime(told)
        except ValueError:
            return False
        skew = theirs - dt.datetime.now(dt.UTC)
        if abs(skew - self._skew) < SKEW_NOTICED:
            return False
        self._skew = skew
        return True


class _Call:
    """One exchange in flight: its future, and what has arrived."""

    __slots__ = ("body", "done", "headers", "size")

    def __init__(self, done: asyncio.Future[Answer]) -> None:
        self.done = done
        self.headers: list[bytes] = []
        self.body: list[bytes] = []
        self.size = 0

    def write(self, data: bytes) -> int | None:
        """Called by libcurl with a part of the body; any other number than its length ends the transfer."""
        self.size += len(data)
        if self.size > ANSWER_LIMIT:
            return 0
        self.body.append(data)
        return None


class _Multi:
    """libcurl's multi handle, driven by the event loop's readiness of its sockets."""

    def __init__(self, settings: AwsSettings, authorities: str) -> None:
        self._settings = settings
        self._authorities = authorities
        self._loop = asyncio.get_running_loop()
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        self._multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, PER_ENDPOINT)
        self._multi.setopt(pycurl.M_MAXCONNECTS, 4096)
        self._multi.setopt(pycurl.M_PIPELINING, 0)
        self._calls: dict[pycurl.Curl, _Call] = {}
        self._free: deque[pycurl.Curl] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._watched: dict[int, int] = {}
        self.opened = 0

    async def perform(self, method: str, url: str, headers: list[str], body: bytes) -> Answer:
        """One exchange; :class:`AwsError` (unreachable) when no whole answer came."""
        handle = self._free.pop() if self._free else self._handle()
        call = _Call(self._loop.create_future())
        handle.setopt(pycurl.URL, url)
        handle.setopt(pycurl.HTTPHEADER, headers)
        if method == "GET":
            handle.setopt(pycurl.HTTPGET, 1)
        else:
            handle.setopt(pycurl.POST, 1)
            handle.setopt(pycurl.POSTFIELDS, body)
        if method not in {"GET", "POST"}:
            handle.setopt(pycurl.CUSTOMREQUEST, method)
        handle.setopt(pycurl.WRITEFUNCTION, call.write)
        handle.setopt(pycurl.HEADERFUNCTION, call.headers.append)
        self._calls[handle] = call
        self._multi.add_handle(handle)
        try:
            return await call.done
        except asyncio.CancelledError:
            if handle in self._calls:
                del self._calls[handle]
                self._multi.remove_handle(handle)
                handle.close()
            raise

    def close(self) -> None:
        """End everything; calls in flight are cancelled."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for handle, call in list(self._calls.items()):
            self._multi.remove_handle(handle)
            handle.close()
            if not call.done.done():
                call.done.cancel()
        self._calls.clear()
        for handle in self._free:
            handle.close()
        self._free.clear()
        for descriptor in list(self._watched):
            self._unwatch(descriptor)
        self._multi.close()

    def _handle(self) -> pycurl.Curl:
        handle = pycurl.Curl()
        settings = self._settings
        handle.setopt(pycurl.NOSIGNAL, 1)
        handle.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        handle.setopt(pycurl.FOLLOWLOCATION, 0)
        handle.setopt(pycurl.CONNECTTIMEOUT_MS, int(settings.connect_timeout * MILLISECONDS))
        handle.setopt(pycurl.TIMEOUT_MS, int((settings.connect_timeout + settings.read_timeout) * MILLISECONDS))
        handle.setopt(pycurl.CAINFO, self._authorities)
        handle.setopt(pycurl.TCP_KEEPALIVE, 1)
        handle.setopt(pycurl.TCP_NODELAY, 1)
        handle.setopt(pycurl.MAXAGE_CONN, IDLE_SECONDS)
        handle.setopt(pycurl.MAXLIFETIME_CONN, LIFETIME_SECONDS)
        handle.setopt(pycurl.PATH_AS_IS, 1)
        return handle

    def _on_socket(self, what: int, descriptor: int, _multi: Any, _data: Any) -> None:
        if what == pycurl.POLL_REMOVE:
            self._unwatch(descriptor)
            return
        before = self._watched.get(descriptor, 0)
        self._watched[descriptor] = what
        if what & pycurl.POLL_IN and not before & pycurl.POLL_IN:
            self._loop.add_reader(descriptor, self._act, descriptor, pycurl.CSELECT_IN)
        elif before & pycurl.POLL_IN and not what & pycurl.POLL_IN:
            self._loop.remove_reader(descriptor)
        if what & pycurl.POLL_OUT and not before & pycurl.POLL_OUT:
            self._loop.add_writer(descriptor, self._act, descriptor, pycurl.CSELECT_OUT)
        elif before & pycurl.POLL_OUT and not what & pycurl.POLL_OUT:
            self._loop.remove_writer(descriptor)

    def _unwatch(self, descriptor: int) -> None:
        before = self._watched.pop(descriptor, 0)
        if before & pycurl.POLL_IN:
            self._loop.remove_reader(descriptor)
        if before & pycurl.POLL_OUT:
            self._loop.remove_writer(descriptor)

    def _on_timer(self, milliseconds: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if milliseconds >= 0:
            self._timer = self._loop.call_later(milliseconds / MILLISECONDS, self._act, pycurl.SOCKET_TIMEOUT, 0)

    def _act(self, descriptor: int, events: int) -> None:
        self._multi.socket_action(descriptor, events)
        self._collect()

    def _collect(self) -> None:
        while True:
            waiting, good, bad = self._multi.info_read()
            for handle in good:
                self._finish(handle, 0, "")
            for handle, number, text in bad:
                self._finish(handle, number, text)
            if not waiting:
                return

    def _finish(self, handle: pycurl.Curl, number: int, text: str) -> None:
        call = self._calls.pop(handle)
        self._multi.remove_handle(handle)
        self.opened += handle.getinfo(pycurl.NUM_CONNECTS)
        if not call.done.done():
            if number:
                call.done.set_exception(_unreachable(number, text, handle.getinfo(pycurl.EFFECTIVE_URL)))
            else:
                status = handle.getinfo(pycurl.RESPONSE_CODE)
                call.done.set_result(Answer(status, _headers(call.headers), b"".join(call.body)))
        handle.unsetopt(pycurl.CUSTOMREQUEST)
        self._free.append(handle)


def _session(profile: str | None) -> botocore.session.Session:
    session = botocore.session.Session(profile=profile)
    try:
        session.get_config_variable("ca_bundle")
    except botocore.exceptions.ProfileNotFound:
        # Whoever looks for credentials says so, in a sentence.
        return botocore.session.Session()
    return session


def _unreachable(number: int, text: str, url: str) -> AwsError:
    host = url.split("?", maxsplit=1)[0]
    if number in _UNTRUSTED:
        return AwsError(Cause.UNREACHABLE, "CertificateNotTrusted", f"{host}: {text}")
    return AwsError(Cause.UNREACHABLE, _NAMES.get(number, f"Curl{number}"), f"{host}: {text}")


def _headers(lines: list[bytes]) -> dict[str, str]:
    """The last block of header lines: an earlier one is of a proxy or of a 100 Continue."""
    found: dict[str, str] = {}
    for line in lines:
        if line.startswith(b"HTTP/"):
            found.clear()
            continue
        name, separator, value = line.partition(b":")
        if separator:
            found[name.decode("latin-1").lower()] = value.strip().decode("latin-1")
    return found

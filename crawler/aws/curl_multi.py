"""libcurl's multi interface in the event loop: many concurrent HTTP exchanges in one thread."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import pycurl

from crawler.aws.codecs import Response
from crawler.aws.curl_poller import create_poller
from crawler.aws.errors import AwsError
from models.settings import AwsSettings
from models.tables.runs import Cause

IDLE_SECONDS = 60
LIFETIME_SECONDS = 3600
MAX_RESPONSE_BYTES = 64 * 1024 * 1024
"""Far more than any declared operation returns."""
AGENT = "kmsledger"
MILLISECONDS = 1000

_UNTRUSTED = {pycurl.E_PEER_FAILED_VERIFICATION, pycurl.E_SSL_CACERT_BADFILE, pycurl.E_SSL_CONNECT_ERROR}
_NAMES = {
    pycurl.E_COULDNT_RESOLVE_HOST: "UnknownHost",
    pycurl.E_COULDNT_RESOLVE_PROXY: "UnknownProxy",
    pycurl.E_COULDNT_CONNECT: "ConnectionRefused",
    pycurl.E_OPERATION_TIMEDOUT: "Timeout",
    pycurl.E_PARTIAL_FILE: "TruncatedResponse",
    pycurl.E_GOT_NOTHING: "ConnectionClosed",
    pycurl.E_SEND_ERROR: "ConnectionReset",
    pycurl.E_RECV_ERROR: "ConnectionReset",
    pycurl.E_WRITE_ERROR: "ResponseTooLarge",
}


class _Exchange:
    """A reusable curl handle and the data received in its current exchange."""

    __slots__ = ("body", "done", "handle", "head", "method", "size", "url")

    def __init__(self, handle: pycurl.Curl, done: asyncio.Future[Response]) -> None:
        self.handle = handle
        self.done = done
        self.head: list[bytes] = []
        self.body: list[bytes] = []
        self.size = 0
        self.url = ""
        self.method = ""
        handle.setopt(pycurl.WRITEFUNCTION, self.write)
        handle.setopt(pycurl.HEADERFUNCTION, self.head.append)

    def prepare(self, method: str, url: str, headers: list[str], body: bytes) -> None:
        """Set the options that differ from the previous exchange."""
        handle = self.handle
        if url != self.url:
            self.url = url
            handle.setopt(pycurl.URL, url)
        handle.setopt(pycurl.HTTPHEADER, headers)
        if method != self.method:
            self.method = method
            handle.unsetopt(pycurl.CUSTOMREQUEST)
            if method == "GET":
                handle.setopt(pycurl.HTTPGET, 1)
            else:
                handle.setopt(pycurl.POST, 1)
            if method not in {"GET", "POST"}:
                handle.setopt(pycurl.CUSTOMREQUEST, method)
        if method != "GET":
            handle.setopt(pycurl.POSTFIELDS, body)

    def write(self, data: bytes) -> int | None:
        """Append a part of the body; called by libcurl. Returning a wrong length aborts the transfer."""
        self.size += len(data)
        if self.size > MAX_RESPONSE_BYTES:
            return 0
        self.body.append(data)
        return None

    def take_response(self) -> Response:
        """Return the response and reset the exchange."""
        response = Response(self.handle.getinfo(pycurl.RESPONSE_CODE), tuple(self.head), b"".join(self.body))
        self.head.clear()
        self.body.clear()
        self.size = 0
        return response


class Multi:
    """Drives libcurl's multi handle from the event loop."""

    def __init__(self, settings: AwsSettings, authorities: str, per_host: int) -> None:
        self._settings = settings
        self._authorities = authorities
        self._loop = asyncio.get_running_loop()
        self._sockets = create_poller(self._loop, self._socket_action)
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        self._multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, per_host)
        self._multi.setopt(pycurl.M_MAXCONNECTS, 4096)
        self._multi.setopt(pycurl.M_PIPELINING, 0)
        self._exchanges: dict[pycurl.Curl, _Exchange] = {}
        self._free: deque[_Exchange] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._wake_at: float | None = None
        self._pending_action: asyncio.Handle | None = None
        self.opened = 0

    async def perform(self, method: str, url: str, headers: list[str], body: bytes) -> Response:
        """Perform one exchange; raises :class:`AwsError` (unreachable) without a complete response."""
        done: asyncio.Future[Response] = self._loop.create_future()
        if self._free:
            exchange = self._free.pop()
            exchange.done = done
        else:
            exchange = _Exchange(self._new_handle(), done)
        exchange.prepare(method, url, headers, body)
        handle = exchange.handle
        self._exchanges[handle] = exchange
        self._multi.add_handle(handle)
        try:
            return await done
        except asyncio.CancelledError:
            if handle in self._exchanges:
                del self._exchanges[handle]
                self._multi.remove_handle(handle)
                handle.close()
            raise

    def close(self) -> None:
        """Cancel the exchanges in flight and close all handles."""
        for scheduled in (self._timer, self._pending_action):
            if scheduled is not None:
                scheduled.cancel()
        for handle, exchange in list(self._exchanges.items()):
            self._multi.remove_handle(handle)
            handle.close()
            if not exchange.done.done():
                exchange.done.cancel()
        self._exchanges.clear()
        for exchange in self._free:
            exchange.handle.close()
        self._free.clear()
        self._multi.close()
        for scheduled in (self._timer, self._pending_action):
            if scheduled is not None:
                scheduled.cancel()
        self._sockets.close()

    def _new_handle(self) -> pycurl.Curl:
        handle = pycurl.Curl()
        settings = self._settings
        handle.setopt(pycurl.NOSIGNAL, 1)
        handle.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        handle.setopt(pycurl.FOLLOWLOCATION, 0)
        handle.setopt(pycurl.CONNECTTIMEOUT_MS, int(settings.connect_timeout * MILLISECONDS))
        handle.setopt(pycurl.TIMEOUT_MS, int((settings.connect_timeout + settings.read_timeout) * MILLISECONDS))
        handle.setopt(pycurl.CAINFO, self._authorities)
        handle.setopt(pycurl.USERAGENT, AGENT)
        handle.setopt(pycurl.TCP_KEEPALIVE, 1)
        handle.setopt(pycurl.TCP_NODELAY, 1)
        handle.setopt(pycurl.MAXAGE_CONN, IDLE_SECONDS)
        handle.setopt(pycurl.MAXLIFETIME_CONN, LIFETIME_SECONDS)
        handle.setopt(pycurl.PATH_AS_IS, 1)
        return handle

    def _on_socket(self, event: int, descriptor: int, _multi: Any, _data: Any) -> None:
        self._sockets.watch(event, descriptor)

    def _on_timer(self, milliseconds: int) -> None:
        """Set the time of libcurl's next action; called by libcurl."""
        if milliseconds < 0:
            self._wake_at = None
        elif milliseconds == 0:
            self._wake_at = None
            if self._pending_action is None:
                self._pending_action = self._loop.call_soon(self._run_pending)
        else:
            self._wake_at = self._loop.time() + milliseconds / MILLISECONDS
            # An early timer only checks the time, which is cheaper than resetting it for every call.
            if self._timer is None or self._timer.when() > self._wake_at:
                if self._timer is not None:
                    self._timer.cancel()
                self._timer = self._loop.call_at(self._wake_at, self._wake)

    def _run_pending(self) -> None:
        self._pending_action = None
        self._socket_action([(pycurl.SOCKET_TIMEOUT, 0)])

    def _wake(self) -> None:
        self._timer = None
        if self._wake_at is None:
            return
        if self._loop.time() < self._wake_at:
            self._timer = self._loop.call_at(self._wake_at, self._wake)
            return
        self._wake_at = None
        self._socket_action([(pycurl.SOCKET_TIMEOUT, 0)])

    def _socket_action(self, ready: list[tuple[int, int]]) -> None:
        for descriptor, events in ready:
            self._multi.socket_action(descriptor, events)
        queued = 1
        while queued:
            queued, succeeded, failed = self._multi.info_read()
            for handle in succeeded:
                self._finish(handle, 0, "")
            for handle, number, text in failed:
                self._finish(handle, number, text)

    def _finish(self, handle: pycurl.Curl, number: int, text: str) -> None:
        exchange = self._exchanges.pop(handle)
        self._multi.remove_handle(handle)
        self.opened += handle.getinfo(pycurl.NUM_CONNECTS)
        response = exchange.take_response()
        if not exchange.done.done():
            if number:
                exchange.done.set_exception(_unreachable(number, text, handle.getinfo(pycurl.EFFECTIVE_URL)))
            else:
                exchange.done.set_result(response)
        self._free.append(exchange)


def _unreachable(number: int, text: str, url: str) -> AwsError:
    host = url.split("?", maxsplit=1)[0]
    if number in _UNTRUSTED:
        return AwsError(Cause.UNREACHABLE, "CertificateNotTrusted", f"{host}: {text}")
    return AwsError(Cause.UNREACHABLE, _NAMES.get(number, f"Curl{number}"), f"{host}: {text}")

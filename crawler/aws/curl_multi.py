"""libcurl's multi interface in the event loop: any number of exchanges in flight, in one thread."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import pycurl

from crawler.aws.codecs import Answer
from crawler.aws.curl_poller import sockets
from crawler.aws.errors import AwsError
from models.settings import AwsSettings
from models.tables.runs import Cause

IDLE_SECONDS = 60
LIFETIME_SECONDS = 3600
ANSWER_LIMIT = 64 * 1024 * 1024
"""Bytes. No declared operation answers with more than a fraction of it."""
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


class _Call:
    """A handle, and what has arrived for the exchange that it is in."""

    __slots__ = ("body", "done", "handle", "head", "method", "size", "url")

    def __init__(self, handle: pycurl.Curl, done: asyncio.Future[Answer]) -> None:
        self.handle = handle
        self.done = done
        self.head: list[bytes] = []
        self.body: list[bytes] = []
        self.size = 0
        self.url = ""
        self.method = ""
        handle.setopt(pycurl.WRITEFUNCTION, self.write)
        handle.setopt(pycurl.HEADERFUNCTION, self.head.append)

    def ask(self, method: str, url: str, headers: list[str], body: bytes) -> None:
        """Make the handle ready for an exchange; it keeps what is the same as in the one before."""
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
        """Called by libcurl with a part of the body; any other number than its length ends the transfer."""
        self.size += len(data)
        if self.size > ANSWER_LIMIT:
            return 0
        self.body.append(data)
        return None

    def answer(self) -> Answer:
        """What has arrived; it makes room for the next exchange."""
        found = Answer(self.handle.getinfo(pycurl.RESPONSE_CODE), tuple(self.head), b"".join(self.body))
        self.head.clear()
        self.body.clear()
        self.size = 0
        return found


class Multi:
    """libcurl's multi handle, driven by the event loop."""

    def __init__(self, settings: AwsSettings, authorities: str, per_host: int) -> None:
        self._settings = settings
        self._authorities = authorities
        self._loop = asyncio.get_running_loop()
        self._sockets = sockets(self._loop, self._act)
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        self._multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, per_host)
        self._multi.setopt(pycurl.M_MAXCONNECTS, 4096)
        self._multi.setopt(pycurl.M_PIPELINING, 0)
        self._calls: dict[pycurl.Curl, _Call] = {}
        self._free: deque[_Call] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._due: float | None = None
        self._now: asyncio.Handle | None = None
        self.opened = 0

    async def perform(self, method: str, url: str, headers: list[str], body: bytes) -> Answer:
        """One exchange; :class:`AwsError` (unreachable) when no whole answer came."""
        done: asyncio.Future[Answer] = self._loop.create_future()
        if self._free:
            call = self._free.pop()
            call.done = done
        else:
            call = _Call(self._handle(), done)
        call.ask(method, url, headers, body)
        handle = call.handle
        self._calls[handle] = call
        self._multi.add_handle(handle)
        try:
            return await done
        except asyncio.CancelledError:
            if handle in self._calls:
                del self._calls[handle]
                self._multi.remove_handle(handle)
                handle.close()
            raise

    def close(self) -> None:
        """End everything; calls in flight are cancelled."""
        for waiting in (self._timer, self._now):
            if waiting is not None:
                waiting.cancel()
        for handle, call in list(self._calls.items()):
            self._multi.remove_handle(handle)
            handle.close()
            if not call.done.done():
                call.done.cancel()
        self._calls.clear()
        for call in self._free:
            call.handle.close()
        self._free.clear()
        self._multi.close()
        for waiting in (self._timer, self._now):
            if waiting is not None:
                waiting.cancel()
        self._sockets.close()

    def _handle(self) -> pycurl.Curl:
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

    def _on_socket(self, what: int, descriptor: int, _multi: Any, _data: Any) -> None:
        self._sockets.watch(what, descriptor)

    def _on_timer(self, milliseconds: int) -> None:
        """Called by libcurl whenever it wants to be called at another time: with every call at once, and when it ends."""
        if milliseconds < 0:
            self._due = None
        elif milliseconds == 0:
            self._due = None
            if self._now is None:
                self._now = self._loop.call_soon(self._begin)
        else:
            self._due = self._loop.time() + milliseconds / MILLISECONDS
            # A timer that rings too early only looks at the time; setting it anew for every call costs more.
            if self._timer is None or self._timer.when() > self._due:
                if self._timer is not None:
                    self._timer.cancel()
                self._timer = self._loop.call_at(self._due, self._ring)

    def _begin(self) -> None:
        self._now = None
        self._act([(pycurl.SOCKET_TIMEOUT, 0)])

    def _ring(self) -> None:
        self._timer = None
        if self._due is None:
            return
        if self._loop.time() < self._due:
            self._timer = self._loop.call_at(self._due, self._ring)
            return
        self._due = None
        self._act([(pycurl.SOCKET_TIMEOUT, 0)])

    def _act(self, ready: list[tuple[int, int]]) -> None:
        for descriptor, events in ready:
            self._multi.socket_action(descriptor, events)
        waiting = 1
        while waiting:
            waiting, good, bad = self._multi.info_read()
            for handle in good:
                self._finish(handle, 0, "")
            for handle, number, text in bad:
                self._finish(handle, number, text)

    def _finish(self, handle: pycurl.Curl, number: int, text: str) -> None:
        call = self._calls.pop(handle)
        self._multi.remove_handle(handle)
        self.opened += handle.getinfo(pycurl.NUM_CONNECTS)
        answer = call.answer()
        if not call.done.done():
            if number:
                call.done.set_exception(_unreachable(number, text, handle.getinfo(pycurl.EFFECTIVE_URL)))
            else:
                call.done.set_result(answer)
        self._free.append(call)


def _unreachable(number: int, text: str, url: str) -> AwsError:
    host = url.split("?", maxsplit=1)[0]
    if number in _UNTRUSTED:
        return AwsError(Cause.UNREACHABLE, "CertificateNotTrusted", f"{host}: {text}")
    return AwsError(Cause.UNREACHABLE, _NAMES.get(number, f"Curl{number}"), f"{host}: {text}")

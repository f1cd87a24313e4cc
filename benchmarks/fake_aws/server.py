"""The HTTP/1.1 server: an asyncio protocol with keep-alive and pipelining."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import struct
from typing import cast

from benchmarks.fake_aws import aws_protocols
from benchmarks.fake_aws.admin_api import Connections
from benchmarks.fake_aws.service import Reply, Service

BACKLOG = 4096
MAX_REQUEST_BYTES = 1 << 20
"""The maximum size of a request."""
HALF = 2
log = logging.getLogger(__name__)


class Connection(asyncio.Protocol):
    """One connection. It handles no further request while a response is delayed, so responses keep their order."""

    def __init__(self, service: Service, open_connections: set[Connection]) -> None:
        self._service = service
        self._open = open_connections
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._requests = 0
        self._waiting: asyncio.TimerHandle | None = None

    @property
    def _counters(self) -> Connections:
        return self._service.connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio; with TLS, after the handshake."""
        self._transport = cast("asyncio.Transport", transport)
        self._open.add(self)
        self._counters.opened += 1
        self._counters.handshakes += transport.get_extra_info("ssl_object") is not None

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        del exc
        self._open.discard(self)
        self._counters.end(self._requests)
        self._transport = None
        if self._waiting is not None:
            self._waiting.cancel()

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        self._buffer += data
        if self._waiting is None:
            self._work()

    def close(self) -> None:
        """Abort the connection."""
        if self._transport is not None:
            self._transport.abort()

    def _work(self) -> None:
        """Handle all complete requests until a response is delayed."""
        written: list[bytes] = []
        while self._transport is not None:
            reply = self._next()
            if reply is None:
                break
            if reply.accident is None and not reply.delay:
                written.append(reply.data)
                continue
            if written:
                self._transport.write(b"".join(written))
                written.clear()
            loop = asyncio.get_running_loop()
            seconds = reply.delay
            if reply.accident == "hang":
                seconds += self._service.state.faults.hang_seconds
            self._waiting = loop.call_later(seconds, self._after, reply)
            return
        if written and self._transport is not None:
            self._transport.write(b"".join(written))

    def _after(self, reply: Reply) -> None:
        self._waiting = None
        transport = self._transport
        if transport is None:
            return
        if reply.accident in {"reset", "hang"}:
            self._reset(transport)
        elif reply.accident == "cut":
            transport.write(_truncated(reply.data))
            self._reset(transport)
        elif reply.accident == "truncate":
            transport.write(_truncated(reply.data))
            transport.close()
        else:
            transport.write(reply.data)
            self._work()

    def _reset(self, transport: asyncio.Transport) -> None:
        """Reset the connection: the peer sees ECONNRESET, and with TLS no close_notify."""
        raw_socket = transport.get_extra_info("socket")
        if raw_socket is not None:
            raw_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()

    def _next(self) -> Reply | None:
        """The reply to the next request; None if the buffer has no complete request."""
        buffer = self._buffer
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            return self._bad("the headers are too long") if len(buffer) > MAX_REQUEST_BYTES else None
        lines = buffer[:end].decode("latin-1").split("\r\n")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MAX_REQUEST_BYTES or "transfer-encoding" in headers:
            return self._bad("a valid Content-Length is required")
        stop = end + 4 + int(length)
        if len(buffer) < stop:
            if headers.get("expect", "").lower() == "100-continue" and len(buffer) == end + 4 and self._transport:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return None
        body = bytes(buffer[end + 4 : stop])
        del buffer[:stop]
        parts = lines[0].split(" ")
        if len(parts) != 3:
            return self._bad("not an HTTP/1.1 request")
        if not parts[1].startswith("/_fake/"):
            self._requests += 1
            self._counters.requests += 1
        try:
            return self._service.handle(parts[0], parts[1], headers, body)
        except Exception:
            log.exception("%s %s", parts[0], parts[1])
            return Reply(
                aws_protocols.error(
                    "", aws_protocols.ApiError("InternalFailure", 500, "The endpoint raised an exception.")
                )
            )

    def _bad(self, reason: str) -> Reply:
        """Reply to a malformed request and close the connection, because the next request cannot be located."""
        self._buffer.clear()
        return Reply(
            aws_protocols.error("", aws_protocols.ApiError("BadRequest", 400, f"Bad request: {reason}.")), "truncate"
        )


def _truncated(data: bytes) -> bytes:
    """The headers with the full Content-Length, and half of the body."""
    end = data.find(b"\r\n\r\n") + 4
    return data[: end + (len(data) - end) // HALF]


class Server:
    """A listening `Service`."""

    def __init__(self, service: Service, tls: ssl.SSLContext | None = None) -> None:
        self._service = service
        self._tls = tls
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None

    async def start(self, port: int = 0) -> int:
        """Listen on 127.0.0.1 and return the port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self._service, self._connections),
            "127.0.0.1",
            port,
            ssl=self._tls,
            backlog=BACKLOG,
        )
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Stop listening and abort all connections."""
        if self._server is not None:
            self._server.close()
            for connection in list(self._connections):
                connection.close()
            await asyncio.sleep(0)

"""The socket pollers: epoll, and the event loop on systems without it."""

from __future__ import annotations

import asyncio
import contextlib
import select
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

from crawler.aws.transport_boto3 import Credentials
from crawler.aws.transport_curl import MAX_CONNECTIONS_PER_ENDPOINT, CurlTransport
from crawler.services.kms import LIST_KEYS
from models.settings import AwsSettings

RESPONSE = b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{"Keys":[]}'
IDLE_SECONDS = 0.3


@contextlib.asynccontextmanager
async def server(responses: int) -> AsyncIterator[str]:
    """Serve a number of requests per connection, then close it without notice; yields the address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            for _ in range(responses):
                head = await reader.readuntil(b"\r\n\r\n")
                lines = dict(line.split(b": ", 1) for line in head.split(b"\r\n") if b": " in line)
                await reader.readexactly(int(lines[b"Content-Length"]))
                writer.write(RESPONSE)
                await writer.drain()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


@pytest.fixture(params=["epoll", "event loop"])
def poller(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Select the poller."""
    if request.param == "event loop":
        monkeypatch.delattr(select, "epoll", raising=False)
    elif not hasattr(select, "epoll"):
        pytest.skip("this system has no epoll")
    name: str = request.param
    return name


@pytest.mark.usefixtures("poller")
def test_a_connection_closed_while_idle_is_replaced() -> None:
    """A closed idle connection causes no busy loop, and the next call opens another one."""

    async def scenario() -> tuple[int, float]:
        async with server(responses=1) as url:
            transport = CurlTransport(AwsSettings(endpoint_url=url))
            for _ in range(3):
                assert await transport.send(Credentials("AKIA", "secret", None), LIST_KEYS, "us-east-1", {}) == {
                    "Keys": []
                }
                before = time.process_time()
                await asyncio.sleep(IDLE_SECONDS)
                cpu_seconds = time.process_time() - before
            opened = transport.connections
            transport.close()
            return opened, cpu_seconds

    opened, cpu_seconds = asyncio.run(scenario())
    assert opened == 3
    assert cpu_seconds < IDLE_SECONDS / 2


@pytest.mark.usefixtures("poller")
def test_concurrent_calls_share_the_connections() -> None:
    """With more calls than connections, all succeed, and a second round opens no connection."""

    async def scenario() -> tuple[int, int]:
        async with server(responses=1_000_000) as url:
            transport = CurlTransport(AwsSettings(endpoint_url=url))
            calls = 3 * MAX_CONNECTIONS_PER_ENDPOINT
            call = Credentials("AKIA", "secret", "token"), LIST_KEYS, "us-east-1", {"Limit": 1000}
            opened = []
            for _ in range(2):
                results = await asyncio.gather(*(transport.send(*call) for _ in range(calls)))
                assert results == [{"Keys": []}] * calls
                opened.append(transport.connections)
            transport.close()
            return opened[0], opened[1]

    first, second = asyncio.run(scenario())
    assert first == second == MAX_CONNECTIONS_PER_ENDPOINT


@pytest.mark.usefixtures("poller")
def test_a_cancelled_call_does_not_affect_others() -> None:
    """Calls cancelled in flight close their handles; the other calls succeed."""

    async def scenario() -> None:
        async with server(responses=1_000_000) as url:
            transport = CurlTransport(AwsSettings(endpoint_url=url))

            def call() -> Coroutine[Any, Any, dict[str, Any]]:
                return transport.send(Credentials("AKIA", "secret", None), LIST_KEYS, "us-east-1", {})

            tasks = [asyncio.ensure_future(call()) for _ in range(20)]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(result) for result in results] == [asyncio.CancelledError, dict] * 10
            assert await call() == {"Keys": []}
            transport.close()

    asyncio.run(scenario())

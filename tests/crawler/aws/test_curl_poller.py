"""Sockets as they are watched: by epoll, and by the event loop where there is none."""

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

ANSWER = b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{"Keys":[]}'
REST = 0.3
"""Seconds."""


@contextlib.asynccontextmanager
async def server(answers: int) -> AsyncIterator[str]:
    """Answers so many requests of a connection, then ends it without having said so; its address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            for _ in range(answers):
                head = await reader.readuntil(b"\r\n\r\n")
                lines = dict(line.split(b": ", 1) for line in head.split(b"\r\n") if b": " in line)
                await reader.readexactly(int(lines[b"Content-Length"]))
                writer.write(ANSWER)
                await writer.drain()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


@pytest.fixture(params=["epoll", "event loop"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How sockets are watched."""
    if request.param == "event loop":
        monkeypatch.delattr(select, "epoll", raising=False)
    elif not hasattr(select, "epoll"):
        pytest.skip("this system has no epoll")
    found: str = request.param
    return found


@pytest.mark.usefixtures("way")
def test_a_connection_that_was_ended_while_it_rested_is_replaced() -> None:
    """What its end says wakes nobody up again and again; the next call opens another connection, whatever its number."""

    async def ask() -> tuple[int, float]:
        async with server(answers=1) as url:
            transport = CurlTransport(AwsSettings(endpoint_url=url))
            for _ in range(3):
                assert await transport.send(Credentials("AKIA", "secret", None), LIST_KEYS, "us-east-1", {}) == {
                    "Keys": []
                }
                before = time.process_time()
                await asyncio.sleep(REST)
                rested = time.process_time() - before
            opened = transport.connections
            transport.close()
            return opened, rested

    opened, rested = asyncio.run(ask())
    assert opened == 3
    assert rested < REST / 2


@pytest.mark.usefixtures("way")
def test_hundreds_of_calls_at_once_share_the_connections() -> None:
    """More calls than connections, twice: every one is answered, and the second time no connection is new."""

    async def ask() -> tuple[int, int]:
        async with server(answers=1_000_000) as url:
            transport = CurlTransport(AwsSettings(endpoint_url=url))
            calls = 3 * MAX_CONNECTIONS_PER_ENDPOINT
            call = Credentials("AKIA", "secret", "token"), LIST_KEYS, "us-east-1", {"Limit": 1000}
            opened = []
            for _ in range(2):
                answers = await asyncio.gather(*(transport.send(*call) for _ in range(calls)))
                assert answers == [{"Keys": []}] * calls
                opened.append(transport.connections)
            transport.close()
            return opened[0], opened[1]

    first, second = asyncio.run(ask())
    assert first == second == MAX_CONNECTIONS_PER_ENDPOINT


@pytest.mark.usefixtures("way")
def test_a_call_that_is_given_up_leaves_the_others_alone() -> None:
    """Cancelled in flight: its handle is gone, the other calls end as they would have."""

    async def ask() -> None:
        async with server(answers=1_000_000) as url:
            transport = CurlTransport(AwsSettings(endpoint_url=url))

            def ask_once() -> Coroutine[Any, Any, dict[str, Any]]:
                return transport.send(Credentials("AKIA", "secret", None), LIST_KEYS, "us-east-1", {})

            tasks = [asyncio.ensure_future(ask_once()) for _ in range(20)]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(one) for one in done] == [asyncio.CancelledError, dict] * 10
            assert await ask_once() == {"Keys": []}
            transport.close()

    asyncio.run(ask())

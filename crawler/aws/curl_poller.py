"""Which of libcurl's sockets are ready: watched past the event loop, which knows them as one descriptor.

A connection is watched and let go of with every call that it carries. An event loop makes and drops a handle each time; here
it is one system call, and a socket that rests stays known to the system until it is used again.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
from collections.abc import Callable
from typing import Protocol

import pycurl

Ready = Callable[[list[tuple[int, int]]], None]
"""Called with descriptors and what they are ready for (``pycurl.CSELECT_IN`` and ``CSELECT_OUT``)."""


class Sockets(Protocol):
    """Watches sockets as libcurl asks for it."""

    def watch(self, what: int, descriptor: int) -> None:
        """Watch for ``what``: ``pycurl.POLL_IN``, ``POLL_OUT``, ``POLL_INOUT``, or no more (``POLL_REMOVE``)."""

    def close(self) -> None:
        """Watch nothing."""


def sockets(loop: asyncio.AbstractEventLoop, ready: Ready) -> Sockets:
    """The best way that this system has."""
    return _Epoll(loop, ready) if hasattr(select, "epoll") else _Loop(loop, ready)


class _Epoll:
    def __init__(self, loop: asyncio.AbstractEventLoop, ready: Ready) -> None:
        self._loop = loop
        self._ready = ready
        self._poll = select.epoll()
        self._watched: dict[int, int] = {}
        """Events by descriptor; none for a socket that rests."""
        loop.add_reader(self._poll.fileno(), self._look)

    def watch(self, what: int, descriptor: int) -> None:
        """See :class:`Sockets`."""
        if what == pycurl.POLL_REMOVE:
            if descriptor in self._watched:
                self._watched[descriptor] = 0
            return
        events = (select.EPOLLIN if what & pycurl.POLL_IN else 0) | (select.EPOLLOUT if what & pycurl.POLL_OUT else 0)
        known = descriptor in self._watched
        self._watched[descriptor] = events
        # The system forgets a socket that is closed, and its number may be another socket's by now. Only the system knows.
        try:
            if known:
                self._poll.modify(descriptor, events)
            else:
                self._poll.register(descriptor, events)
        except FileNotFoundError:
            self._poll.register(descriptor, events)
        except FileExistsError:
            self._poll.modify(descriptor, events)

    def close(self) -> None:
        """See :class:`Sockets`."""
        self._loop.remove_reader(self._poll.fileno())
        self._poll.close()
        self._watched.clear()

    def _look(self) -> None:
        found: list[tuple[int, int]] = []
        for descriptor, events in self._poll.poll(0):
            wanted = self._watched.get(descriptor, 0)
            if not wanted:
                # Its other side has closed it, or said what nobody waits for: libcurl finds out when it is used again.
                self._watched.pop(descriptor, None)
                with contextlib.suppress(OSError):
                    self._poll.unregister(descriptor)
                continue
            # Errors and ends show when it is read or written, whichever libcurl waits for.
            bits = events | (wanted if events & (select.EPOLLERR | select.EPOLLHUP) else 0)
            found.append(
                (
                    descriptor,
                    (pycurl.CSELECT_IN if bits & select.EPOLLIN else 0)
                    | (pycurl.CSELECT_OUT if bits & select.EPOLLOUT else 0),
                )
            )
        if found:
            self._ready(found)


class _Loop:
    """By the event loop itself, for systems without epoll."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ready: Ready) -> None:
        self._loop = loop
        self._ready = ready
        self._watched: dict[int, int] = {}

    def watch(self, what: int, descriptor: int) -> None:
        """See :class:`Sockets`."""
        wanted = 0 if what == pycurl.POLL_REMOVE else what
        before = self._watched.pop(descriptor, 0)
        if wanted:
            self._watched[descriptor] = wanted
        started, ended = wanted & ~before, before & ~wanted
        if started & pycurl.POLL_IN:
            self._loop.add_reader(descriptor, self._ready, [(descriptor, pycurl.CSELECT_IN)])
        elif ended & pycurl.POLL_IN:
            self._loop.remove_reader(descriptor)
        if started & pycurl.POLL_OUT:
            self._loop.add_writer(descriptor, self._ready, [(descriptor, pycurl.CSELECT_OUT)])
        elif ended & pycurl.POLL_OUT:
            self._loop.remove_writer(descriptor)

    def close(self) -> None:
        """See :class:`Sockets`."""
        for descriptor in list(self._watched):
            self.watch(pycurl.POLL_REMOVE, descriptor)

"""Polls libcurl's sockets outside the event loop, which sees them as one descriptor.

Every call starts and stops watching its connection. The event loop would create and drop a handle each time; epoll needs one
system call, and an idle socket stays registered until it is used again.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
from collections.abc import Callable

import pycurl

Ready = Callable[[list[tuple[int, int]]], None]
"""Called with descriptors and what they are ready for (``pycurl.CSELECT_IN`` and ``CSELECT_OUT``)."""


def create_poller(loop: asyncio.AbstractEventLoop, ready: Ready) -> _EpollPoller | _LoopPoller:
    """Return the most efficient poller of this system, which watches the sockets that libcurl requests."""
    return _EpollPoller(loop, ready) if hasattr(select, "epoll") else _LoopPoller(loop, ready)


class _EpollPoller:
    def __init__(self, loop: asyncio.AbstractEventLoop, ready: Ready) -> None:
        self._loop = loop
        self._ready = ready
        self._poll = select.epoll()
        self._watched: dict[int, int] = {}
        """Events by descriptor; 0 for an idle socket."""
        loop.add_reader(self._poll.fileno(), self._on_events)

    def watch(self, event: int, descriptor: int) -> None:
        """Watch for ``event``: ``pycurl.POLL_IN``, ``POLL_OUT`` or ``POLL_INOUT``; stop with ``POLL_REMOVE``."""
        if event == pycurl.POLL_REMOVE:
            if descriptor in self._watched:
                self._watched[descriptor] = 0
            return
        events = (select.EPOLLIN if event & pycurl.POLL_IN else 0) | (select.EPOLLOUT if event & pycurl.POLL_OUT else 0)
        known = descriptor in self._watched
        self._watched[descriptor] = events
        # The kernel drops closed sockets and reuses their numbers, so that its state may differ from ours.
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
        """Stop watching all sockets."""
        self._loop.remove_reader(self._poll.fileno())
        self._poll.close()
        self._watched.clear()

    def _on_events(self) -> None:
        ready: list[tuple[int, int]] = []
        for descriptor, events in self._poll.poll(0):
            wanted = self._watched.get(descriptor, 0)
            if not wanted:
                # An idle socket was closed by its peer or received unexpected data: libcurl notices on the next use.
                self._watched.pop(descriptor, None)
                with contextlib.suppress(OSError):
                    self._poll.unregister(descriptor)
                continue
            # Errors and hang-ups surface on the read or write that libcurl waits for.
            bits = events | (wanted if events & (select.EPOLLERR | select.EPOLLHUP) else 0)
            ready.append(
                (
                    descriptor,
                    (pycurl.CSELECT_IN if bits & select.EPOLLIN else 0)
                    | (pycurl.CSELECT_OUT if bits & select.EPOLLOUT else 0),
                )
            )
        if ready:
            self._ready(ready)


class _LoopPoller:
    """Uses the event loop itself, for systems without epoll."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ready: Ready) -> None:
        self._loop = loop
        self._ready = ready
        self._watched: dict[int, int] = {}

    def watch(self, event: int, descriptor: int) -> None:
        """Watch for ``event``; stop with ``POLL_REMOVE``."""
        wanted = 0 if event == pycurl.POLL_REMOVE else event
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
        """Stop watching all sockets."""
        for descriptor in list(self._watched):
            self.watch(pycurl.POLL_REMOVE, descriptor)

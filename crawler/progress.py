"""Progress of a crawl: a live line on a terminal, otherwise a log line every ten seconds."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Self

INTERVAL = 10.0
"""Seconds between log lines."""

log = logging.getLogger(__name__)


class Progress:
    """Counters of a running crawl; the crawl increments them, and a thread displays them."""

    def __init__(self, *, live: bool | None = None) -> None:
        self.accounts = 0
        """Accounts to crawl."""
        self.accounts_opened = 0
        """Accounts whose regions are known and whose scopes are counted."""
        self.accounts_done = 0
        self.scopes = 0
        self.scopes_done = 0
        self.gaps = 0
        self.scope_calls = 0
        """Calls of finished scopes."""
        self.remote_calls = 0
        """Calls reported by other processes so far."""
        self.client: Any = None
        self.waiting_for: Callable[[], str] | None = None
        """What the crawl waits for after its scopes, as a clause; it takes the place of the estimated time left."""
        self._live = sys.stderr.isatty() if live is None else live
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._show, name="progress", daemon=True)
        self._started = time.monotonic()
        self._last = (0.0, 0)

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stopped.set()
        self._thread.join()

    @property
    def calls(self) -> int:
        """Calls made so far."""
        return self.remote_calls + (self.client.total.calls if self.client is not None else 0)

    def line(self) -> str:
        """Accounts, scopes, calls per second, gaps, and the estimated time left or what the crawl waits for."""
        elapsed = max(time.monotonic() - self._started, 0.001)
        before, calls_before = self._last
        calls = self.calls
        rate = (calls - calls_before) / max(elapsed - before, 0.001)
        self._last = (elapsed, calls)
        waiting_for = self.waiting_for
        left = self._left(elapsed) if waiting_for is None else waiting_for()
        return (
            f"accounts {self.accounts_done}/{self.accounts}, scopes {self.scopes_done}/{self.scopes}, "
            f"{calls} calls ({rate:.0f}/s), {self.gaps} gaps, {left}"
        )

    def _left(self, elapsed: float) -> str:
        """Extrapolated from finished scopes; an account not yet opened counts as an average one."""
        if not self.scopes_done or not self.accounts:
            return "time left unknown"
        expected = self.scopes / max(self.accounts_opened, 1) * self.accounts
        left = elapsed * max(expected - self.scopes_done, 0) / self.scopes_done
        minutes, seconds = divmod(round(left), 60)
        return f"about {minutes}:{seconds:02d} left"

    def _show(self) -> None:
        if self._live:
            self._show_live()
            return
        while not self._stopped.wait(INTERVAL):
            log.info("%s", self.line())

    def _show_live(self) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        with Live(Text(""), console=Console(stderr=True), refresh_per_second=4, transient=True) as live:
            while not self._stopped.wait(0.5):
                live.update(Text(self.line()))

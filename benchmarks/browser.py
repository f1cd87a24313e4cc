"""The longest task of Chromium's main thread while a report is opened, searched, filtered and sorted.

A task blocks the page: nothing scrolls and no key is answered until it ends. Its cost is CPU, which depends less on other
work than elapsed time. Chromium is controlled with the DevTools protocol through a pipe.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

RECORDED_S = 2
"""How long the tasks of an action are recorded, in seconds. Searching waits 150 ms for the next key."""
SEARCHED = "a"
"""Text that is in nearly all rows, so that many are shown."""
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--window-size=1280,1000",
)
_TABLES = 'JSON.stringify([...document.querySelectorAll("div.table")].map((table) => table.dataset.name))'


def browser() -> str | None:
    """The command of Chromium, if it is installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def longest_tasks(report: Path, seconds: float = RECORDED_S) -> dict[str, float]:
    """Open a report and use each of its tables; returns the CPU milliseconds of the longest task of each action.

    The tasks of each action are recorded for some seconds.
    """
    with _session() as session:
        opening = partial(session.call, "Page.navigate", url=report.resolve().as_uri())
        longest = {"load": session.longest_task(opening, seconds)}
        for action, script in _actions(json.loads(session.run(_TABLES))):
            longest[action] = session.longest_task(partial(session.run, script), seconds)
    return longest


def _actions(tables: list[str]) -> Iterator[tuple[str, str]]:
    """What a reader does, with the scripts that do it."""
    for text in (SEARCHED, ""):
        yield f"search {text!r}", _typing("document", "input[type=search]", text)
    for name in tables:
        table = f'document.querySelector("div.table[data-name={name}]")'
        yield f"filter {name}", _typing(table, ".tools input", SEARCHED)
        yield f"sort {name}", f'{table}.querySelector("th button")?.click()'


def _typing(within: str, selector: str, text: str) -> str:
    return (
        f"for (const input of [...{within}.querySelectorAll({json.dumps(selector)})].slice(0, 1)) "
        f"{{input.value = {json.dumps(text)}; input.dispatchEvent(new Event('input', {{bubbles: true}}))}}"
    )


class _Session:
    """A page of a browser, controlled through two pipes."""

    def __init__(self, requests: BinaryIO, answers: BinaryIO) -> None:
        self._requests, self._answers = requests, answers
        self._last_id = 0
        self._page: str | None = None
        self._events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._page = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method and return its result; events that arrive meanwhile are kept."""
        self._last_id += 1
        request = {"id": self._last_id, "method": method, "params": parameters}
        if self._page is not None:
            request["sessionId"] = self._page
        self._requests.write(json.dumps(request).encode() + b"\0")
        self._requests.flush()
        while (message := self._receive()).get("id") != self._last_id:
            self._events.append(message)
        result: dict[str, Any] = message["result"]
        return result

    def run(self, script: str) -> Any:
        """Run a script in the page and return its value."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"the script failed in the browser: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def longest_task(self, act: Callable[[], object], seconds: float) -> float:
        """The CPU milliseconds of the longest task while an action is answered."""
        self._events.clear()
        categories = {"includedCategories": ["toplevel", "devtools.timeline"]}
        self.call("Tracing.start", traceConfig=categories, transferMode="ReportEvents")
        act()
        time.sleep(seconds)
        self.call("Tracing.end")
        while not any(event.get("method") == "Tracing.tracingComplete" for event in self._events):
            self._events.append(self._receive())
        traced = [
            item
            for event in self._events
            if event.get("method") == "Tracing.dataCollected"
            for item in event["params"]["value"]
        ]
        main = {
            (item["pid"], item["tid"])
            for item in traced
            if item["name"] == "thread_name" and item["args"]["name"] == "CrRendererMain"
        }
        return max(
            (
                item.get("tdur", 0) / 1000
                for item in traced
                if (item["pid"], item["tid"]) in main and item["name"].endswith("RunTask")
            ),
            default=0.0,
        )

    def _receive(self) -> dict[str, Any]:
        received = bytearray()
        while (byte := self._answers.read(1)) != b"\0":
            if not byte:
                raise RuntimeError("the browser ended")
            received += byte
        message: dict[str, Any] = json.loads(received)
        return message


@contextmanager
def _session() -> Iterator[_Session]:
    command = browser()
    if command is None:
        raise RuntimeError("this benchmark needs Chromium")
    with tempfile.TemporaryDirectory(prefix="kmsledger-browser-", ignore_cleanup_errors=True) as profile:
        their_requests, our_requests = os.pipe()
        our_answers, their_answers = os.pipe()
        # Chromium reads from descriptor 3 and writes to 4.
        shell = f'exec "$@" 3<&{their_requests} 4>&{their_answers}'
        process = subprocess.Popen(
            ["bash", "-c", shell, "bash", command, *FLAGS, "--remote-debugging-pipe", f"--user-data-dir={profile}"],
            pass_fds=(their_requests, their_answers),
            stderr=subprocess.DEVNULL,
        )
        os.close(their_requests)
        os.close(their_answers)
        with os.fdopen(our_requests, "wb") as requests, os.fdopen(our_answers, "rb") as answers:
            try:
                yield _Session(requests, answers)
            finally:
                process.kill()
                process.wait()

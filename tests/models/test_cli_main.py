"""Running a command: failures as one sentence, and orderly termination by signals."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import asyncio, sqlite3, sys, time
from concurrent.futures import ThreadPoolExecutor
import click
from models import cli_main, console, interruption
from reports.connections import new_connection, new_cursor

ENDLESS = "SELECT sum(hash(range)) FROM range(1000000000000)"

@click.command()
def sleep():
    try:
        print("ready", flush=True)
        for _ in range(600):  # a signal just before a sleep is noticed only after it
            time.sleep(0.1)
    finally:
        print("released", flush=True)

@click.command()
def query():
    with cli_main.interruptible("build interrupted: run it again"):
        duck = new_connection()
        print("ready", flush=True)
        duck.execute(ENDLESS)

@click.command()
def query_without_message():
    duck = new_connection()
    print("ready", flush=True)
    duck.execute(ENDLESS)

@click.command()
def queries_of_threads():
    duck = new_connection()
    with ThreadPoolExecutor(2) as threads:
        print("ready", flush=True)
        for _ in threads.map(lambda _: new_cursor(duck).execute(ENDLESS), range(2)):
            pass

@click.command()
def statement():
    interruption.GRACE_S = 0.3
    with cli_main.interruptible("crawl interrupted: resume it"):
        print("ready", flush=True)
        sqlite3.connect(":memory:").execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
        )

@click.command()
def late():
    with interruption.deadline(0.2, "nightly.deadline"), cli_main.interruptible("stage interrupted: resume it"):
        new_connection().execute(ENDLESS)

@click.command()
def late_event_loop():
    with interruption.deadline(0.2, "nightly.deadline"), cli_main.interruptible("stage interrupted: resume it"):
        asyncio.run(asyncio.sleep(60))

@click.command()
def fail():
    raise RuntimeError("no such thing")

@click.command()
def status():
    console.say("run 1 complete")

@click.command()
def lines():
    for number in range(1_000_000):
        click.echo(number)

command = {each.name: each for each in (
    sleep, query, query_without_message, queries_of_threads, statement, late, late_event_loop, fail, status, lines
)}[sys.argv.pop(1)]
cli_main.main(command)
"""


def interrupt(
    command: str, number: signal.Signals, *, ignore_interrupts: bool = False, delay: float = 0
) -> tuple[int, str, str]:
    """Exit code, output and errors of a command that receives a signal ``delay`` seconds after it is ready."""
    # A background job of a script ignores SIGINT; its children inherit that.
    environment = ["env", "--ignore-signal=INT" if ignore_interrupts else "--default-signal=INT"]
    with subprocess.Popen(
        [*environment, sys.executable, "-c", PROGRAM, command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        ready = process.stdout.readline()
        time.sleep(delay)
        process.send_signal(number)
        try:
            output, errors = process.communicate(timeout=60)
        finally:
            process.kill()  # otherwise a command that ignores the signal would be waited for without end
    return process.returncode, ready + output, errors


@pytest.mark.parametrize(
    ("number", "ignore_interrupts"),
    [(signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGHUP, False)],
)
def test_a_signal_terminates_a_command_in_order(number: signal.Signals, ignore_interrupts: bool) -> None:
    """SIGINT, SIGTERM and SIGHUP run the cleanup and print one sentence; SIGTERM also works if SIGINT is ignored."""
    code, output, errors = interrupt("sleep", number, ignore_interrupts=ignore_interrupts)
    assert (code, output) == (4, "ready\nreleased\n")
    assert errors.strip() == "kmsledger: interrupted: run the command again"


@pytest.mark.parametrize(
    ("number", "ignore_interrupts"),
    [(signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGTERM, True)],
)
@pytest.mark.parametrize(
    ("command", "delay", "message"),
    [
        ("query", 0, "build interrupted: run it again"),
        ("query-without-message", 0.02, "interrupted: run the command again"),
        ("query-without-message", 0.3, "interrupted: run the command again"),
        ("queries-of-threads", 0.3, "interrupted: run the command again"),
    ],
)
def test_an_interrupted_query_is_an_interruption(
    command: str, delay: float, message: str, number: signal.Signals, ignore_interrupts: bool
) -> None:
    """A signal ends running queries at once, in whatever thread DuckDB runs them, with the message of the interrupted step."""
    code, _, errors = interrupt(command, number, ignore_interrupts=ignore_interrupts, delay=delay)
    assert (code, errors.strip()) == (4, f"kmsledger: {message}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_call_that_cannot_be_interrupted_is_ended(number: signal.Signals) -> None:
    """A statement in SQLite's code does not delay the end by more than the grace period; the message is that of its step."""
    code, _, errors = interrupt("statement", number)
    assert (code, errors.strip()) == (4, "kmsledger: crawl interrupted: resume it")


@pytest.mark.parametrize("command", ["late", "late-event-loop"])
@pytest.mark.parametrize("ignored", ["--default-signal=INT", "--ignore-signal=INT"])
def test_a_deadline_interrupts_a_step(command: str, ignored: str) -> None:
    """When the deadline passes, a query or an event loop ends, and the sentence names the setting and what was interrupted."""
    started = ["env", ignored, sys.executable, "-c", PROGRAM, command]
    done = subprocess.run(started, capture_output=True, text=True, check=False, cwd=ROOT, timeout=30)
    sentence = "not finished within 0.2 s (nightly.deadline); stage interrupted: resume it"
    assert (done.returncode, done.stderr.strip()) == (4, f"kmsledger: {sentence}")


def test_a_closed_pipe_is_not_an_error() -> None:
    """A reader that wants only the first lines ends the command with exit code 0: 1 would mean findings."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "lines"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "0\n"
        process.stdout.close()
        try:
            assert process.wait(60) == 0
        finally:
            process.kill()
        assert process.stderr.read() == ""


@pytest.mark.parametrize(("command", "code"), [("status", 0), ("fail", 4), ("lines", 4)])
def test_a_full_disk_behind_the_log_does_not_change_the_exit_code(command: str, code: int) -> None:
    """If neither output nor errors can be written, the exit code is that of the command: 1 would mean findings."""
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run([sys.executable, "-c", PROGRAM, command], stdout=full, stderr=full, check=False, cwd=ROOT)
    assert done.returncode == code


def test_an_unexpected_error_is_one_sentence() -> None:
    """An unexpected error is one sentence that recommends --debug, with exit code 4."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "fail"], capture_output=True, text=True, check=False, cwd=ROOT, timeout=60
    )
    assert done.returncode == 4
    assert done.stderr == (
        "kmsledger: unexpected RuntimeError: no such thing; run the command again with --debug and report its output\n"
    )

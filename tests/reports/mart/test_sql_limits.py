"""Limits of kmsledger sql: no query outlives its time, exceeds its memory, or survives the command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

COMMAND = str(Path(sys.executable).with_name("kmsledger"))
ENDLESS = "SELECT levenshtein(repeat('ab', 1000000), repeat('ba', 1000000))"
"""Hours within one call of a function, which DuckDB does not interrupt."""
MEGABYTE = 1_000_000
MEMORY = 500
"""Megabytes."""

LONG = {
    "a function that does not return": ENDLESS,
    "similarity": "SELECT jaro_winkler_similarity(repeat('ab', 1000000), repeat('ba', 1000000))",
    "product of tables": "SELECT count(*) FROM range(10000000000) a, range(10000000) b WHERE hash(a.range) = hash(b.range)",
    "recursion": "WITH RECURSIVE a(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM a) SELECT max(n) FROM a",
    "sum": "SELECT sum(hash(i)) FROM range(1000000000000) r(i)",
    "a table of endless rows": "SELECT * FROM range(1000000000000)",
    "list function": "SELECT list_reduce(range(3000000), lambda a, b: length(a::VARCHAR || b::VARCHAR)) FROM range(100000)",
    "padding": "SELECT length(lpad('x', 2000000000, 'y'))",
}
LARGE = {
    "list": "SELECT len(range(1000000000))",
    "text": "SELECT length(repeat('x', 4000000000))",
    "aggregated list": "SELECT len(list(i)) FROM range(1000000000) r(i)",
    "aggregated text": "SELECT length(string_agg(i::VARCHAR)) FROM range(1000000000) r(i)",
    "sort": "SELECT max(t) FROM (SELECT repeat('x', 1000) || i AS t FROM range(9000000) r(i) ORDER BY hash(i) LIMIT 8999999)",
    "groups": "SELECT count(*) FROM (SELECT repeat('x', 1000) || i AS t, count(*) FROM range(9000000) r(i) GROUP BY t)",
    "doubled text": "WITH RECURSIVE a(t) AS (SELECT 'x' UNION ALL SELECT t || t FROM a) SELECT max(length(t)) FROM a",
    "row of text": "SELECT repeat('x', 400000000) || i FROM range(3) r(i)",
}
FAST = ("a function that does not return", "a table of endless rows", "list", "text", "aggregated list")


@dataclass(frozen=True, slots=True)
class Done:
    """The end of a command: its exit code, errors, elapsed seconds, and the peak memory in MB of its largest process."""

    code: int
    errors: str
    seconds: float
    peak: float


def start(mart: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [COMMAND, "sql", "--mart", str(mart), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(mart: Path, *arguments: str, errors: Path) -> Done:
    return run("sql", "--mart", str(mart), *arguments, errors=errors)


def run(*arguments: str, errors: Path) -> Done:
    began = time.monotonic()
    command = [COMMAND, *arguments]
    with errors.open("w") as stderr, subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return Done(process.returncode, errors.read_text(), time.monotonic() - began, usage.ru_maxrss * 1024 / MEGABYTE)


def child_of(process: subprocess.Popen[str]) -> int:
    """The process ID of the query, once it runs."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    for _ in range(600):
        running = children.read_text().split()
        if running and "\nThreads:\t1\n" not in Path(f"/proc/{running[0]}/status").read_text():
            return int(running[0])
        time.sleep(0.05)
    pytest.fail("the query was not started")


def has_ended(process_id: int) -> bool:
    for _ in range(200):
        status = Path(f"/proc/{process_id}/status")
        if not status.exists() or "\nState:\tZ" in status.read_text():  # nobody may reap an orphan of a container
            return True
        time.sleep(0.05)
    return False


@pytest.fixture(scope="module")
def trivial(sample_mart: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    return finish(sample_mart, "SELECT 1", errors=tmp_path_factory.mktemp("trivial") / "errors")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAST else pytest.mark.deep) for name in (*LONG, *LARGE)]
)
def test_a_resource_bomb_ends_at_its_limits(name: str, sample_mart: Path, tmp_path: Path, trivial: Done) -> None:
    """A query ends within two seconds of its time limit and ten percent of its memory, with one sentence and exit code 4."""
    limits = ("--timeout", "1" if name in LONG else "120", "--memory-limit", f"{MEMORY}MB", "--format", "csv")
    done = finish(sample_mart, *limits, (LONG | LARGE)[name], errors=tmp_path / "errors")
    assert done.code == 4, done
    expected = "stopped after 1 seconds" if name in LONG else "more memory than its limit"
    assert expected in done.errors
    assert done.errors.count("\n") == 1
    assert done.peak <= trivial.peak + MEMORY * 1.1
    if name in LONG:
        assert done.seconds <= 1 + 2 + 5 * trivial.seconds  # start-up takes longer on a busy machine


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_command_and_its_query(number: signal.Signals, sample_mart: Path, tmp_path: Path) -> None:
    """Ctrl-C, SIGTERM and SIGHUP end both processes, leave no file behind, and print one sentence."""
    output = tmp_path / "answer.csv"
    with start(sample_mart, "--output", str(output), "--temp-directory", str(tmp_path), ENDLESS) as process:
        child = child_of(process)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors.strip()) == (4, "kmsledger: interrupted: run the command again")
    assert has_ended(child)
    assert list(tmp_path.iterdir()) == []


def test_a_parent_that_ignores_the_end_of_children(sample_mart: Path) -> None:
    """A supervisor may start the command with SIGCHLD ignored; the command still notices the end of its query."""
    ignoring = "trap '' CHLD; exec \"$@\""
    command = [
        "bash",
        "-c",
        ignoring,
        "bash",
        COMMAND,
        "sql",
        "--mart",
        str(sample_mart),
        "SELECT 1 AS n",
        "--format",
        "csv",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout.split()) == (0, ['"n"', "1"])


def test_a_killed_command_leaves_no_orphan(sample_mart: Path) -> None:
    """Kill -9 of the command ends the query too."""
    with start(sample_mart, ENDLESS) as process:
        child = child_of(process)
        process.kill()
    assert has_ended(child)


def test_a_killed_query_is_an_error(sample_mart: Path) -> None:
    """A query that the kernel kills for lack of memory is reported as such."""
    with start(sample_mart, ENDLESS) as process:
        os.kill(child_of(process), signal.SIGKILL)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 4
    assert "more memory than its limit" in errors


def test_a_reader_that_wants_the_first_rows_only(sample_mart: Path) -> None:
    """Rows are streamed; the end of the reader ends the command quietly, with exit code 0."""
    with start(sample_mart, "--format", "csv", "SELECT * FROM range(1000000000000)") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == '"range"\n'
        process.stdout.close()
        assert process.wait(60) == 0
        assert process.stderr.read() == ""


def test_a_slow_reader_does_not_exhaust_the_time(sample_mart: Path) -> None:
    """Time that the reader takes (a pager) is not the query's."""
    with start(sample_mart, "--format", "csv", "--timeout", "2", "SELECT * FROM range(200000)") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        time.sleep(2.5)
        assert process.stdout.read().count("\n") == 200_000
        assert (process.wait(60), process.stderr.read()) == (0, "")


def test_errors_of_a_query_keep_their_exit_codes(sample_mart: Path, tmp_path: Path) -> None:
    """The command exits as its query did: 2 for a mistake; no output file is left."""
    output = tmp_path / "answer.csv"
    done = finish(sample_mart, "--output", str(output), "SELECT nothing", errors=tmp_path / "errors")
    assert done.code == 2
    assert done.errors.startswith("kmsledger: Binder Error: ")
    assert [path.name for path in tmp_path.iterdir()] == ["errors"]

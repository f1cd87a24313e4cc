"""Runs users' rules in a process of their own, which the kernel ends at their limits: DuckDB cannot end a call of a function."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import parent_process
from pathlib import Path

import duckdb

from models.cli_main import end_with, limit_memory
from models.errors import UserError
from reports.connections import new_connection
from reports.mart.connection import CATALOG, Limits, locked, quoted
from reports.mart.errors import OverLimitError
from reports.rules.loader import Rule
from reports.rules.runner import CREATE_RESULTS, FORMER_PROBLEMS, run_rule

_SPAWN = multiprocessing.get_context("spawn")  # a fork would copy DuckDB's locks without its threads
_OUTCOME = (
    "simplify the rule, allow more with rules.{setting} in the settings, or disable it with rules.disable; the results of "
    "this run's other rules are discarded, and the old mart is untouched"
)

_OUT_OF_MEMORY = frozenset({signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS})
"""The signals that end a process whose allocation has failed: those of the kernel, of libraries, and of a failed access."""


@dataclass(frozen=True, slots=True)
class OwnRules:
    """Runs users' rules on a draft mart. ``released`` lets another process read the file while the block runs."""

    released: Callable[[], AbstractContextManager[Path]]
    timeout: float
    """Seconds for each rule."""
    memory: int
    """Bytes."""

    def run(self, duck: duckdb.DuckDBPyConnection, run_id: int, rules: Sequence[Rule]) -> None:
        """Add the results of the rules to those of a connection. Raises RuleError, or OverLimitError with the rule's file."""
        with self.released() as draft, _work_folder(Path(f"{draft}.tmp")) as folder:
            task = _Task(draft, folder, run_id, rules, self.timeout, self.memory)
            _run(task)
            duck.execute(f"INSERT INTO memory.main.result FROM read_parquet({quoted(str(task.results))})")


@dataclass(frozen=True, slots=True)
class _Task:
    """What the process of the rules needs."""

    draft: Path
    folder: Path
    run_id: int
    rules: Sequence[Rule]
    timeout: float
    memory: int

    @property
    def results(self) -> Path:
        return self.folder / "results.parquet"


def _run(task: _Task) -> None:
    # Memory that DuckDB has freed must not count as used. Its allocator reads this when the process imports DuckDB.
    os.environ.setdefault("DUCKDB_JE_MALLOC_CONF", "retain:false")
    receiver, sender = _SPAWN.Pipe(duplex=False)
    process = _SPAWN.Process(target=_work, args=(sender, task), daemon=True)
    process.start()
    sender.close()
    current, failure = task.rules[0], None
    try:
        while failure is None:
            message = receiver.recv()
            if isinstance(message, int):
                current = task.rules[message]
            else:
                failure = message
    except EOFError:
        process.join()
    finally:
        process.kill()
        process.join()
        receiver.close()
    if isinstance(failure, UserError):
        raise failure
    if failure is None and process.exitcode == 0:
        return
    if failure is None and (process.exitcode or 0) > 0:
        raise RuntimeError(f"the process of users' rules ended with exit code {process.exitcode}")
    signal_number = -(process.exitcode or 0)
    if failure is None and signal_number == signal.SIGALRM:
        cause, setting = f"was stopped after {task.timeout:g} seconds", "timeout"
    elif failure is not None or signal_number in _OUT_OF_MEMORY:
        cause, setting = "needs more memory than its limit", "memory_limit"
    else:
        raise UserError(
            f"{current.source}: another process ended rule {current.rule_id} with "
            f"{signal.Signals(signal_number).name}: run the command again; the old mart is untouched"
        )
    raise OverLimitError(f"{current.source}: rule {current.rule_id} {cause}: {_OUTCOME.format(setting=setting)}")


@contextmanager
def _work_folder(temporary: Path) -> Iterator[Path]:
    """A folder in the build's temporary directory, which the build's connection may read, but creates only when it spills."""
    created = not temporary.exists()
    temporary.mkdir(exist_ok=True)
    folder = temporary / "own-rules"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
        if created:
            with suppress(OSError):  # the build has spilled since
                temporary.rmdir()


def _work(sender: Connection, task: _Task) -> None:
    parent = parent_process()
    if parent is None:
        raise RuntimeError("users' rules need a process of their own")
    end_with(os.getppid(), parent.sentinel)
    duck = new_connection()
    duck.execute(CREATE_RESULTS)
    duck.execute(f"ATTACH {quoted(str(task.draft))} AS {CATALOG} (READ_ONLY)")
    locked(duck, Limits(task.memory * 9 // 10, task.folder / "spill", output=task.results))
    duck.execute(f"USE {CATALOG}")
    with_problems = {row[0] for row in duck.execute(FORMER_PROBLEMS, {"run": task.run_id}).fetchall()}
    limit_memory(task.memory)
    try:
        for position, rule in enumerate(task.rules):
            sender.send(position)
            signal.setitimer(signal.ITIMER_REAL, task.timeout)
            run_rule(duck, rule, task.run_id if rule.rule_id in with_problems else None)
        signal.setitimer(signal.ITIMER_REAL, 0)
        duck.table("memory.main.result").write_parquet(str(task.results), compression="zstd")
    except (duckdb.OutOfMemoryException, MemoryError):
        sender.send(MemoryError())
    except UserError as error:
        sender.send(error)

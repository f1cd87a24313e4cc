"""Resolves a run's number, a date or a time to a run."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import duckdb

from models.run_status import RunStatus
from reports.mart.errors import MartError, QueryError

_RUNS = """
SELECT run_id, started_at, finished_at, status, status IN ('complete', 'partial') AS ended FROM internal.run ORDER BY run_id
"""


@dataclass(frozen=True, slots=True)
class RunRef:
    """A run as of which facts are requested; times are UTC."""

    run_id: int
    started_at: dt.datetime
    finished_at: dt.datetime | None
    status: str
    ended: bool
    """Whether the run finished, completely or with gaps."""

    def __str__(self) -> str:
        if self.finished_at is None:
            return f"run {self.run_id} ({self.status}, started {stamp(self.started_at)})"
        return f"run {self.run_id} (finished {stamp(self.finished_at)})"


def stamp(instant: dt.datetime) -> str:
    """A time to the minute, in UTC."""
    return f"{instant:%Y-%m-%d %H:%M} UTC"


def moments(duck: duckdb.DuckDBPyConnection) -> list[RunRef]:
    """Every run of the ledger in the connection's catalog, oldest first. Raises MartError if there is none."""
    found = [RunRef(*row) for row in duck.execute(_RUNS).fetchall()]
    if not found:
        raise MartError("the ledger holds no run yet: run `kmsledger crawl` first")
    return found


def resolve_as_of(runs: list[RunRef], wanted: str | int | None = None) -> RunRef:
    """The run with a number, the last run that had ended by a date or time (UTC), or by default the latest that ended.

    A date means the end of that day. Raises QueryError (exit code 2) for text that is neither a run nor a date, for unknown
    or pruned runs, and for dates before the first run ended.
    """
    if wanted is None:
        return next((run for run in reversed(runs) if run.ended), runs[-1])
    text = str(wanted).strip()
    if text.isascii() and text.isdecimal():
        found = next((run for run in runs if run.run_id == int(text)), None)
        whole = next((f": the oldest available run is {run.run_id}" for run in runs if run.ended), "")
        if found is None and 0 < int(text) < runs[-1].run_id:
            # Run numbers are never reused; only pruning deletes runs.
            raise QueryError(f"run {text} has been pruned{whole}")
        if found is None:
            raise QueryError(
                f"there is no run {text} in the ledger: it holds runs {runs[0].run_id} to {runs[-1].run_id} "
                "(a date is written 2026-12-24)"
            )
        if found.status == RunStatus.PRUNED:
            raise QueryError(f"run {text} has been pruned, and its remaining data is incomplete{whole}")
        return found
    until = _instant(text)
    ended = [(run.finished_at, run) for run in runs if run.ended and run.finished_at is not None]
    before = [(at, run.run_id, run) for at, run in ended if at <= until]
    if before:
        return max(before)[2]
    if not ended:
        raise QueryError("no run has ended yet: let `kmsledger crawl` finish first")
    first_at, first = min(ended, key=lambda one: one[0])
    pruned = ", or it has been pruned" if runs[0].run_id > 1 or runs[0].status == RunStatus.PRUNED else ""
    raise QueryError(
        f"no run had ended by {stamp(until)}{pruned}: the first is run {first.run_id}, which ended on {stamp(first_at)}"
    )


def before(runs: list[RunRef], moment: RunRef) -> RunRef | None:
    """The last run before the given one that ended."""
    return next((run for run in reversed(runs) if run.ended and run.run_id < moment.run_id), None)


def _instant(text: str) -> dt.datetime:
    """A time in UTC without a time zone, as in the mart."""
    try:
        if len(text) == len("2026-12-24"):
            return dt.datetime.combine(dt.date.fromisoformat(text), dt.time.max)
        instant = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise QueryError(
            f"{text!r} is neither a run nor a date: write a run's number, 2026-12-24 or 2026-12-24T07:30 (UTC)"
        ) from error
    return instant.astimezone(dt.UTC).replace(tzinfo=None) if instant.tzinfo else instant

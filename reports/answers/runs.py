"""The runs with their duration and coverage, and whether the last one is recent and complete enough."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from models.safe_text import printable
from models.settings import Settings
from reports.answers.coverage_gate import DONE, FAILED, PARTIAL, check_coverage
from reports.answers.questions.runs import COLUMNS, COVERAGE, STORED
from reports.mart.connection import connect
from reports.mart.rows import rows

FORMAT: Final = "kmsledger.runs/1"
_QUERY: Final = f"""
SELECT {", ".join(f"r.{name}" for name in STORED)}, {", ".join(f"c.{name}" for name in COVERAGE)}
FROM runs AS r
LEFT JOIN run_coverage AS c ON c.run_id = r.run_id AND r.status IN ('complete', 'partial')
"""
_ENDED: Final = frozenset({"complete", "partial"})
_UNFINISHED: Final = "not in the mart: `kmsledger crawl --resume` finishes the last run"
_CLOCK_TOLERANCE: Final = dt.timedelta(minutes=5)
_STATES: Final = {DONE: "ok", PARTIAL: "incomplete", FAILED: "failed"}


@dataclass(frozen=True, slots=True)
class Runs:
    """All runs, the latest first; those that are not in the mart have no coverage."""

    rows: Sequence[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """The JSON document."""
        return {"format": FORMAT, "runs": [{name: row[name] for name in COLUMNS} for row in self.rows]}

    def to_text(self) -> str:
        """A table for a terminal."""
        lines = [("run", "started (UTC)", "duration", "status", "coverage", "gaps", "")]
        for row in self.rows:
            percent, seconds = row["coverage_percent"], row["duration_seconds"]
            unfinished = not row["in_mart"] and row["status"] in _ENDED
            note = "; ".join(filter(None, (limits(row), row["message"] or (_UNFINISHED if unfinished else ""))))
            coverage = "unknown" if percent is None else f"{percent} % of {row['account_regions']:,}"
            lines.append(
                (
                    str(row["run_id"]),
                    f"{row['started_at']:%Y-%m-%d %H:%M}",
                    "unknown" if seconds is None else _duration(dt.timedelta(seconds=seconds)),
                    row["status"],
                    coverage,
                    f"{row['gaps']:,}",
                    note,
                )
            )
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        table = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
        return "\n".join(printable(line.rstrip()) for line in table)


def limits(run: Mapping[str, Any]) -> str:
    """What a run was limited to, as a clause; empty if it was not."""
    parts = [
        f"{word}{'s' if ',' in run[column] else ''} {run[column].replace(',', ', ')}"
        for word, column in (("account", "only_accounts"), ("region", "only_regions"))
        if run[column]
    ]
    return f"limited to {' in '.join(parts)}" if parts else ""


def runs(mart: Path, database: str | None) -> Runs:
    """The runs of the mart and, if the database is given, the later ones of the ledger. Raises MartError or DatabaseError."""
    found: dict[int, dict[str, Any]] = {}
    if database is None or mart.exists():
        with connect(mart) as duck:
            found = {row["run_id"]: {**row, "in_mart": True} for row in rows(duck, _QUERY)}
    if database is not None:
        for row in _ledger_runs(database, max(found, default=0)):
            # The mart's last run may have been resumed since.
            if row["run_id"] not in found or found[row["run_id"]]["status"] != row["status"]:
                found[row["run_id"]] = {**row, **dict.fromkeys(COVERAGE), "in_mart": False}
    for row in found.values():
        ended = row["finished_at"]
        row["duration_seconds"] = ended and round((ended - row["started_at"]).total_seconds())
    return Runs([found[run_id] for run_id in sorted(found, reverse=True)])


def _ledger_runs(database: str, since: int) -> list[dict[str, Any]]:
    from sqlalchemy import select

    from models.store.engine import opened as opened_ledger
    from models.store.engine import translate_errors
    from models.tables.runs import Run

    table = Run.table()
    query = select(*(table.c[name] for name in STORED)).where(table.c.run_id >= since)
    with opened_ledger(database, must_exist=True) as engine, translate_errors(engine), engine.connect() as connection:
        later = [dict(row) for row in connection.execute(query).mappings()]
    # The mart has times in UTC, without a time zone.
    times = ("started_at", "finished_at")
    return [{**row, **{name: row[name] and row[name].replace(tzinfo=None) for name in times}} for row in later]


def check_health(settings: Settings, max_age: dt.timedelta, now: dt.datetime) -> tuple[int, str]:
    """The exit code and sentence for monitors: the age and coverage of the last run that ended and is in the mart.

    A run that was limited to accounts or regions does not make an older one recent. The coverage is that of everything, as the
    latest runs read it.
    """
    listed = runs(settings.report.mart, settings.database).rows
    ended = (row for row in listed if row["in_mart"] and row["status"] in _ENDED)
    run = next((row for row in ended if not limits(row)), None)
    if run is None:
        return FAILED, "failed: no run has ended yet that the mart has: run `kmsledger nightly`"
    with connect(settings.report.mart) as duck:
        gate = settings.coverage
        coverage = check_coverage(duck, gate.min_percent, gate.max_consecutive_gaps, everything=True)
    age = now.astimezone(dt.UTC).replace(tzinfo=None) - run["finished_at"]
    code, sentence = coverage.exit_code, f"run {run['run_id']} ended {_duration(age)} ago"
    if age > max_age:
        code, sentence = FAILED, f"{sentence}, more than {_duration(max_age)}"
    elif age < -_CLOCK_TOLERANCE:
        code, sentence = FAILED, f"run {run['run_id']} ended in the future: correct the clock of this machine"
    last = listed[0]
    later = f"; run {last['run_id']} {_VERBS.get(last['status'], 'ended')} since then" if last is not run else ""
    return code, f"{_STATES[code]}: {sentence}; {coverage.message}{later}"


_VERBS: Final = {"running": "has been running", "interrupted": "was interrupted", "failed": "failed"}


def _duration(duration: dt.timedelta) -> str:
    """A duration in its largest two units."""
    seconds = round(duration.total_seconds())
    for unit, smaller, size, count in (("d", "h", 86_400, 24), ("h", "min", 3600, 60), ("min", "s", 60, 60)):
        if seconds >= size:
            rest = seconds % size // (size // count)
            return f"{seconds // size:,} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{seconds} s"

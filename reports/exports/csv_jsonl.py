"""Findings as flat records with all columns: CSV for spreadsheets, JSON Lines for other tools."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Any, TextIO

from reports.exports.common import RunInfo, uid_of
from reports.mart.result_writers import write_csv, write_jsonl
from reports.rules.findings import FindingRecord

COLUMNS = ("uid", "run_id", "run_started_at", *(field.name for field in fields(FindingRecord)))
_OF_FINDING = COLUMNS[3:]


def csv(out: TextIO, run: RunInfo, findings: Iterable[FindingRecord]) -> int:
    """Write CSV with a header; formulas are escaped for spreadsheets. Returns the number of rows."""
    return _counted(write_csv, out, run, findings)


def jsonl(out: TextIO, run: RunInfo, findings: Iterable[FindingRecord]) -> int:
    """Write one object per line; unknown values are null. Returns the number of objects."""
    return _counted(write_jsonl, out, run, findings)


def _counted(
    write: Callable[[TextIO, Sequence[str], Iterable[Sequence[Any]]], None],
    out: TextIO,
    run: RunInfo,
    findings: Iterable[FindingRecord],
) -> int:
    count = 0

    def rows() -> Iterator[Sequence[Any]]:
        nonlocal count
        for finding in findings:
            count += 1
            yield uid_of(finding), run.run_id, run.started_at, *(getattr(finding, name) for name in _OF_FINDING)

    write(out, COLUMNS, rows())
    return count

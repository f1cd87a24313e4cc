"""Findings with all that is known of them, flat: CSV for spreadsheets, JSON Lines for whatever reads rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Any, TextIO

from reports.exports.common import Night, uid_of
from reports.mart.result_writers import write_csv, write_jsonl
from reports.rules.findings import FindingRecord

COLUMNS = ("uid", "run_id", "run_started_at", *(field.name for field in fields(FindingRecord)))
_OF_FINDING = COLUMNS[3:]


def csv(out: TextIO, night: Night, findings: Iterable[FindingRecord]) -> int:
    """Write CSV with a header; what a spreadsheet would take for a formula is made a text. Returns how many rows."""
    return _counted(write_csv, out, night, findings)


def jsonl(out: TextIO, night: Night, findings: Iterable[FindingRecord]) -> int:
    """Write an object a line; what is not known is null. Returns how many."""
    return _counted(write_jsonl, out, night, findings)


def _counted(
    write: Callable[[TextIO, Sequence[str], Iterable[Sequence[Any]]], None],
    out: TextIO,
    night: Night,
    findings: Iterable[FindingRecord],
) -> int:
    count = 0

    def rows() -> Iterator[Sequence[Any]]:
        nonlocal count
        for finding in findings:
            count += 1
            yield uid_of(finding), night.run_id, night.started_at, *(getattr(finding, name) for name in _OF_FINDING)

    write(out, COLUMNS, rows())
    return count

"""Findings as flat records with all columns: CSV for spreadsheets, JSON Lines for other tools."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Any, TextIO

from reports.exports.common import RunInfo, uid_of
from reports.mart.result_writers import write_csv, write_jsonl
from reports.rules.findings import FindingRecord

COLUMNS = ("uid", "run_id", "run_started_at", *(field.name for field in fields(FindingRecord)))
_OF_FINDING = COLUMNS[3:]


def csv(out: TextIO, run: RunInfo, findings: Iterable[FindingRecord]) -> None:
    """Write CSV with a header; formulas are escaped for spreadsheets."""
    write_csv(out, COLUMNS, _rows(run, findings))


def jsonl(out: TextIO, run: RunInfo, findings: Iterable[FindingRecord]) -> None:
    """Write one object per line; unknown values are null."""
    write_jsonl(out, COLUMNS, _rows(run, findings))


def _rows(run: RunInfo, findings: Iterable[FindingRecord]) -> Iterator[Sequence[Any]]:
    for finding in findings:
        yield uid_of(finding), run.run_id, run.started_at, *(getattr(finding, name) for name in _OF_FINDING)

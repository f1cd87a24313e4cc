"""Publishes reports: copies them to a folder that others can read, with an index page of all runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from models import file_access
from models.output_file import explained
from models.settings import Settings
from reports.html import render
from reports.html.query_runner import Source
from reports.mart.mart_reader import open_mart
from reports.mart.rows import Row

_REPORT: Final = re.compile(r"kmsledger-(?!.*-as-of-)([a-z][a-z0-9-]{0,60})-run([0-9]{1,9})\.html")
"""The file of a report about a run. Of the name of its subject, it has letters, digits and hyphens only."""
_FIX: Final = "correct report.publish, or give this user write permission"


def publish(written: Sequence[Path], folder: Path, settings: Settings) -> list[Path]:
    """Copy the reports to the folder, then replace its index page; returns the new files.

    Each file appears complete or not at all, and the index comes last, so that it never links a missing report. Reports of
    earlier runs stay. The files have the access that the umask gives them. Raises OutputError if the folder cannot be written.
    """
    with explained(folder, _FIX):
        is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        if is_new:
            file_access.publish(folder)
    copies = []
    for path in written:
        if _REPORT.fullmatch(path.name):
            copies.append(folder / path.name)
            render.copy(path, copies[-1])
            file_access.publish(copies[-1])
    index = folder / "index.html"
    with explained(folder, _FIX):
        names = sorted(path.name for path in folder.iterdir() if path.is_file())
    with open_mart(settings.report.mart, stored=True)[0] as connection:
        runs = _runs(names, {row["run_id"]: row for row in Source(connection).rows("published_runs")})
    render.write("index.html.j2", {"title": settings.report.title, "runs": runs}, index)
    file_access.publish(index)
    return [*copies, index]


def _runs(names: Sequence[str], known: dict[int, Row]) -> list[Row]:
    """The runs with a published report, the latest first; `files` has report and file name. Pruned runs have no figures."""
    files: dict[int, list[tuple[str, str]]] = {}
    for name in names:
        report = _REPORT.fullmatch(name)
        if report is not None:
            files.setdefault(int(report[2]), []).append((report[1].replace("-", " "), name))
    return [
        {
            "run_id": run_id,
            "status": None,
            **known.get(run_id, {}),
            "files": sorted(files[run_id], key=lambda file: (file[0] != "overview", file)),
        }
        for run_id in sorted(files, reverse=True)
    ]

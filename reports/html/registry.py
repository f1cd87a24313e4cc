"""The reports there are. A new one is an entry here, its queries, and a template."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from models.errors import UserError
from models.settings import Settings
from reports.html import render
from reports.html.compliance_report import Compliance
from reports.html.overview_report import Estate
from reports.html.query_runner import Source
from reports.mart import as_of_connection
from reports.mart.connection import connect


@dataclass(frozen=True)
class Report:
    """A report: `data` makes what its template reads, from the mart and the settings."""

    name: str
    summary: str
    template: str
    data: Callable[[Source, Settings], Any]


REPORTS: Final = (
    Report("overview", "Every key, what it protects, who is named on it, what changed.", "overview.html.j2", Estate),
    Report(
        "compliance", "Controls of frameworks, and the rules behind them as evidence.", "compliance.html.j2", Compliance
    ),
)


class UnknownReportError(UserError):
    """There is no report of that name."""

    exit_code = 2


def find(name: str) -> Report:
    """The report of that name."""
    for report in REPORTS:
        if report.name == name:
            return report
    raise UnknownReportError(f"there is no report {name!r}: choose from {', '.join(report.name for report in REPORTS)}")


def write(
    reports: Sequence[Report], mart: Path, directory: Path, settings: Settings, *, as_of: str | None = None
) -> list[Path]:
    """Write reports about the mart's run into `directory`; the paths, two a report.

    One is of the run and stays; the other has the same content and always the same name. As of an earlier run or date there
    is one, named after that. MartError if the mart cannot be read, QueryError if nothing was known so early, OutputError if
    the directory cannot be written.
    """
    written: list[Path] = []
    with connect(mart) if as_of is None else as_of_connection.connect(mart, as_of, stored=True)[0] as connection:
        for report in reports:
            data = report.data(Source(connection), settings)
            if as_of is not None:
                path = directory / f"kmsledger-{report.name}-as-of-run{data.run['run_id']}.html"
                render.write(report.template, {"report": report, "data": data}, path)
                written.append(path)
                continue
            path = directory / f"kmsledger-{report.name}-run{data.run['run_id']}.html"
            latest = directory / f"kmsledger-{report.name}.html"
            render.write(report.template, {"report": report, "data": data}, path)
            render.copy(path, latest)
            written += [path, latest]
    return written

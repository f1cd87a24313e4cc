"""The registry of reports. A new report needs an entry here, its queries, and a template."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from models.errors import UserError
from models.settings import Settings
from reports.html import render
from reports.html.compliance_report import ComplianceReport
from reports.html.overview_report import OverviewReport
from reports.html.query_runner import Source
from reports.mart.mart_reader import open_mart


@dataclass(frozen=True)
class Report:
    """A report; `data` creates the data of its template from the mart and the settings."""

    name: str
    template: str
    data: Callable[[Source, Settings], Any]


REPORTS: Final = (
    Report("overview", "overview.html.j2", OverviewReport),
    Report("compliance", "compliance.html.j2", ComplianceReport),
)


class UnknownReportError(UserError):
    """The report does not exist."""

    exit_code = 2


def find(name: str) -> Report:
    """The report with this name. Raises UnknownReportError."""
    for report in REPORTS:
        if report.name == name:
            return report
    raise UnknownReportError(f"there is no report {name!r}: choose from {', '.join(report.name for report in REPORTS)}")


def write(
    reports: Sequence[Report], mart: Path, directory: Path, settings: Settings, *, as_of: str | None = None
) -> list[Path]:
    """Write reports about the mart's run into `directory`; returns the paths, two per report.

    One file is named after the run; the other has the same content and a fixed name. As of an earlier run or date, there is
    only the file of that run. Raises MartError if the mart cannot be read, QueryError if there was no run that early, and
    OutputError if the directory cannot be written.
    """
    written: list[Path] = []
    with open_mart(mart, as_of, stored=True)[0] as connection:
        source = Source(connection)
        for report in reports:
            data = report.data(source, settings)
            as_of_run = "" if as_of is None else "as-of-"
            path = directory / f"kmsledger-{report.name}-{as_of_run}run{data.run['run_id']}.html"
            render.write(report.template, {"report": report, "data": data}, path)
            written.append(path)
            if as_of is None:
                latest = directory / f"kmsledger-{report.name}.html"
                render.copy(path, latest)
                written.append(latest)
    return written

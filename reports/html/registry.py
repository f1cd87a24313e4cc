"""The registry of reports. A new report needs an entry here, its queries, and a template."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import duckdb

from models.errors import UserError
from models.output_file import remove_stale_files, unfinished_version
from models.settings import Settings
from reports.html import render
from reports.html.changes_report import ChangesReport
from reports.html.compliance_report import ComplianceReport
from reports.html.key_report import KeyReport
from reports.html.overview_report import OverviewReport
from reports.html.query_runner import Source
from reports.html.subjects import Subject, find_account, find_key, find_ou, find_owner, find_vendor
from reports.html.vendor_report import VendorReport
from reports.mart.connection import Limits, working_memory
from reports.mart.errors import MartError
from reports.mart.mart_reader import open_mart

_MEMORY = 210_000_000
"""Bytes that the queries need at least: 190 MB for 32,000 keys with 282,000 findings."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Report:
    """A report; `data` creates the data of its template from the mart, the settings and the subject, which `find` looks up."""

    name: str
    template: str
    data: Callable[[Source, Settings, Subject | None], Any]
    find: Callable[[duckdb.DuckDBPyConnection, str], Subject] | None = None


REPORTS: Final = (
    Report("overview", "overview.html.j2", OverviewReport),
    Report("compliance", "compliance.html.j2", ComplianceReport),
)
"""The reports about the whole organization, which every run writes."""
CHANGES: Final = Report("changes", "changes.html.j2", ChangesReport)
"""The report that compares two runs, which is written only by name."""
SUBJECT_REPORTS: Final = (
    Report("account", "subject.html.j2", OverviewReport, find_account),
    Report("ou", "subject.html.j2", OverviewReport, find_ou),
    Report("owner", "subject.html.j2", OverviewReport, find_owner),
    Report("key", "key.html.j2", KeyReport, find_key),
    Report("vendor", "vendor.html.j2", VendorReport, find_vendor),
)
"""The reports about something that is named with the report."""


class UnknownReportError(UserError):
    """The report does not exist, or its subject is missing or superfluous."""

    exit_code = 2


def find(name: str, subject: str | None = None, *, since: str | None = None) -> Report:
    """The report with this name; ``since`` is the earlier run or date of the report `changes`.

    Raises UnknownReportError, also if it needs a subject and there is none, or the reverse.
    """
    reports = {report.name: report for report in (*REPORTS, CHANGES, *SUBJECT_REPORTS)}
    if name not in reports:
        raise UnknownReportError(f"there is no report {name!r}: choose from {', '.join(reports)}")
    if reports[name].find and subject is None:
        raise UnknownReportError(f"the report {name} needs a name: `kmsledger report {name} {name.upper()}`")
    if subject is not None and not reports[name].find:
        raise UnknownReportError(f"the report {name} is about the whole organization: omit {subject!r}")
    if since is None:
        return reports[name]
    if name != CHANGES.name:
        raise UnknownReportError(f"--since is an option of the report {CHANGES.name}, not of {name}")
    return replace(CHANGES, data=partial(ChangesReport, since=since))


def limit(connection: duckdb.DuckDBPyConnection, report: Report, name: str | None) -> Subject | None:
    """Limit a connection to the subject of a report, if it has one. Raises QueryError if the mart has no such subject."""
    if not report.find or name is None:
        return None
    subject = report.find(connection, name)
    subject.restrict(connection)
    return subject


def write(
    reports: Sequence[Report],
    mart: Path,
    directory: Path,
    settings: Settings,
    *,
    subject: str | None = None,
    as_of: str | None = None,
) -> list[Path]:
    """Write reports about the mart's run into `directory`; returns the paths, two per report.

    Reports that need a `subject` are about the account, organizational unit, owner, vendor or key with this name.

    One file is named after the run; the other has the same content and a fixed name. As of an earlier run or date, there is
    only the file of that run. Raises MartError if the mart cannot be read, QueryError if there was no run that early or no
    such subject, and OutputError if the directory cannot be written.
    """
    spill = directory / "kmsledger-spill"
    remove_stale_files(spill)
    memory = working_memory(2 * mart.stat().st_size, _MEMORY) if mart.exists() else None
    limits = Limits(memory, unfinished_version(spill))
    try:
        return _write(reports, mart, directory, settings, subject=subject, as_of=as_of, limits=limits)
    except duckdb.OutOfMemoryException:
        log.warning("the reports need more memory than planned: they are written again, with more")
    try:
        limits = replace(limits, memory=None)
        return _write(reports, mart, directory, settings, subject=subject, as_of=as_of, limits=limits)
    except duckdb.OutOfMemoryException as error:
        raise MartError(
            "the reports need more memory than this machine has: free memory, or lower report.list_limit and "
            "report.findings_limit"
        ) from error


def _write(
    reports: Sequence[Report],
    mart: Path,
    directory: Path,
    settings: Settings,
    *,
    subject: str | None,
    as_of: str | None,
    limits: Limits,
) -> list[Path]:
    written: list[Path] = []
    with open_mart(mart, as_of, limits=limits, stored=True)[0] as connection:
        source = Source(connection)
        for report in reports:
            about = limit(connection, report, subject)
            source = Source(connection) if about else source
            data = report.data(source, settings, about)
            name = f"{report.name}-{data.slug}".rstrip("-")
            as_of_run = "" if as_of is None else "as-of-"
            path = directory / f"kmsledger-{name}-{as_of_run}run{data.run['run_id']}.html"
            render.write(report.template, {"report": report, "data": data}, path)
            written.append(path)
            if as_of is None:
                latest = directory / f"kmsledger-{name}.html"
                render.copy(path, latest)
                written.append(latest)
    return written

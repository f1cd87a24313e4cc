"""The findings of a run in a few lines, for the terminal: with the numbers of the report."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

from models.settings import Settings
from models.severities import SEVERITIES
from reports.html.findings_section import FindingsSection
from reports.html.labels import status_changes
from reports.html.query_runner import Source
from reports.mart.connection import connect


def findings_summary(settings: Settings, config_path: Path | None = None) -> list[str]:
    """Return what is open by severity, what has changed since the run before, and the next command; nothing without rules.

    ``config_path`` is the settings file, if the command needs to name it.
    """
    with connect(settings.report.mart) as mart:
        source = Source(mart)
        run = source.row("run")
        section = FindingsSection(source, settings, run) if run is not None else None
        if section is None or not section.is_evaluated:
            return []
        rows = {row["severity"]: row for row in source.table("severities")}
        changes = status_changes(section.status_changes) if section.has_previous_results else None
    failed = {
        severity: rows[severity]["fail"] for severity in SEVERITIES if severity in rows and rows[severity]["fail"]
    }
    others = [
        f"{total:,} {status}"
        for status in ("unknown", "waived")
        if (total := sum(row[status] for row in rows.values()))
    ]
    by_severity = ", ".join(f"{count:,} {severity}" for severity, count in failed.items())
    opened = f"{sum(failed.values()):,} open ({by_severity})" if failed else "none open"
    lines = [f"findings: {', '.join([opened, *others])}"]
    if changes is not None:
        lines.append(f"since the run before: {changes or 'no finding has changed'}")
    if failed or others:
        severity = f" --severity {next(iter(failed))}" if failed else ""
        config = f" --config {quote(str(config_path))}" if config_path is not None else ""
        lines.append(f"next: `kmsledger findings{severity}{config}`")
    return lines

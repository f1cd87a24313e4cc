"""The summary of the mart's run for the mail: the key figures and lists of the report."""

from collections.abc import Set as AbstractSet
from datetime import UTC, timedelta
from typing import Final

import duckdb

from models.settings import Settings
from models.severities import SEVERITIES
from reports.html.filters import counted, share
from reports.html.findings_section import FindingsSection
from reports.html.labels import account_region, status_changes, unread_scope
from reports.html.overview_report import OverviewReport
from reports.html.query_runner import Source
from reports.html.situations import COMMAND
from reports.html.subjects import Subject
from reports.notify.message import AttentionItem, Status, Summary
from reports.notify.trend import TrendPoint

TOP: Final = 10
"""The maximum number of entries per list."""
NEW: Final = 3
"""The maximum number of new findings."""
SOON: Final = timedelta(days=7)
"""A loss of data within this time is never an unchanged state."""
RUNS: Final = 30
"""The maximum number of runs in the trend."""

_FAILING: Final = ("new", "reopened", "returned")
_STATUS: Final[dict[str, Status]] = {"complete": "complete", "partial": "partial"}


def summary(mart_connection: duckdb.DuckDBPyConnection, settings: Settings, subject: Subject | None = None) -> Summary:
    """The summary of the mart's run for the mail. Raises MartError if the mart has no run.

    With a subject, to which the connection is limited, it has nothing about others, and does not say whether anything changed.
    """
    source = Source(mart_connection)
    report = OverviewReport(source, settings, subject)
    run, situations, findings = report.run, report.situations, report.findings
    changes = source.limited("changes", TOP, run_id=run["run_id"])
    return Summary(
        title=f"{settings.report.title}: {subject.name}" if subject else settings.report.title,
        # For a subject, the status of the run does not say what of it was read.
        status="partial"
        if run["status"] in _STATUS and report.scopes.get("failed")
        else _STATUS.get(run["status"], "failed"),
        run_id=run["run_id"],
        finished_at=run["as_of_time"].replace(tzinfo=UTC),
        headline=_headline(report),
        attention=tuple(
            AttentionItem(item.severity, item.text, item.where, item.action, item.commands, item.title, item.link)
            for item in situations.first
        ),
        attention_total=situations.total,
        is_evaluated=findings.is_evaluated,
        changes=tuple(row["message"] for row in changes.rows),
        changes_total=changes.total,
        new_findings=_new(findings, {item.situation_id for item in situations.first}),
        new_findings_total=sum(findings.status_changes[name] for name in _FAILING),
        status_changes=status_changes(findings.status_changes) if findings.has_previous_results else None,
        gaps=tuple(map(unread_scope, report.unread_scopes.rows)),
        gaps_total=report.unread_scopes.total,
        subject=_subject(report),
        all_attention="" if subject else COMMAND,
        trend=_trend(source),
        unchanged_since=None if subject else _unchanged_since(report, changes.total),
    )


def _trend(source: Source) -> tuple[TrendPoint, ...]:
    """The findings of the last runs, over all rules."""
    totals: dict[int, list[int]] = {}
    for row in source.rows("trend", runs=RUNS):
        total = totals.setdefault(row["run_id"], [0, 0])
        total[0] += row["fail"]
        total[1] += row["unknown"]
    return tuple(TrendPoint(run_id, *totals[run_id]) for run_id in sorted(totals))


def _unchanged_since(report: OverviewReport, changes: int) -> int | None:
    """The previous run, if facts, findings, gaps and coverage are the same, and no data is lost soon."""
    # The situations begin with the nearest deadline.
    deadlines = [item.deadline for item in report.situations.first[:1] if item.deadline]
    urgent = report.figures["keys_deleted_soon"] or any(day - report.run["started_at"] <= SOON for day in deadlines)
    if report.run["status"] not in _STATUS or urgent or changes or any(report.findings.status_changes.values()):
        return None
    (row,) = report.rows("unchanged")
    return row["previous_run"] if report.findings.has_previous_results and not row["differences"] else None


def _subject(report: OverviewReport) -> tuple[str, ...]:
    """What matters most: the run's failure, keys that are about to be deleted, new findings, unread account-regions."""
    going, unread = report.figures["keys_deleted_soon"], report.scopes.get("failed", 0)
    new = sum(report.findings.status_changes[name] for name in _FAILING)
    parts = []
    if report.run["status"] not in _STATUS:
        parts.append("the run failed")
    if going:
        parts.append(f"{counted(going, 'key')} will be deleted within 7 days")
    if report.findings.has_previous_results:
        parts.append(counted(new, "new finding") if new else "no new finding")
    elif report.findings.is_evaluated:
        parts.append(counted(report.situations.total, "situation"))
    else:
        parts.append("rules not evaluated")
    if unread:
        parts.append(f"{counted(unread, 'account-region')} not read")
    return tuple(parts)


def _new(section: FindingsSection, listed: AbstractSet[str]) -> tuple[AttentionItem, ...]:
    """The most severe findings that began to fail in this run, new or again: one per situation that is not listed yet."""
    failing = [
        row
        for name, rows in section.status_change_rows
        if name in _FAILING
        for row in rows
        if row["situation_id"] not in listed
    ]
    ascending = sorted(failing, key=lambda row: -SEVERITIES.index(row["severity"]))
    most_severe = {row["situation_id"] or row["resource_arn"]: row for row in ascending}
    return tuple(
        AttentionItem(
            row["severity"],
            f"{row['resource_name'] or row['resource_arn']}: {row['reason'] or row['title']}",
            f"Rule “{row['title']}” · {account_region(row)} · {row['resource_arn']}",
        )
        for row in sorted(most_severe.values(), key=lambda row: SEVERITIES.index(row["severity"]))[:NEW]
    )


def _headline(report: OverviewReport) -> tuple[tuple[str, str], ...]:
    figures, complete, totals = report.figures, report.scopes.get("complete", 0), report.findings.totals
    return (
        (
            "Account-regions read completely",
            f"{complete:,} of {report.in_scope:,} ({share(complete, report.in_scope)})",
        ),
        ("Customer managed keys", _with(figures["customer_keys"], figures["customer_unknown"], "partly unknown")),
        ("References to keys", _with(figures["references"], figures["references_unknown"], "to an unknown key")),
        ("Findings that fail", f"{totals['fail']:,}"),
        ("Findings unknown", f"{totals['unknown']:,}"),
        ("Findings waived", f"{totals['waived']:,}"),
    )


def _with(count: int, unknown: int, what: str) -> str:
    return f"{count:,} ({unknown:,} {what})" if unknown else f"{count:,}"

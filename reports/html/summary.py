"""The summary of the mart's run for the mail: the figures and the lists that the report shows as well."""

from datetime import UTC
from itertools import islice
from typing import Final

import duckdb

from models.settings import Settings
from models.severities import SEVERITIES
from reports.html.filters import share
from reports.html.findings_section import Verdicts
from reports.html.labels import missing, place, turned
from reports.html.overview_report import Estate
from reports.html.query_runner import Source
from reports.notify.message import AttentionItem, Status, Summary

TOP: Final = 10
"""Entries of each list."""
NEW: Final = 3
"""How many new findings are told."""

_FAILING: Final = ("new", "reopened", "returned")
_STATUS: Final[dict[str, Status]] = {"complete": "complete", "partial": "partial"}


def summary(mart_connection: duckdb.DuckDBPyConnection, settings: Settings) -> Summary:
    """What the mail says about the mart's run. Reads only; raises MartError if the mart holds no run."""
    estate = Estate(Source(mart_connection), settings)
    run, notices, changes = estate.run, estate.attention.notices, estate.changes()
    return Summary(
        title=settings.report.title,
        status=_STATUS.get(run["status"], "failed"),
        run_id=run["run_id"],
        finished_at=run["at"].replace(tzinfo=UTC),
        headline=_headline(estate),
        attention=tuple(AttentionItem(item.severity, item.text, item.where) for item in notices[:TOP]),
        attention_total=len(notices),
        changes=tuple(row["message"] for row in islice(changes.rows, TOP)),
        changes_total=changes.total,
        new_findings=_new(estate.verdicts),
        new_findings_total=sum(estate.verdicts.moved[name] for name in _FAILING),
        turned=turned(estate.verdicts.moved) if estate.verdicts.judged_before else None,
        gaps=tuple(map(missing, estate.missing.rows)),
        gaps_total=estate.missing.total,
    )


def _new(verdicts: Verdicts) -> tuple[AttentionItem, ...]:
    """The gravest of the findings that fail since this run, one of each resource: new ones, and those that are back."""
    rows = [row for name, found in verdicts.moves if name in _FAILING for row in found]
    gravest = {row["resource_arn"]: row for row in sorted(rows, key=lambda row: -SEVERITIES.index(row["severity"]))}
    return tuple(
        AttentionItem(
            row["severity"],
            f"{row['resource_name'] or row['resource_arn']}: {row['reason'] or row['title']}",
            f"Rule “{row['title']}” · {place(row)} · {row['resource_arn']}",
        )
        for row in sorted(gravest.values(), key=lambda row: SEVERITIES.index(row["severity"]))[:NEW]
    )


def _headline(estate: Estate) -> tuple[tuple[str, str], ...]:
    figures, complete, totals = estate.figures, estate.scopes.get("complete", 0), estate.verdicts.totals
    return (
        (
            "Account-regions read completely",
            f"{complete:,} of {estate.in_scope:,} ({share(complete, estate.in_scope)})",
        ),
        ("Customer managed keys", _with(figures["customer_keys"], figures["customer_unknown"], "not fully known")),
        ("References to keys", _with(figures["uses"], figures["uses_unknown"], "to an unknown key")),
        ("Findings that fail", f"{totals['fail']:,}"),
        ("Findings unknown", f"{totals['unknown']:,}"),
        ("Findings waived", f"{totals['waived']:,}"),
    )


def _with(count: int, unknown: int, what: str) -> str:
    return f"{count:,} ({unknown:,} {what})" if unknown else f"{count:,}"

"""The summary of the mart's run for the mail: the figures and the lists that the report shows as well."""

from datetime import UTC
from itertools import islice
from typing import Final

import duckdb

from models.settings import Settings
from reports.delivery.mail import AttentionItem, Status, Summary
from reports.html.estate import Estate
from reports.html.source import Source
from reports.html.text import share
from reports.html.wording import missing

TOP: Final = 10
"""Entries of each list."""

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
        changes=tuple(row["sentence"] for row in islice(changes.rows, TOP)),
        changes_total=changes.total,
        gaps=tuple(map(missing, estate.missing.rows)),
        gaps_total=estate.missing.total,
    )


def _headline(estate: Estate) -> tuple[tuple[str, str], ...]:
    figures, complete = estate.figures, estate.scopes.get("complete", 0)
    failed = sum(row["fail"] for row in estate.severities)
    unknown = sum(row["unknown"] for row in estate.severities)
    return (
        (
            "Account-regions read completely",
            f"{complete:,} of {estate.in_scope:,} ({share(complete, estate.in_scope)})",
        ),
        ("Customer managed keys", _with(figures["customer_keys"], figures["customer_unknown"], "not fully known")),
        ("AWS managed keys", f"{figures['aws_keys']:,}"),
        ("References to keys", _with(figures["uses"], figures["uses_unknown"], "to an unknown key")),
        ("Findings that fail", _with(failed, unknown, "unknown")),
        ("Changes", f"{figures['changes']:,}"),
    )


def _with(count: int, unknown: int, what: str) -> str:
    return f"{count:,} ({unknown:,} {what})" if unknown else f"{count:,}"

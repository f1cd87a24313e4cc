"""The command that lists findings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from models.cli_options import AS_OF, CONFIG, FAIL_ON, LIMIT, MART, configured_mart, finding_filters, format_option
from reports.rules.findings import STATUSES

_TABLE_COLUMNS = (
    "severity", "status", "rule_id", "resource_name", "account_name", "region", "owner", "first_failed", "reason"
)  # fmt: skip
_ALL = "all"


@click.command()
@CONFIG
@MART
@AS_OF
@format_option("table", "json", "csv", about="json and csv have every row and every column.")
@LIMIT
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice([*STATUSES, _ALL]),
    help="Only this status; can be repeated. [default: fail, unknown]",
)
@finding_filters
@FAIL_ON
@click.pass_context
def findings(
    context: click.Context,
    /,
    *,
    config_path: Path,
    mart_path: Path | None,
    as_of: str | None,
    output_format: str,
    limit: int,
    statuses: tuple[str, ...],
    fail_on: str | None,
    **filters: Any,
) -> None:
    """List the findings of the rules, highest severity first.

    The values of a repeated option are alternatives; different options must all match. With --fail-on, the exit code is 1 if
    any finding of the run, listed or not, is a failure of that severity or higher that is not waived. The statuses pass and
    not_applicable list former problems only; `kmsledger rules run` lists every result of a rule.
    """
    from dataclasses import fields

    from reports.mart.mart_reader import open_stating_run
    from reports.mart.result_writers import writer_of
    from reports.rules.findings import FindingFilter, FindingRecord, check_names, failing, note_on_passes, read_findings

    criteria = FindingFilter(statuses=STATUSES if _ALL in statuses else statuses or ("fail", "unknown"), **filters)
    path = mart_path or configured_mart(config_path)
    with open_stating_run(path, as_of) as connection:
        if note := note_on_passes(criteria.statuses):
            click.echo(note, err=True)
        check_names(connection, criteria)
        columns = _TABLE_COLUMNS if output_format == "table" else tuple(field.name for field in fields(FindingRecord))
        rows = ([getattr(record, column) for column in columns] for record in read_findings(connection, criteria))
        writer_of(output_format, limit)(sys.stdout, columns, rows)
        failed = fail_on is not None and failing(connection, fail_on) > 0
    if failed:
        context.exit(1)

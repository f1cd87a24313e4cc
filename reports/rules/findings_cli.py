"""The command that lists findings."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from models.cli_options import CONFIG, FAIL_ON, MART
from models.severities import SEVERITIES
from reports.cli import AS_OF, mart_of
from reports.rules.findings import STATUSES, FindingRecord, Wanted, failing, read_findings

_SHOWN = (
    "severity", "status", "rule_id", "resource_name", "account_name", "region", "owner", "first_failed", "reason"
)  # fmt: skip
_ALL = "all"


@click.command()
@CONFIG
@MART
@AS_OF
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
    help="csv and json have every row and every column.",
)
@click.option(
    "--limit", type=click.IntRange(min=0), default=1000, show_default=True, help="Rows of a table at most; 0 for all."
)
@click.option(
    "--status", "statuses", multiple=True, type=click.Choice([*STATUSES, _ALL]), help="[default: fail, unknown]"
)
@click.option("--severity", type=click.Choice(SEVERITIES), help="This severity and graver ones.")
@click.option("--rule", "rules", multiple=True, metavar="RULE", help="Of this rule.")
@click.option("--family", "families", multiple=True, metavar="FAMILY", help="Of the rules of this family.")
@click.option("--account", "accounts", multiple=True, metavar="ACCOUNT", help="In this account: its id or name.")
@click.option("--owner", "owners", multiple=True, metavar="OWNER", help="Of this owner.")
@click.option("--framework", metavar="TEXT", help="Of rules that answer a control with this text in its name.")
@FAIL_ON
@click.pass_context
def findings(
    context: click.Context,
    /,
    *,
    file: Path,
    mart_file: Path | None,
    as_of: str | None,
    form: str,
    limit: int,
    statuses: tuple[str, ...],
    fail_on: str | None,
    **filters: Any,
) -> None:
    """List what the rules found, the gravest first.

    Options that can be repeated mean any of their values; different options must all apply. With --fail-on the exit code is
    1 when the whole analysts' database, not only what is listed, has a failure of that severity or a graver one that no
    waiver accepts. As of an earlier run passes are not all known: the ledger keeps problems, and of the rest the counts.
    """
    from reports.mart import as_of_connection
    from reports.mart.connection import connect
    from reports.mart.result_writers import writer_of

    chosen = STATUSES if _ALL in statuses else statuses or ("fail", "unknown")
    wanted = Wanted(statuses=chosen, **filters)
    path = mart_file or mart_of(file)
    if as_of is None:
        connection = connect(path)
    else:
        connection, moment = as_of_connection.connect(path, as_of)
        click.echo(f"as of {moment}", err=True)
    with connection:
        columns = _SHOWN if form == "table" else tuple(field.name for field in fields(FindingRecord))
        rows = (_row(record, columns) for record in read_findings(connection, wanted))
        writer_of(form, limit)(sys.stdout, columns, rows)
        failed = fail_on is not None and failing(connection, fail_on) > 0
    if failed:
        context.exit(1)


def _row(record: FindingRecord, columns: tuple[str, ...]) -> list[Any]:
    return [getattr(record, column) for column in columns]

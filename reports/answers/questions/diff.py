"""Compare two runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reports.answers.question import EVENT_COLUMNS, question

if TYPE_CHECKING:
    from reports.answers.run_diff import RunDiff


def _differences(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from document["differences"]
    if document["unknown"]:
        click.echo(f"{len(document['unknown'])} unknown items were not compared: --format json lists them", err=True)


@question(
    click.option("--from", "start", metavar="RUN|DATE", help="Earlier run. [default: the run before the later one]"),
    click.option("--to", "end", metavar="RUN|DATE", help="Later run. [default: the last run]"),
    click.option("--key", metavar="KEY", help="Only this key and its dependents: a key ARN, key ID or alias."),
    click.option("--account", metavar="ACCOUNT", help="Only this account: its ID or name."),
    columns=EVENT_COLUMNS,
    rows=_differences,
)
def diff(mart: Path, **options: Any) -> RunDiff:
    """Compare two runs: the net differences, not each step between them.

    A run is a number, or a date or time (UTC; a date means its end). Facts that one of the runs could not read are listed as
    unknown and not compared. Differences do not affect the exit code.

    JSON has `from` and `to` (runs), `filters`, `differences` (each with event_type, severity, message, account, region, key,
    resource, before, after and details) and `unknown`. CSV has the differences.
    """
    from reports.answers.run_diff import diff as compare

    return compare(mart, **options)

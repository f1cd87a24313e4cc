"""The command that exports findings to other systems."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from models.cli_options import AS_OF, CONFIG, MART, configured_mart, finding_filters, format_option
from models.output_file import replacing
from reports.rules.findings import STATUSES

if TYPE_CHECKING:
    from reports.exports.asff import Hub
    from reports.rules.findings import FindingRecord

_RESOLVED, _ALL = "resolved", "all"
_OPEN = ("fail", "unknown", "waived")
_HUB = r"[0-9]{12}/[a-z]{2}(-[a-z]+)+-[0-9]+"


def _hub(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Hub | None:
    if value is None:
        return None
    from reports.exports.asff import Hub

    if not re.fullmatch(_HUB, value):
        raise click.BadParameter("expected ACCOUNT/REGION: 111122223333/eu-west-1")
    account, _, region = value.partition("/")
    return Hub(account, region)


@click.command()
@CONFIG
@MART
@AS_OF
@format_option("ocsf", "asff", "sarif", "csv", "jsonl", required=True)
@click.option(
    "--output", default="-", metavar="FILE|-", help="Write to this file, atomically. [default: standard output]"
)
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice([*STATUSES, _RESOLVED, _ALL]),
    help="Only this status; can be repeated. [default: fail, unknown, waived, and (except for sarif) resolved]",
)
@finding_filters
@click.option(
    "--security-hub",
    "hub",
    metavar="ACCOUNT/REGION",
    callback=_hub,
    help="asff: Security Hub that gets all findings. [default: each finding's own account and region]",
)
def findings(
    *,
    config_path: Path,
    mart_path: Path | None,
    as_of: str | None,
    output_format: str,
    output: str,
    statuses: tuple[str, ...],
    hub: Hub | None,
    **filters: Any,
) -> None:
    """Export findings as OCSF 1.8.0, ASFF, SARIF 2.1.0, CSV or JSON Lines.

    ocsf, csv and jsonl have one finding per line; asff has one line per call of BatchImportFindings; sarif is one document.

    The status resolved means: failed before, and now passes or does not apply. The statuses pass and not_applicable select
    former problems only; `kmsledger rules run` lists every result of a rule. An unknown result is unknown in every format, never
    a pass or a failure.
    """
    from reports.exports import asff, csv_jsonl, ocsf, sarif
    from reports.exports.common import RunInfo, load_run
    from reports.mart.errors import MartError
    from reports.mart.mart_reader import open_stating_run
    from reports.rules.findings import FindingFilter, check_names, note_on_passes, read_findings

    if hub is not None and output_format != "asff":
        raise click.UsageError("--security-hub needs --format asff")
    selected = statuses or (_OPEN if output_format == "sarif" else (*_OPEN, _RESOLVED))
    chosen = STATUSES if _ALL in selected else tuple(status for status in STATUSES if status in selected)
    wanted = FindingFilter(statuses=chosen, resolved=_RESOLVED in selected, **filters)
    path = mart_path or configured_mart(config_path)
    with open_stating_run(path, as_of) as connection:
        if note := note_on_passes(wanted.statuses):
            click.echo(note, err=True)
        run: RunInfo | None = load_run(connection)
        if run is None:
            raise MartError(f"{path} has no run: run `kmsledger crawl` first")
        check_names(connection, wanted)
        count = 0

        def records() -> Iterator[FindingRecord]:
            nonlocal count
            for record in read_findings(connection, wanted, by_account_region=output_format == "asff"):
                count += 1
                yield record

        with _opened(output) as out:
            if output_format == "asff":
                asff.write(out, run, records(), hub)
            else:
                writers = {"ocsf": ocsf.write, "sarif": sarif.write, "csv": csv_jsonl.csv, "jsonl": csv_jsonl.jsonl}
                writers[output_format](out, run, records())
    if output != "-":
        click.echo(f"{output}: {count} finding{'' if count == 1 else 's'} of run {run.run_id}", err=True)


@contextmanager
def _opened(output: str) -> Iterator[TextIO]:
    if output == "-":
        yield sys.stdout
        return
    with replacing(Path(output)) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as out:
        yield out

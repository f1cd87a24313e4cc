"""The command that writes findings for other systems."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from models.cli_options import CONFIG, MART
from models.severities import SEVERITIES
from reports.cli import AS_OF, mart_of
from reports.rules.findings import STATUSES, Wanted

if TYPE_CHECKING:
    from reports.exports.asff import Hub

_RESOLVED, _ALL = "resolved", "all"
_OPEN = ("fail", "unknown", "waived")
_DEFAULTS = {
    "ocsf": (*_OPEN, _RESOLVED),
    "asff": (*_OPEN, _RESOLVED),
    "sarif": _OPEN,
    "csv": (*_OPEN, _RESOLVED),
    "jsonl": (*_OPEN, _RESOLVED),
}
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
@click.option("--format", "form", type=click.Choice(list(_DEFAULTS)), required=True)
@click.option("--output", default="-", metavar="FILE|-", help="Write there, all at once. [default: standard output]")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice([*STATUSES, _RESOLVED, _ALL]),
    help="[default: fail, unknown, waived, and (except for sarif) resolved]",
)
@click.option("--severity", type=click.Choice(SEVERITIES), help="This severity and graver ones.")
@click.option("--rule", "rules", multiple=True, metavar="RULE", help="Of this rule.")
@click.option("--family", "families", multiple=True, metavar="FAMILY", help="Of the rules of this family.")
@click.option("--account", "accounts", multiple=True, metavar="ACCOUNT", help="In this account: its id or name.")
@click.option("--owner", "owners", multiple=True, metavar="OWNER", help="Of this owner.")
@click.option("--framework", metavar="TEXT", help="Of rules that answer a control with this text in its name.")
@click.option(
    "--security-hub",
    "hub",
    metavar="ACCOUNT/REGION",
    callback=_hub,
    help="asff: file all findings there, instead of each in its own account and region.",
)
def findings(
    *,
    file: Path,
    mart_file: Path | None,
    as_of: str | None,
    form: str,
    output: str,
    statuses: tuple[str, ...],
    hub: Hub | None,
    **filters: Any,
) -> None:
    """Write findings as OCSF 1.8.0, ASFF, SARIF 2.1.0, CSV or JSON Lines.

    ocsf, csv and jsonl are a finding a line. asff is a line for each call of BatchImportFindings. sarif is one document.

    resolved means: failed once, and now passes or does not apply. pass and not_applicable are all that do; nobody is sent these
    unasked. What could not be known is unknown in every form, never a pass or a failure.
    """
    from reports.exports import asff, csv_jsonl, ocsf, sarif
    from reports.exports.common import Night, night_of
    from reports.mart import as_of_connection
    from reports.mart.connection import connect
    from reports.mart.errors import MartError
    from reports.rules.findings import read_findings

    if hub is not None and form != "asff":
        raise click.UsageError("--security-hub is for --format asff")
    asked = set(statuses or _DEFAULTS[form])
    chosen = STATUSES if _ALL in asked else tuple(status for status in STATUSES if status in asked)
    wanted = Wanted(statuses=chosen, resolved=_RESOLVED in asked, **filters)
    path = mart_file or mart_of(file)
    if as_of is None:
        connection = connect(path)
    else:
        connection, moment = as_of_connection.connect(path, as_of)
        click.echo(f"as of {moment}", err=True)
    with connection:
        night: Night | None = night_of(connection)
        if night is None:
            raise MartError(f"{path} has no run: run `kmsledger crawl` first")
        records = read_findings(connection, wanted, by_place=form == "asff")
        with _opened(output) as out:
            if form == "asff":
                count = asff.write(out, night, records, hub)
            else:
                writers = {"ocsf": ocsf.write, "sarif": sarif.write, "csv": csv_jsonl.csv, "jsonl": csv_jsonl.jsonl}
                count = writers[form](out, night, records)
    if output != "-":
        click.echo(f"{output}: {count} finding{'' if count == 1 else 's'} of run {night.run_id}", err=True)


@contextmanager
def _opened(output: str) -> Iterator[TextIO]:
    from reports.mart.result_writers import replacing

    if output == "-":
        yield sys.stdout
        return
    with replacing(Path(output)) as beside, beside.open("w", encoding="utf-8", newline="") as out:
        yield out

"""Commands that answer: the reports, the analysts' database, and the mail."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from models.cli_options import CONFIG, FAIL_ON, MART

if TYPE_CHECKING:
    from reports.answers.key_history import Lives
    from reports.answers.run_diff import Difference


AS_OF = click.option(
    "--as-of",
    metavar="DATE|RUN",
    help="Answer with what was known then: a run's number, or a date or time (UTC; a date means its end).",
)
PLAIN = click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)


def mart_of(file: Path) -> Path:
    """The mart that the settings name."""
    from models.settings import load

    return load(file).report.mart


@click.command()
@CONFIG
@MART
@click.option(
    "--from", "start", metavar="DATE|RUN", help="The earlier moment; by default the run before the later one."
)
@click.option("--to", "end", metavar="DATE|RUN", help="The later moment; by default the last run.")
@click.option("--key", metavar="KEY", help="Only this key, and what uses it: a key ARN, a key id or an alias.")
@click.option("--account", metavar="ACCOUNT", help="Only this account: its id or its name.")
@PLAIN
def diff(
    *,
    file: Path,
    mart_file: Path | None,
    start: str | None,
    end: str | None,
    key: str | None,
    account: str | None,
    form: str,
) -> None:
    """Tell what differs between two runs: the net result, not each step between them.

    A moment is a run's number, or a date or time (UTC; a date means its end). What was not known in one of the runs is said,
    and is not compared. Differences are no error: the exit code is 0.

    JSON has `from` and `to` (runs), `only` (what it was narrowed to), `differences` (each with kind, severity, sentence,
    account, region, key, resource, before, after and details) and `not_known`.
    """
    from reports.answers.run_diff import diff as compare

    _told(compare(mart_file or mart_of(file), start, end, key=key, account=account), form)


@click.command()
@CONFIG
@MART
@PLAIN
@click.argument("key")
def history(*, file: Path, mart_file: Path | None, form: str, key: str) -> None:
    """Tell the life of KEY: a key ARN, a key id or an alias.

    Everything that runs saw of it: its first facts, each change with its details, what could not be read and why, which keys
    its aliases pointed at before and after, and what began or stopped to use it. For an alias, the lives of all keys that it
    has pointed at.
    """
    from reports.answers.key_history import history as tell

    _told(tell(mart_file or mart_of(file), key), form)


def _told(answer: Difference | Lives, form: str) -> None:
    from reports.mart.change_event import dumped

    click.echo(dumped(answer.plain()) if form == "json" else "\n".join(answer.lines()))


@click.command()
@CONFIG
@AS_OF
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Write there instead of to report.mart.")
def mart(*, file: Path, as_of: str | None, out: Path | None) -> None:
    """Rebuild the analysts' database from the ledger; open readers keep the old one.

    For the latest run the rules are run again; with --as-of the findings are those that were reached then.
    """
    from models.settings import load
    from reports.pipeline import build_mart, refresh

    settings = load(file)
    run_rules = as_of is None and out is None
    info = refresh(settings) if run_rules else build_mart(settings, out or settings.report.mart, as_of=as_of)
    click.echo(f"{info.path}: {info.keys} keys and {info.findings} findings as of run {info.as_of}")


@click.command()
@click.argument("name", required=False)
@click.option(
    "--output",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where the files go, instead of report.directory in the settings.",
)
@CONFIG
@AS_OF
@FAIL_ON
@click.pass_context
def report(
    context: click.Context,
    *,
    name: str | None,
    directory: Path | None,
    file: Path,
    as_of: str | None,
    fail_on: str | None,
) -> None:
    """Write the HTML reports about the last run, all of them or the one called NAME.

    Each is written twice with the same content: under the number of its run, and under a name that never changes. With
    --as-of there is one file, which says so in its name: the reports of the nights stay what they were.
    """
    from models.settings import load
    from reports.html.registry import REPORTS, find, write
    from reports.pipeline import FINDINGS, failing, refresh

    chosen = REPORTS if name is None else (find(name),)
    settings = load(file)
    if not settings.report.mart.exists():
        refresh(settings)
    for path in write(chosen, settings.report.mart, directory or settings.report.directory, settings, as_of=as_of):
        click.echo(path)
    if fail_on is not None and failing(settings, fail_on, as_of):
        context.exit(FINDINGS)


@click.command()
@CONFIG
def mail(file: Path) -> None:
    """Send the report of the last run to those who have not had it."""
    from models.settings import load
    from reports.pipeline import FAILED, send_missing

    if not send_missing(load(file)):
        raise click.exceptions.Exit(FAILED)

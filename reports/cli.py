"""Commands that operate on the results of a run: the mart, the reports and the mail."""

from __future__ import annotations

import datetime as dt
from contextlib import nullcontext
from pathlib import Path

import click

from models.cli_main import interruptible
from models.cli_options import AS_OF, CONFIG, FAIL_ON, MAX_AGE, MIN_COVERAGE
from models.cli_settings import configured
from models.console import say
from models.safe_text import printable


@click.command()
@CONFIG
@AS_OF
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the mart to this file. [default: report.mart in the settings]",
)
def mart(*, config_path: Path, as_of: str | None, output: Path | None) -> None:
    """Rebuild the mart from the ledger; open readers keep the old one.

    For the latest run, the rules run again. With --as-of, the findings are those of that run.
    """
    from models.store import crawl_lock
    from reports.pipeline import build_mart, refresh

    settings = configured(config_path)
    with (
        interruptible("build of the mart interrupted; the old mart is untouched: run `kmsledger mart` again"),
        nullcontext() if output else crawl_lock.results(settings.database),
    ):
        if as_of is None and output is None:
            info = refresh(settings)
        else:
            info = build_mart(settings, output or settings.report.mart, as_of=as_of)
    say(f"{info.path}: {info.keys} keys and {info.findings} rule results as of run {info.as_of}")


@click.command()
@click.argument("name", required=False)
@click.argument("subject", required=False)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write the reports to this directory. [default: report.directory in the settings]",
)
@click.option("--since", metavar="RUN|DATE", help="For changes: the earlier run. [default: the run before]")
@CONFIG
@AS_OF
@FAIL_ON
@click.pass_context
def report(
    context: click.Context,
    *,
    name: str | None,
    subject: str | None,
    output: Path | None,
    since: str | None,
    config_path: Path,
    as_of: str | None,
    fail_on: str | None,
) -> None:
    """Write the HTML reports of the last run: overview and compliance, or only the report NAME.

    \b
    overview        the whole organization
    compliance      the controls of frameworks, for auditors
    changes         the differences from the previous run, or from --since
    account SUBJECT the overview of one account: its ID or name
    ou SUBJECT      the overview of an organizational unit: its path or ID
    owner SUBJECT   the overview of one owner (settings: owners)
    vendor SUBJECT  an external party: its keys, access paths, deviations
    key SUBJECT     a key (ARN, ID or alias): life, access, dependents

    Each report is written to two files with the same content: one is named after the run, the other has a fixed name. With
    --as-of there is one file, named after that run; the reports of other runs are left alone. Without --output and --as-of,
    the reports are also copied to report.publish, if it is set.
    """  # noqa: D301 - click reads the escape as "do not wrap"
    from models.store import crawl_lock
    from reports.html.registry import REPORTS, find, write
    from reports.pipeline import FAILED, FINDINGS, failing, publish_reports, refresh

    chosen = REPORTS if name is None and since is None else (find(name or "overview", subject, since=since),)
    settings = configured(config_path)
    with interruptible(
        "report interrupted; files not yet written are untouched, and no file is written in part: "
        "run `kmsledger report` again"
    ):
        if not settings.report.mart.exists():
            with crawl_lock.results(settings.database):
                refresh(settings)
        directory = output or settings.report.directory
        paths = write(chosen, settings.report.mart, directory, settings, subject=subject, as_of=as_of)
        for path in paths:
            click.echo(path)
        if output is None and as_of is None and not publish_reports(paths, settings):
            context.exit(FAILED)
    if fail_on is not None and failing(settings, fail_on, as_of, report=chosen[0], subject=subject):
        context.exit(FINDINGS)


@click.command()
@click.option(
    "--to",
    "recipients",
    multiple=True,
    metavar="RECIPIENT",
    help="Only this one of the settings: an address, webhook:NAME or chat:NAME.",
)
@click.option("--resend", is_flag=True, help="Send again, also to recipients who have received it.")
@click.option("--dry-run", is_flag=True, help="List who gets what; send, write and record nothing.")
@CONFIG
def mail(*, recipients: tuple[str, ...], resend: bool, dry_run: bool, config_path: Path) -> None:
    """Deliver the report of the last run to recipients who have not received it: by mail, webhooks and chat.

    What was rejected, or may have arrived, is sent again only with --resend.
    """
    from reports.notify.delivery import Request
    from reports.pipeline import FAILED, send_missing

    settings = configured(config_path)
    with interruptible("mail interrupted: `kmsledger mail` sends it to recipients who have not received it"):
        complete = send_missing(settings, Request(frozenset(recipients), resend=resend, dry_run=dry_run))
    if not complete:
        raise click.exceptions.Exit(FAILED)


@click.command()
@CONFIG
@MAX_AGE
@MIN_COVERAGE
@click.pass_context
def health(context: click.Context, *, config_path: Path, max_age: dt.timedelta, min_coverage: int | None) -> None:
    """Tell a monitor, in one sentence and an exit code, whether the last run is recent and complete enough.

    It is the last run that ended and that the mart shows, so that a mart that cannot be built is noticed too.

    Exit codes: 0 healthy, 3 gaps that coverage.max_consecutive_gaps does not tolerate, 4 too old, too little coverage, or no run.
    """
    from models.errors import UserError
    from models.settings import load
    from reports.answers.coverage_gate import FAILED
    from reports.answers.runs import check_health

    settings = load(config_path).with_min_coverage(min_coverage)
    try:
        code, sentence = check_health(settings, max_age, dt.datetime.now(dt.UTC))
    except UserError as error:  # a ledger or mart that cannot be read is what monitors ask for
        code, sentence = FAILED, f"failed: {error.message}"
    click.echo(printable(sentence))
    context.exit(code)

"""The console entry point: command groups that are loaded when they run, and the stages of a crawl."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from models import cli_main
from models.cli_groups import LazyCommand, LazyGroup
from models.cli_main import interruptible
from models.cli_options import CONFIG, FAIL_ON, MIN_COVERAGE
from models.cli_settings import configured
from models.console import say
from models.errors import Collected
from models.process_memory import use_one_heap
from models.settings_path import SETTINGS
from models.stages import stage
from reports.answers.questions import questions

if TYPE_CHECKING:
    from crawler.writer import CrawlResult
    from models.call_counters import OperationCounters
    from models.diagnosis import Check
    from models.settings import Settings
    from models.settings.rules import Threshold

SECTIONS = {
    "Crawl and operate": {
        "crawl": LazyCommand("kmsledger", "crawl", "Crawl the organization and rebuild the mart."),
        "nightly": LazyCommand("kmsledger", "nightly", "Crawl, rebuild the mart, write and deliver the reports."),
        "analyze-access": LazyCommand(
            "reports.access.analysis.cli", "analyze_access", "Analyze who can use which key."
        ),
        "mart": LazyCommand("reports.cli", "mart", "Rebuild the mart from the ledger."),
        "report": LazyCommand("reports.cli", "report", "Write the HTML reports."),
        "health": LazyCommand(
            "reports.cli", "health", "Tell a monitor whether the last run is recent and complete enough."
        ),
        "mail": LazyCommand("reports.cli", "mail", "Deliver the latest report to pending recipients."),
        "estimate": LazyCommand(
            "crawler.estimate.cli", "estimate", "Estimate calls, duration and cost of a crawl before it runs."
        ),
        "doctor": LazyCommand(
            "crawler.doctor.cli", "doctor", "Try what a run needs, and print the fix for what fails."
        ),
    },
    "Query": {
        "sql": LazyCommand("reports.mart.cli", "sql", "Query the mart with SQL."),
        "schema": LazyCommand("reports.mart.cli", "schema", "Describe the mart's views and columns."),
        "cookbook": LazyCommand("reports.answers.cookbook_cli", "cookbook", "Run a prepared query."),
        **questions(),
    },
    "Comply": {
        "findings": LazyCommand("reports.rules.findings_cli", "findings", "List the findings of the rules."),
        "rules": LazyCommand("reports.rules.cli", "rules", "List, show, test and create rules."),
        "export": LazyCommand("reports.exports", "export", "Export findings, views and evidence packs."),
        "verify": LazyCommand("reports.evidence.cli", "verify", "Check that an evidence pack is intact."),
    },
    "Administer": {
        "init": LazyCommand("crawler.init_cli", "init", "Write the first settings file."),
        "config": LazyCommand("models.cli", "config", "Check the settings file."),
        "permissions": LazyCommand("crawler.cli", "permissions", "Print the IAM policies that the crawler needs."),
        "db": LazyCommand("models.cli", "db", "Create, upgrade, check or copy the ledger's database."),
        "prune": LazyCommand("models.cli", "prune", "Delete history older than a number of days."),
    },
}

LOG_FORMAT = click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    help="Format of log lines. [default: log.format in the settings]",
)
RESUME = click.option(
    "--resume",
    is_flag=True,
    help="Finish the last run, which was interrupted: crawl only what is missing, then run all later stages.",
)


def _known_executor(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        from models.settings.crawl import EXECUTOR, EXECUTOR_EXPECTED

        if not re.fullmatch(EXECUTOR, value):
            raise click.BadParameter(f"expected {EXECUTOR_EXPECTED}")
    return value


def _known_names(pattern: str, expected: str) -> Callable[..., tuple[str, ...]]:
    def check(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            if not re.fullmatch(pattern, value):
                raise click.BadParameter(f"{value!r} is not {expected}")
        return tuple(dict.fromkeys(values))

    return check


@click.group(cls=LazyGroup, sections=SECTIONS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="kmsledger", prog_name="kmsledger")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def cli(context: click.Context, *, debug: bool) -> None:
    """Inventory and history of every KMS key in an AWS organization.

    Exit codes: 0 done, 1 findings at or above the chosen severity, 2 usage or configuration error, 3 done with gaps, 4 failed.
    """
    context.obj = {"debug": debug, "check": _check, "channels": _check_channels}


@click.command()
@CONFIG
@LOG_FORMAT
@RESUME
@click.option(
    "--executor",
    metavar="EXECUTOR",
    callback=_known_executor,
    help="processes, dask://HOST:PORT or dask://local. [default: crawl.executor in the settings]",
)
@click.option(
    "--account",
    "accounts",
    multiple=True,
    callback=_known_names(r"[0-9]{12}", "an account ID of 12 digits"),
    metavar="ID",
    help="Crawl only this account; repeatable. Everything else stays as earlier runs read it.",
)
@click.option(
    "--region",
    "regions",
    multiple=True,
    callback=_known_names(r"global|[a-z]{2,}(-[a-z]+)+-[0-9]{1,2}", "a region such as eu-west-1, or global"),
    metavar="REGION",
    help="Crawl only this region; repeatable. global is what belongs to no region, such as buckets.",
)
@MIN_COVERAGE
@FAIL_ON
@click.pass_context
def crawl(
    context: click.Context,
    *,
    config_path: Path,
    log_format: str | None,
    executor: str | None,
    resume: bool,
    accounts: tuple[str, ...],
    regions: tuple[str, ...],
    min_coverage: int | None,
    fail_on: Threshold | None,
) -> None:
    """Crawl the organization into the ledger, then rebuild the mart.

    With --account or --region, accounts and regions that are not named are not part of the run: nothing of theirs is closed,
    they have no gaps, and their findings stay. The exit code is about the named ones alone. An account or region that does not
    exist is a usage error (2).

    Findings affect the exit code only with --fail-on; gaps (3) take precedence. Gaps that coverage.max_consecutive_gaps tolerates
    are no gaps, and a coverage below --min-coverage is a failure (4).
    """
    settings = configured(config_path, log_format).with_min_coverage(min_coverage)
    if executor is not None:
        settings = settings.with_executor(executor)
    if resume and (accounts or regions):
        raise click.UsageError(
            "--resume finishes the last run with its own accounts and regions: omit --account and --region"
        )
    _check(settings)
    from reports.pipeline import FINDINGS, coverage_exit, failing

    result = _crawl(context, settings, resume=resume, accounts=accounts, regions=regions)
    with _locked(context, settings, result.run_id):
        _refresh(context, settings, result.run_id)
        code = coverage_exit(settings)
    if fail_on is not None and not code:
        code = FINDINGS if failing(settings, fail_on) else code
    context.exit(code)


@click.command()
@CONFIG
@LOG_FORMAT
@RESUME
@MIN_COVERAGE
@FAIL_ON
@click.pass_context
def nightly(
    context: click.Context,
    *,
    config_path: Path,
    log_format: str | None,
    resume: bool,
    min_coverage: int | None,
    fail_on: Threshold | None,
) -> None:
    """Crawl, rebuild the mart, write and deliver the reports: the unattended run, with one exit code.

    The exit code is 1 for findings of severity rules.fail_on (or --fail-on) and higher; gaps (3) take precedence. Gaps that
    coverage.max_consecutive_gaps tolerates are no gaps, and a coverage below --min-coverage is a failure (4), which is reported.
    A failed stage, and a run that exceeds nightly.deadline, is reported to the recipients of the report.
    """
    settings = configured(config_path, log_format).with_fail_on(fail_on).with_min_coverage(min_coverage)
    _check(settings)
    from models.interruption import deadline
    from reports.metrics.nightly_metrics import measured
    from reports.notify.failure_notice import reported
    from reports.pipeline import publish

    limit = settings.nightly.deadline
    with measured(settings) as outcome, reported(settings), deadline(limit, "nightly.deadline"):
        result = _crawl(context, settings.for_nightly_run(), resume=resume, operations=outcome.operations)
        with _locked(context, settings, result.run_id, wait=limit):
            _refresh(context, settings, result.run_id)
            with interruptible(
                f"publication of run {result.run_id} interrupted; run and mart are complete: `kmsledger nightly --resume` "
                "writes the reports and delivers them to recipients who have not received them"
            ):
                outcome.exit_code = publish(settings, result.run_id)
    context.exit(outcome.exit_code)


def _check(settings: Settings) -> None:
    """Raise a UserError with all settings that refer to something unknown."""
    from crawler.discovery import check_regions
    from reports.pipeline import check_settings

    errors = Collected()
    with errors:
        check_regions(settings)
    if settings.crawl.resource_types:
        from crawler.iam_policies import configured_types

        with errors:
            configured_types(settings.crawl.resource_types)
    with errors:
        check_settings(settings)
    errors.reraise()


def _check_channels(settings: Settings) -> list[Check]:
    from reports.metrics.otlp import check_collector
    from reports.notify.check import check_channels

    return [*check_channels(settings), *check_collector(settings.metrics.otlp)]


def _crawl(
    context: click.Context,
    settings: Settings,
    *,
    resume: bool,
    accounts: tuple[str, ...] = (),
    regions: tuple[str, ...] = (),
    operations: OperationCounters | None = None,
) -> CrawlResult:
    from importlib.metadata import version

    from crawler.crawl import crawl as run
    from crawler.crawl import unread_accounts
    from crawler.progress import Progress
    from crawler.selection import Selection, limits_of

    command = f"kmsledger {context.info_name} --resume"
    with interruptible(f"crawl interrupted; what was saved is kept: `{command}` finishes the run"), stage("crawl"):
        progress = Progress()
        progress.operations = {} if operations is None else operations
        selection = Selection(accounts, regions)
        result = run(settings, version("kmsledger"), progress, resume=resume, selection=selection, keep_lock=True)
    say(
        f"run {result.run_id} {result.status}: {result.accounts} accounts, {result.scopes} scopes, "
        f"{result.calls} calls, {result.gaps} gaps"
    )
    if limits := limits_of(settings, result.run_id):
        say(f"{limits}: everything else is as earlier runs read it")
    if unread := unread_accounts(settings, result.run_id):
        say(unread)
    return result


@contextmanager
def _locked(context: click.Context, settings: Settings, run_id: int, *, wait: float = 3600) -> Iterator[None]:
    """Keep the lock of the crawl, and hold the one for computing results; waits for a `kmsledger mart` that runs already."""
    from models.store import crawl_lock

    command = f"kmsledger {context.info_name} --resume"
    with ExitStack() as stack:
        stack.enter_context(crawl_lock.kept(settings.database, run_id))
        with interruptible(f"interrupted; the crawl of run {run_id} is complete: `{command}` finishes the run"):
            stack.enter_context(crawl_lock.results(settings.database, wait=wait))
        yield


def _refresh(context: click.Context, settings: Settings, run_id: int) -> None:
    from reports.pipeline import refresh

    command = f"kmsledger {context.info_name} --resume"
    with interruptible(
        f"build of the mart interrupted; the crawl of run {run_id} is complete, the old mart is untouched: `{command}` "
        "finishes the run"
    ):
        refresh(settings, run_id)
    say(f"mart: {settings.report.mart}")
    from reports.html.findings_summary import findings_summary

    config_path = context.params["config_path"]
    for line in findings_summary(settings, None if config_path == SETTINGS else config_path):
        say(line)


def main() -> None:
    """Run the command, and exit."""
    use_one_heap()
    cli_main.main(cli)


if __name__ == "__main__":
    main()

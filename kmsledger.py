"""The roof: the command, and the night's flow stage after stage. No logic of its own; only the command imports it."""

from __future__ import annotations

import importlib
import re
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from models.cli_options import CONFIG, FAIL_ON

if TYPE_CHECKING:
    from crawler.crawl import CrawlResult
    from models.settings import Settings
    from models.settings.rules import Threshold

LAZY = {
    "config": ("models.cli", "config"),
    "db": ("models.cli", "db"),
    "prune": ("models.cli", "prune"),
    "permissions": ("crawler.cli", "permissions"),
    "sql": ("reports.mart.cli", "sql"),
    "schema": ("reports.mart.cli", "schema"),
    "cookbook": ("reports.mart.cli", "cookbook"),
    "export": ("reports.exports", "export"),
    "diff": ("reports.cli", "diff"),
    "history": ("reports.cli", "history"),
    "who-can": ("reports.answers.cli", "who_can"),
    "access": ("reports.answers.cli", "access"),
    "vendors": ("reports.answers.cli", "vendors"),
    "denials": ("reports.answers.cli", "denials"),
    "rules": ("reports.rules.cli", "rules"),
    "assess": ("reports.access.analysis.cli", "assess"),
    "findings": ("reports.rules.findings_cli", "findings"),
    "mart": ("reports.cli", "mart"),
    "report": ("reports.cli", "report"),
    "mail": ("reports.cli", "mail"),
}
"""Commands by module: nothing heavy is imported before it is run."""

HELP = {
    "config": "Check the settings file.",
    "db": "Create, upgrade, check or copy the database.",
    "prune": "Delete history that is older than some days.",
    "permissions": "Print the IAM policy that the crawler needs.",
    "sql": "Query the analysts' database.",
    "schema": "Describe the views that SQL can ask.",
    "cookbook": "Answer questions that come with their query.",
    "export": "Write files for other systems.",
    "diff": "Tell what differs between two runs.",
    "history": "Tell the life of a key.",
    "who-can": "Tell who can use a key, or read a secret, and why.",
    "access": "Tell which keys somebody can use.",
    "vendors": "Tell which outside party can do what with which key.",
    "denials": "Tell which of our own calls were denied, and what fixes that.",
    "rules": "List, show and test the rules, and write new ones.",
    "assess": "Work out who can use which key.",
    "findings": "List what the rules found.",
    "mart": "Rebuild the analysts' database from the ledger.",
    "report": "Write the HTML reports.",
    "mail": "Send the last run's report to those who have not had it.",
}

LOG_FORMAT = click.option(
    "--log-format", type=click.Choice(["text", "json"]), help="Instead of log.format in the settings."
)


def _known_executor(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        from models.settings.crawl import EXECUTOR, EXECUTOR_EXPECTED

        if not re.fullmatch(EXECUTOR, value):
            raise click.BadParameter(f"expected {EXECUTOR_EXPECTED}")
    return value


class Commands(click.Group):
    """A group whose commands are imported when they are run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Those of this file, then the lazy ones."""
        return [*super().list_commands(ctx), *LAZY]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a lazy command."""
        if cmd_name not in LAZY:
            return super().get_command(ctx, cmd_name)
        module, name = LAZY[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        rows = [
            (
                name,
                HELP.get(name)
                or (command.get_short_help_str(limit=80) if (command := self.commands.get(name)) else ""),
            )
            for name in self.list_commands(ctx)
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("kmsledger"), prog_name="kmsledger")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def cli(context: click.Context, *, debug: bool) -> None:
    """A ledger of every KMS key in an AWS organization.

    Exit codes: 0 done, 1 findings over the chosen severity, 2 usage or configuration, 3 done with gaps, 4 failed.
    """
    context.obj = {"debug": debug, "check": _checked}


@cli.command()
@CONFIG
@LOG_FORMAT
@click.option(
    "--resume", is_flag=True, help="Finish the last run, which was interrupted: only the scopes still missing."
)
@click.option(
    "--executor",
    metavar="WHERE",
    callback=_known_executor,
    help="Instead of crawl.executor in the settings: processes, dask://HOST:PORT or dask://local.",
)
@FAIL_ON
@click.pass_context
def crawl(
    context: click.Context,
    *,
    file: Path,
    log_format: str | None,
    executor: str | None,
    resume: bool,
    fail_on: Threshold | None,
) -> None:
    """Crawl the organization into the ledger, then rebuild the analysts' database.

    Findings make no difference to the exit code, unless --fail-on says so; gaps (3) come before them.
    """
    settings = _settings(file, log_format)
    if executor is not None:
        settings = settings.with_executor(executor)
    _checked(settings)
    result = _crawl(settings, resume=resume)
    _refresh(settings, result.run_id)
    code = result.exit_code
    if fail_on is not None and not code:
        from reports.pipeline import FINDINGS, failing

        code = FINDINGS if failing(settings, fail_on) else code
    context.exit(code)


@cli.command()
@CONFIG
@LOG_FORMAT
@FAIL_ON
@click.pass_context
def nightly(context: click.Context, *, file: Path, log_format: str | None, fail_on: Threshold | None) -> None:
    """The unattended night: crawl, analysts' database, reports, mail. One exit code for all of it.

    Findings count from rules.fail_on in the settings on, or from --fail-on.
    """
    settings = _settings(file, log_format).with_fail_on(fail_on)
    _checked(settings)
    result = _crawl(settings)
    _refresh(settings, result.run_id)
    from reports.pipeline import publish

    context.exit(publish(settings, result.run_id, crawl_exit=result.exit_code))


def _settings(file: Path, log_format: str | None) -> Settings:
    from models.logging_setup import set_up
    from models.settings import load

    settings = load(file)
    set_up(settings.log.level, log_format or settings.log.format)
    return settings


def _checked(settings: Settings) -> None:
    from reports.pipeline import check_settings

    check_settings(settings)


def _crawl(settings: Settings, *, resume: bool = False) -> CrawlResult:
    from crawler.crawl import crawl as run
    from crawler.progress import Progress

    result = run(settings, version("kmsledger"), Progress(), resume=resume)
    click.echo(
        f"run {result.run_id} {result.status}: {result.accounts} accounts, {result.scopes} scopes, "
        f"{result.calls} calls, {result.gaps} gaps"
    )
    return result


def _refresh(settings: Settings, run_id: int) -> None:
    from reports.pipeline import refresh

    refresh(settings, run_id)
    click.echo(f"analysts' database: {settings.report.mart}")


def main() -> None:
    """Run the command; a failure is one sentence on standard error, with --debug its traceback too."""
    # A service manager ends a run as a person does: what was saved is kept, and the ledger's lock is released.
    signal.signal(signal.SIGTERM, lambda _signal, _frame: signal.raise_signal(signal.SIGINT))
    sys.exit(_guarded(debug="--debug" in sys.argv[1:]))


def _guarded(*, debug: bool) -> int:
    from models.errors import UserError

    try:
        result: Any = cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _failed("interrupted; what was saved is kept, and `kmsledger crawl --resume` goes on from there", 4)
    except UserError as error:
        if debug:
            raise
        return _failed(str(error), error.exit_code)
    except BrokenPipeError:
        # Whoever read our output has had enough of it.
        sys.stdout = None  # nothing is left to be flushed at exit
        return 0
    except Exception as error:
        if debug:
            raise
        return _failed(
            f"unexpected {type(error).__name__}: {error}; run it again with --debug and report what it prints", 4
        )
    return result if isinstance(result, int) else 0


def _failed(sentence: str, code: int) -> int:
    click.echo(f"kmsledger: {sentence}", err=True)
    return code


if __name__ == "__main__":
    main()

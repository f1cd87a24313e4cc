"""The command that tries what a run needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from models.cli_options import CONFIG, format_option
from models.diagnosis import Check, Diagnosis, problem
from models.errors import UserError


@click.command()
@CONFIG
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    metavar="N",
    help="Examine only this number of accounts. [default: all]",
)
@click.option(
    "--keys",
    "max_keys",
    type=click.IntRange(min=1, max=100_000),
    default=100,
    show_default=True,
    metavar="N",
    help="Keys of each account and region on which the actions of KMS are tried.",
)
@format_option("table", "json")
@click.pass_context
def doctor(context: click.Context, *, config_path: Path, sample: int | None, max_keys: int, output_format: str) -> None:
    """Try everything that a run needs, and print the exact fix for what does not work.

    Checked are: credentials, clock, organization, the role in every account, each IAM action once in every account, the regions
    in the settings, the key policies, database, disk space, file permissions, the mail server or Amazon SES, webhooks and
    the collector of metrics (the connection), and chats (the address). All calls only read, and nothing is written, sent or
    stored.

    Exit codes: 0 everything works, 2 invalid settings, 3 a run would lack something or something could not be checked, 4 no run
    can succeed.

    JSON has `format`, `exit_code`, `problems` and `unknown` (their numbers) and `checks`: each with check, status (ok, unknown,
    problem or fatal), message, fix, statement (JSON of the policy), accounts and subjects.
    """
    import asyncio

    from crawler.doctor.examine import examine
    from models.local_checks import local_checks
    from models.settings import load

    diagnosis = Diagnosis()
    root = context.find_root().obj or {}
    try:
        settings = load(config_path)
    except UserError as error:
        diagnosis.add_invalid_settings(_invalid(error))
    else:
        # Only the root command knows both the crawler, and the rules and channels of reports.
        try:
            root.get("check", lambda _settings: None)(settings)
        except UserError as error:
            diagnosis.add_invalid_settings(_invalid(error))
        diagnosis.checks += asyncio.run(examine(settings, sample, max_keys))
        diagnosis.checks += local_checks(settings, config_path)
        known = {check.message for check in diagnosis.checks}
        channels = root.get("channels", lambda _settings: [])(settings)
        # The check of the settings has named chats that cannot be used.
        diagnosis.checks += [check for check in channels if check.message not in known]
    click.echo(diagnosis.to_json() if output_format == "json" else diagnosis.to_text())
    context.exit(diagnosis.exit_code)


def _invalid(error: UserError) -> Iterator[Check]:
    for line in str(error).splitlines():
        message, separator, fix = line.rpartition(", expected ")
        if separator:
            fix = f"write {fix}"
        else:
            message, _, fix = line.rpartition(": ")
        yield problem("settings", message, fix, fatal=True)

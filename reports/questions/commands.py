"""Questions as commands."""

from __future__ import annotations

from pathlib import Path

import click

from reports.commands import AS_OF, CONFIG, MART, mart_of

FORM = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="json has it all.",
)


@click.command("who-can")
@CONFIG
@MART
@AS_OF
@FORM
@click.argument("operation")
@click.argument("what")
def who_can(*, file: Path, mart_file: Path | None, as_of: str | None, form: str, operation: str, what: str) -> None:
    """Tell who can do OPERATION with WHAT, each principal once with every way that leads there.

    OPERATION is one of KMS (decrypt, kms:GenerateDataKey ..., in any letter case), `use` for any use of the key, or
    `administer` for what changes the key or who may use it. WHAT is a key (ARN, id, alias), a secret, a database, a cache or a
    bucket (name or ARN). For a secret, `decrypt` and `use` ask who can read it.

    Exit codes: 0 answered, 2 there is no such operation or thing (or several), 3 answered, but part of it is not known.

    JSON has `format`, `as_of`, `question`, `what`, `what_type`, `operations`, `notes`, and `keys`: each with key_arn, key_name,
    key_state, role, `unknown` and `holders` (principal, kind, account_id, account_name, party, access, answer, sentence, reason,
    operations, ways, resource_ways).
    """
    from reports.mart.events import dumped
    from reports.questions.who_can import who_can as ask

    answer = ask(mart_file or mart_of(file), operation, what, as_of=as_of)
    click.echo(dumped(answer.plain()) if form == "json" else "\n".join(answer.lines()))
    if not answer.known:
        raise click.exceptions.Exit(3)

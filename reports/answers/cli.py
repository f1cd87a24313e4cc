"""Questions as commands."""

from __future__ import annotations

import importlib
from pathlib import Path

import click

from models.cli_options import CONFIG, MART
from reports.cli import AS_OF, mart_of

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
    from reports.answers.who_can import who_can as ask
    from reports.mart.change_event import dumped

    answer = ask(mart_file or mart_of(file), operation, what, as_of=as_of)
    click.echo(dumped(answer.plain()) if form == "json" else "\n".join(answer.lines()))
    if not answer.known:
        raise click.exceptions.Exit(3)


@click.command()
@CONFIG
@MART
@AS_OF
@FORM
def denials(*, file: Path, mart_file: Path | None, as_of: str | None, form: str) -> None:
    """Tell which calls of kmsledger itself were denied, why, and the statement that would let them through.

    Each statement says into which policy it goes: the key policy (of keys whose policy does not let IAM decide), a policy of the
    role, a trust policy, a service control policy. Calls that one statement puts right are told together.

    Exit codes: 0 nothing was denied, 3 something was.

    JSON has `format`, `as_of`, `other_gaps`, and `denials`: each with cause, cause_text, fix_in, role, actions, accounts,
    subjects, since_run, fix (where, statement, certain) and denied (the single calls).
    """
    from models.settings import RoleSettings, load
    from reports.answers.denials import denials as ask
    from reports.mart.change_event import dumped

    settings = load(file) if mart_file is None else None
    role = settings.role.name if settings else RoleSettings().name
    answer = ask(mart_file or mart_of(file), as_of=as_of, role_name=role)
    click.echo(dumped(answer.plain()) if form == "json" else "\n".join(answer.lines()))
    if answer.denials:
        raise click.exceptions.Exit(3)


@click.command()
@CONFIG
@MART
@AS_OF
@FORM
@click.argument("who")
def access(*, file: Path, mart_file: Path | None, as_of: str | None, form: str, who: str) -> None:
    """Tell which keys WHO can use across the organization, by which ways, and what those keys protect.

    WHO is an account (id or name) or a principal: the ARN or name of a user or role, the ARN of a session, a service. Where IAM
    was collected, a user's or role's own policies are looked at; keys that anyone can use are counted and not listed.

    Exit codes: 0 answered, 2 nobody is called that (or several are), 3 answered, but part of it is not known.

    JSON has `format`, `as_of`, `who`, `kind`, `not_known`, `public_keys`, and `keys`: each with key_arn, key_alias, account_id,
    account_name, region, key_state, protects, protected and `ways`: the columns of view key_access, with answer and
    identity_policies.
    """
    from reports.answers.accessible_keys import access as ask
    from reports.mart.change_event import dumped

    answer = ask(mart_file or mart_of(file), who, as_of=as_of)
    click.echo(dumped(answer.plain()) if form == "json" else "\n".join(answer.lines()))
    if not answer.known:
        raise click.exceptions.Exit(3)


class _Vendors(click.Group):
    """Imports its one command, which judges vendor profiles, when that is run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The one."""
        return [*super().list_commands(ctx), "check"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command."""
        if cmd_name != "check":
            return super().get_command(ctx, cmd_name)
        command: click.Command = importlib.import_module("reports.vendors.cli").check
        return command


@click.group(cls=_Vendors, invoke_without_command=True)
@CONFIG
@MART
@AS_OF
@FORM
@click.pass_context
def vendors(context: click.Context, file: Path, mart_file: Path | None, as_of: str | None, form: str) -> None:
    """Tell which party outside the organization can do what with which key.

    For each party and key: what it can do, by which ways and within what limits, what the key protects, when it was last used,
    and for each way whether access remains without it.

    Exit code 0: answered. JSON has `format`, `as_of` and `vendors`: the columns of view vendors.
    """
    if context.invoked_subcommand is not None:
        return
    from reports.answers.vendors import vendors as ask
    from reports.mart.change_event import dumped

    answer = ask(mart_file or mart_of(file), as_of=as_of)
    click.echo(dumped(answer.plain()) if form == "json" else "\n".join(answer.lines()))

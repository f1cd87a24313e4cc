"""The command that writes the first settings file."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from models.errors import UserError
from models.settings_path import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Callable

    from crawler.first_settings import Choices, Findings
    from models.settings import AwsSettings

NONE = "-"
"""The answer for an owner tag that is not wanted."""


class ExistingFileError(UserError):
    """The settings file exists."""

    exit_code = 2

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} exists and is not overwritten: name another file with --config, or replace it with --force"
        )


def _valid(kind: str) -> Callable[[click.Context | None, click.Parameter | None, str | None], str | None]:
    """Return a callback that accepts what a type of models.settings.types accepts."""

    def check(_context: click.Context | None, _parameter: click.Parameter | None, value: str | None) -> str | None:
        from pydantic import TypeAdapter, ValidationError

        from models.settings import types

        if value is not None:
            try:
                TypeAdapter(getattr(types, kind)).validate_python(value)
            except ValidationError as error:
                (details,) = error.errors(include_url=False, include_input=False)
                raise click.BadParameter(f"expected {details.get('ctx', {}).get('expected', details['msg'])}") from None
        return value

    return check


@click.command()
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    default=SETTINGS,
    show_default=True,
    metavar="FILE",
    help="Settings file to write.",
)
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.option("--profile", callback=_valid("Text"), help="Profile with the crawler's own credentials.")
@click.option(
    "--region",
    callback=_valid("Region"),
    help="Home region. [default: that of the profile or environment, or us-east-1]",
)
@click.option(
    "--endpoint-url",
    callback=_valid("Url"),
    metavar="URL",
    help="One endpoint for all services, such as a test server.",
)
@click.option(
    "--role-name",
    callback=_valid("RoleName"),
    metavar="NAME",
    help="The role in every account: name, or path/name. [default: KmsInventoryReadOnly]",
)
@click.option(
    "--external-id/--no-external-id",
    default=None,
    help="Generate an external ID, which the trust policy of the role then requires.",
)
@click.option("--iam/--no-iam", default=None, help="Read IAM users, roles and policies (crawl.iam).")
@click.option(
    "--owner-tag",
    callback=_valid("Text"),
    metavar="KEY",
    help=f"Tag whose value is the owner of a resource; {NONE} for none. [default: Owner]",
)
@click.option("--offline", is_flag=True, help="Call nothing in AWS.")
@click.option("--no-input", is_flag=True, help="Ask nothing, also on a terminal.")
def init(*, config_path: Path, force: bool, offline: bool, no_input: bool, **answers: Any) -> None:
    """Write a settings file for this organization, and print the next commands.

    On a terminal, the command asks for what no option says. It looks at the caller and its organization with read-only calls
    (sts:GetCallerIdentity, organizations:DescribeOrganization, organizations:ListAccounts), and writes what it can if these fail.
    The file has mode 0600. An existing file is only replaced with --force.
    """
    from crawler import first_settings

    if not force and (config_path.exists() or config_path.is_symlink()):
        raise ExistingFileError(config_path)
    asks = not no_input and sys.stdin.isatty() and sys.stderr.isatty()
    aws = _connection(answers, asks=asks)
    findings = first_settings.Findings()
    if offline:
        findings.problems.append("AWS was not called (--offline)")
    else:
        click.echo("looking at the caller and its organization ...", err=True)
        findings = first_settings.look(aws)
    for line in findings.to_text():
        click.echo(line, err=True)
    for problem in findings.problems:
        click.echo(f"unknown: {problem}", err=True)
    if findings.problems:
        click.echo(
            "the settings have defaults in place of what is unknown; correct them, or run this command again", err=True
        )
    choices = _choices(answers, aws, asks=asks)
    _write(config_path, first_settings.settings_text(choices, findings), force=force)
    _check(config_path)
    click.echo(f"wrote {config_path.absolute()}")
    for line in _next_commands(config_path, findings):
        click.echo(line)


def _connection(answers: dict[str, Any], *, asks: bool) -> AwsSettings:
    from crawler.aws.credentials import configured_region
    from models.settings import AwsSettings
    from models.settings.types import KNOWN_REGIONS

    profile = answers["profile"]
    if profile is None and asks:
        profile = (
            _ask("AWS profile (empty: environment or attached role)", os.environ.get("AWS_PROFILE", ""), "Text") or None
        )
    configured = configured_region(profile)
    region = answers["region"]
    if region is None:
        region = configured if configured in KNOWN_REGIONS else "us-east-1"
        region = _ask("home region", region, "Region") if asks else region
    return AwsSettings.model_validate({"profile": profile, "region": region, "endpoint_url": answers["endpoint_url"]})


def _choices(answers: dict[str, Any], aws: AwsSettings, *, asks: bool) -> Choices:
    import secrets

    from crawler.first_settings import Choices

    role_name, with_external_id, iam, owner_tag = (
        answers[name] for name in ("role_name", "external_id", "iam", "owner_tag")
    )
    if asks:
        role_name = role_name or _ask("role to assume in every account", Choices().role_name, "RoleName")
        if with_external_id is None:
            with_external_id = click.confirm(
                "require an external ID (adds little within one organization)?", default=False, err=True
            )
        if iam is None:
            iam = click.confirm(
                "read IAM policies, to see who can use keys that are delegated to IAM?", default=False, err=True
            )
        owner_tag = owner_tag or _ask(
            f"tag that names the owner of a resource ({NONE}: none)", Choices().owner_tag or "", "Text"
        )
    return Choices(
        profile=aws.profile,
        region=aws.region,
        endpoint_url=aws.endpoint_url,
        role_name=role_name or Choices().role_name,
        external_id=secrets.token_hex(16) if with_external_id else None,
        iam=bool(iam),
        owner_tag=None if owner_tag == NONE else owner_tag or Choices().owner_tag,
    )


def _ask(question: str, default: str, kind: str) -> str:
    def convert(value: str) -> str:
        return _valid(kind)(None, None, value) or "" if value else value

    answer: str = click.prompt(question, default=default, show_default=bool(default), value_proc=convert, err=True)
    return answer


def _write(path: Path, text: str, *, force: bool) -> None:
    """Write a file that only its owner can read, whatever the umask; without ``force``, an existing file is an error."""
    from models.output_file import explained, replacing

    if force:
        with replacing(path) as unfinished:
            _create(unfinished, text)
        return
    with explained(path):
        try:
            _create(path, text)
        except FileExistsError as error:
            raise ExistingFileError(path) from error


def _create(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, 0o600)
        file.write(text)


def _check(path: Path) -> None:
    """Load what was written; its problems would be those of this program."""
    from models.settings import load

    load(path)


def _next_commands(path: Path, findings: Findings) -> list[str]:
    import shlex

    option = "" if path == SETTINGS else f" --config {shlex.quote(str(path))}"
    principal = findings.principal
    commands = [
        ("config check", "check the settings after each change"),
        (
            f"permissions --principal {principal or 'ARN'}",
            "the policies to create (--format cloudformation, terraform)",
        ),
        ("doctor", "try credentials, roles and permissions"),
        ("crawl", "the first run"),
    ]
    width = max(len(command) for command, _ in commands)
    lines = [
        "next:",
        *[f"  kmsledger {command + option:<{width + len(option)}}  # {about}" for command, about in commands],
    ]
    if principal is None:
        lines.append("ARN is the role or user that runs the crawler.")
    elif principal != (findings.identity and findings.identity.arn):
        lines.append("If the role of the crawler has a path, add it to the ARN: a session does not show it.")
    return lines

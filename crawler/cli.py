"""The command that prints the crawler's IAM policies."""

from __future__ import annotations

import re
from pathlib import Path

import click


def _identity(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch(
        r"arn:aws[a-z-]*:iam::[0-9]{12}:(?:root|(?:user|role)/[\w+=,.@/-]+)", value
    ):
        raise click.BadParameter(
            f"{value!r} is not the ARN of a role, a user or an account's root; for a session, name its role"
        )
    return value


@click.command()
@click.option(
    "--role",
    type=click.Choice(["member", "management", "reader"]),
    default="member",
    show_default=True,
    help="member: the role in every account; management: the identity that runs the crawler; reader: organization.reader_role.",
)
@click.option(
    "--trust-policy",
    is_flag=True,
    help="Print the trust policy of the roles, with the external ID, instead; needs --principal.",
)
@click.option(
    "--principal",
    callback=_identity,
    metavar="ARN",
    help="The identity that runs the crawler: the ARN of a role or user, or of an account's root.",
)
@click.option(
    "--key-policy", is_flag=True, help="Print the statement for key policies that do not delegate to IAM instead."
)
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Settings file with the role's name and the resource types. [default: default settings]",
)
@click.option("--partition", default="aws", show_default=True, help="aws, aws-cn, aws-us-gov or aws-eusc.")
def permissions(
    *,
    role: str,
    trust_policy: bool,
    principal: str | None,
    key_policy: bool,
    config_path: Path | None,
    partition: str,
) -> None:
    """Print the least-privilege IAM policy (JSON), derived from the operations that the crawler declares.

    Its parts for a first crawl: the member role's permissions and its trust policy (with --config, as role.external_id requires),
    the permissions of the identity that runs the crawler, which include the member role's for its own account, and the statement
    for key policies that do not delegate to IAM.
    """
    import json

    from crawler import iam_policies
    from models.settings import Settings, load

    settings = load(config_path) if config_path else Settings()
    crawl = settings.crawl
    types = iam_policies.configured_types(crawl.resource_types)
    if trust_policy:
        if principal is None:
            raise click.UsageError("--trust-policy needs --principal: the ARN of the identity that runs the crawler")
        document = iam_policies.trust_policy(principal, settings.role)
    elif key_policy:
        document = iam_policies.key_policy_statement(settings.role.name, partition)
    elif role == "reader":
        document = iam_policies.reader_policy()
    elif role == "management":
        reader_role = settings.organization.reader_role
        document = iam_policies.management_policy(settings.role.name, partition, types, crawl, reader_role)
    else:
        document = iam_policies.member_policy(types, crawl)
    click.echo(json.dumps(document, indent=2))

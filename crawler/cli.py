"""The command that prints the crawler's IAM policies."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from models.cli_options import CONFIG, OUTPUT_FILE, format_option
from models.safe_text import printable

if TYPE_CHECKING:
    from crawler.iam_policies import Permissions, Tier

PLACEHOLDER = "CRAWLER_ARN"
"""Stands for the ARN of the crawler's identity; IAM rejects it."""


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
    type=click.Choice(["all", "member", "management", "reader"]),
    default="all",
    show_default=True,
    help="member: the role in every account; management: the identity that runs the crawler; reader: organization.reader_role; "
    "all: everything in one document.",
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
@format_option(
    "json",
    "cloudformation",
    "terraform",
    about="JSON policies, CloudFormation templates (YAML) or Terraform modules (HCL).",
)
@click.option(
    "--tier",
    type=click.Choice(["configured", "minimal", "full"]),
    default="configured",
    show_default=True,
    help="configured: what the settings require; minimal: without IAM, resource policies of secrets and last use; full: with "
    "everything that settings can turn on.",
)
@CONFIG
@click.option(
    "--partition",
    metavar="PARTITION",
    help="aws, aws-cn, aws-us-gov, aws-eusc ... [default: that of --principal, or aws]",
)
@OUTPUT_FILE
def permissions(
    *,
    role: str,
    trust_policy: bool,
    principal: str | None,
    key_policy: bool,
    output_format: str,
    tier: Tier,
    config_path: Path,
    partition: str | None,
    output: Path | None,
) -> None:
    """Print the least-privilege IAM policies, derived from the operations that the crawler declares.

    By default, one JSON document has all that a first crawl needs: permissions and trust policy of the member role (with --config
    as role.external_id requires), the permissions of the identity that runs the crawler, which include the member role's for its
    own account, and the statements for key policies that do not delegate to IAM. --role prints a single policy.

    As CloudFormation template or Terraform module, --role all creates the crawler's role and a StackSet with the member role.
    """
    import json

    from crawler.iam_policies import Permissions
    from models.settings import load

    if output_format != "json" and (trust_policy or key_policy):
        raise click.UsageError(
            f"--format {output_format} has complete roles: leave out --trust-policy and --key-policy"
        )
    partition = partition or (principal.split(":")[1] if principal else "aws")
    required = Permissions.of_tier(load(config_path), tier, partition)
    if output_format != "json":
        command = ["kmsledger permissions", "--format", output_format, "--role", role]
        command += [] if tier == "configured" else ["--tier", tier]
        command += ["--config", config_path.name] if config_path.exists() else []
        text = _template(required, output_format, role, principal, " ".join(command))
    else:
        text = json.dumps(
            _document(required, role, principal, tier, trust=trust_policy, key_policy=key_policy), indent=2
        )
        text += "\n"
    if output is None:
        click.echo(text, nl=False)
        return
    from models.output_file import replacing

    with replacing(output) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def _document(
    required: Permissions, role: str, principal: str | None, tier: str, *, trust: bool, key_policy: bool
) -> dict[str, Any]:
    if trust:
        if principal is None:
            raise click.UsageError("--trust-policy needs --principal: the ARN of the identity that runs the crawler")
        return required.trust(principal)
    if key_policy:
        return required.key_policy_statement()
    if role != "all":
        policy: dict[str, Any] = getattr(required, role)()
        return policy
    if principal is None:
        click.echo(
            f"the trust policy has the placeholder {PLACEHOLDER}: name the identity that runs the crawler with --principal ARN",
            err=True,
        )
    trusted = required.trust(principal or PLACEHOLDER)
    reader = required.settings.organization.reader_role if required.reads_organization else None
    return {
        "format": "kmsledger.permissions/1",
        "tier": tier,
        "member_role": {
            "where": "every account except that of the crawler",
            "role_name": required.settings.role.name,
            "permissions_policy": required.member(),
            "trust_policy": trusted,
        },
        "crawler": {
            "where": "the identity that runs the crawler",
            "principal": principal or PLACEHOLDER,
            "permissions_policy": required.management(),
        },
        **(
            {
                "reader_role": {
                    "where": "the management account or a delegated administrator account",
                    "role_arn": reader,
                    "permissions_policy": required.reader(),
                    "trust_policy": trusted,
                }
            }
            if reader
            else {}
        ),
        "key_policy_statements": {
            "where": "each key whose policy does not delegate to IAM; ACCOUNT is the account of the key",
            "member_accounts": required.key_policy_statement(),
            "account_of_the_crawler": required.key_policy_statement(principal or PLACEHOLDER),
        },
    }


def _template(required: Permissions, output_format: str, role: str, principal: str | None, command: str) -> str:
    from crawler.permission_modules import terraform
    from crawler.permission_templates import cloudformation

    origin = f"Generated by `{printable(command)}`: generate it again, do not edit it."
    return {"cloudformation": cloudformation, "terraform": terraform}[output_format](required, role, principal, origin)

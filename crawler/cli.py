"""The command that prints the crawler's IAM policies."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option(
    "--role",
    type=click.Choice(["member", "management"]),
    default="member",
    show_default=True,
    help="member: the role in every account; management: the identity that runs the crawler.",
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
def permissions(*, role: str, key_policy: bool, config_path: Path | None, partition: str) -> None:
    """Print the least-privilege IAM policy (JSON), derived from the operations that the crawler declares."""
    import json

    from crawler.iam_policies import configured_types, key_policy_statement, management_policy, member_policy
    from models.settings import RoleSettings, load
    from models.settings.crawl import CrawlSettings

    settings = load(config_path) if config_path else None
    role_name = settings.role.name if settings else RoleSettings().name
    crawl = settings.crawl if settings else CrawlSettings()
    types = configured_types(crawl.resource_types)
    if key_policy:
        document = key_policy_statement(role_name, partition)
    elif role == "management":
        document = management_policy(role_name, partition, types, crawl)
    else:
        document = member_policy(types, crawl)
    click.echo(json.dumps(document, indent=2))

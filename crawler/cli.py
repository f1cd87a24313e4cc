"""Commands of the crawler that are not the crawl itself."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option(
    "--for",
    "audience",
    type=click.Choice(["member", "hub", "key-policy"]),
    default="member",
    show_default=True,
    help="The role in every account, the identity that runs the crawler, or a statement for key policies that do not "
    "let IAM policies decide.",
)
@click.option(
    "--config", "file", type=click.Path(path_type=Path), metavar="FILE", help="Take names from this settings file."
)
@click.option("--partition", default="aws", show_default=True, help="aws, aws-cn, aws-us-gov, aws-eusc.")
def permissions(audience: str, file: Path | None, partition: str) -> None:
    """Print the least-privilege IAM policy (JSON), derived from what the crawler can ask."""
    import json

    from crawler.iam_policies import hub_policy, key_policy_statement, member_policy, wanted_types
    from models.settings import RoleSettings, load
    from models.settings.crawl import CrawlSettings

    settings = load(file) if file else None
    role_name = settings.role.name if settings else RoleSettings().name
    crawl = settings.crawl if settings else CrawlSettings()
    kinds = wanted_types(crawl.resource_types)
    document = {
        "member": lambda: member_policy(kinds, crawl),
        "hub": lambda: hub_policy(role_name, partition),
        "key-policy": lambda: key_policy_statement(role_name, partition),
    }[audience]()
    click.echo(json.dumps(document, indent=2))

"""The command that evaluates who can use which key."""

from __future__ import annotations

from pathlib import Path

import click

from models.cli_options import CONFIG


@click.command("analyze-access")
@CONFIG
@click.option("--all", "redo", is_flag=True, help="Evaluate everything again, not only new policies and grants.")
def analyze_access(*, config_path: Path, redo: bool) -> None:
    """Evaluate who can use which key, from the facts in the ledger; makes no call to AWS.

    Only new policies and grants are evaluated, unless this version evaluates differently from the previous one, or with --all.
    A crawl does this by itself. The results are in the views key_access, vendors and key_policy_problems after the next
    `kmsledger mart`.
    """
    from models.settings import load
    from reports.access.analysis.stage import assess

    analyzed = assess(load(config_path), redo=redo)
    click.echo(
        f"analyzed {analyzed.policies} policies and {analyzed.grants} kinds of grants, for {analyzed.keys} key policies, "
        f"in {analyzed.seconds:.1f} s"
    )

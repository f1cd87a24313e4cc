"""The command that analyzes who can use which key."""

from __future__ import annotations

from pathlib import Path

import click

from models.cli_options import CONFIG
from models.cli_settings import configured
from models.console import say


@click.command("analyze-access")
@CONFIG
@click.option("--all", "redo", is_flag=True, help="Analyze everything again, not only new policies and grants.")
def analyze_access(*, config_path: Path, redo: bool) -> None:
    """Analyze who can use which key, from the data in the ledger; makes no requests to AWS.

    Only new policies and grants are analyzed, unless the analysis engine has changed or --all is given. Every crawl
    includes this analysis. After the next `kmsledger mart`, the results are in the
    views effective_access, vendors and key_policy_problems.
    """
    from models.store import crawl_lock
    from reports.access.analysis import stage

    settings = configured(config_path)
    with crawl_lock.results(settings.database):
        summary = stage.analyze_access(settings, redo=redo)
    say(
        f"analyzed {summary.policies} distinct policies and {summary.grants} grant shapes for {summary.keys} key policies "
        f"in {summary.seconds:.1f} s"
    )

"""The command that works out who can use which key."""

from __future__ import annotations

from pathlib import Path

import click

from models.cli_options import CONFIG


@click.command()
@CONFIG
@click.option("--all", "redo", is_flag=True, help="Judge everything again, not only what is new.")
def assess(*, file: Path, redo: bool) -> None:
    """Work out who can use which key, from what the ledger knows: no question is asked of AWS.

    Only new policies and grants are judged; all of them when this version judges otherwise than the one before, and with
    --all. A crawl does it by itself. The answers are in the views key_access, vendors and key_policy_problems once
    `kmsledger mart` has run.
    """
    from models.settings import load
    from reports.access.analysis.stage import assess as work_out

    done = work_out(load(file), redo=redo)
    click.echo(
        f"analysed {done.policies} policies and {done.grants} kinds of grants, for {done.keys} policies of keys, "
        f"in {done.seconds:.1f} s"
    )

"""Command-line options shared by several commands."""

from __future__ import annotations

from pathlib import Path

import click

from models.severities import THRESHOLDS

SETTINGS = Path("kmsledger.yaml")
"""Default path of the settings file."""

CONFIG = click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    default=SETTINGS,
    show_default=True,
    metavar="FILE",
    help="The settings file.",
)
MART = click.option(
    "--mart", "mart_file", type=click.Path(path_type=Path), metavar="FILE", help="Instead of report.mart."
)
FAIL_ON = click.option(
    "--fail-on",
    type=click.Choice(THRESHOLDS),
    help="Exit with 1 for a failure of this or a higher severity that no waiver accepts.",
)

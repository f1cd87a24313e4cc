"""The group `export`: a line here for each form in which the ledger leaves for other systems."""

from __future__ import annotations

import importlib

import click

EXPORTS = {
    "findings": ("reports.exports.cli", "findings", "Findings as OCSF, ASFF, SARIF, CSV or JSON Lines."),
    "parquet": ("reports.mart.cli", "parquet", "The views as Parquet files for a data lake."),
    "postgresql": ("reports.mart.cli", "postgresql", "Views in the ledger's PostgreSQL, for BI tools."),
}
"""Commands by module, with their help: nothing is imported before it is run."""


class Exports(click.Group):
    """A group whose commands are imported when they are run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The declared ones."""
        return [*super().list_commands(ctx), *EXPORTS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command."""
        if cmd_name not in EXPORTS:
            return super().get_command(ctx, cmd_name)
        module, name, _ = EXPORTS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, _, about) in EXPORTS.items()])


@click.group(cls=Exports)
def export() -> None:
    """Write files for other systems."""

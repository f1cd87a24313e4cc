"""The path of the settings file, unless an option names another."""

from __future__ import annotations

from pathlib import Path, PosixPath

import click

from models.safe_text import printable

SETTINGS = Path("kmsledger.yaml")
"""The settings file, unless --config names another."""


class DefaultSettingsPath(PosixPath):
    """The default path: without the file, the default settings apply, and standard error says so once."""

    reported = False

    def report_missing(self) -> None:
        """Say where the file was looked for."""
        if not self.reported:
            self.reported = True
            missing = f"kmsledger: no settings file {printable(str(self.absolute()))}: using the defaults"
            click.echo(f"{missing} (`kmsledger init` writes one, --config names another)", err=True)


def settings_path(context: click.Context, parameter: click.Parameter, value: Path) -> Path:
    """Return the path of an option --config, which may be missing only if it is the default."""
    named = parameter.name and context.get_parameter_source(parameter.name) is not click.core.ParameterSource.DEFAULT
    return value if named else DefaultSettingsPath(value)

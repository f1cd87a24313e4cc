"""The default path of the settings file, where a missing file means default settings."""

from __future__ import annotations

from pathlib import Path, PosixPath

from models.console import complain

SETTINGS = Path("kmsledger.yaml")
"""The settings file, unless --config names another."""


class DefaultSettingsPath(PosixPath):
    """The path of the settings file if no option names it."""

    reported = False

    def report_missing(self) -> None:
        """Say once on standard error where the file was looked for."""
        if not self.reported:
            self.reported = True
            complain(
                f"no settings file {self.absolute()}: using the defaults (`kmsledger init` writes one, --config names another)"
            )

"""The default path of the settings file, where a missing file means default settings."""

from __future__ import annotations

import sys
from pathlib import Path, PosixPath

from models.safe_text import printable

SETTINGS = Path("kmsledger.yaml")
"""The settings file, unless --config names another."""


class DefaultSettingsPath(PosixPath):
    """The path of the settings file if no option names it."""

    reported = False

    def report_missing(self) -> None:
        """Say once on standard error where the file was looked for."""
        if not self.reported:
            self.reported = True
            sys.stderr.write(
                f"kmsledger: no settings file {printable(str(self.absolute()))}: using the defaults (`kmsledger init` writes "
                "one, --config names another)\n"
            )

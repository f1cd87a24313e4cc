"""Loads the settings for an unattended command, and applies those that concern the whole process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.settings import Settings


def configured(config_path: Path, log_format: str | None = None) -> Settings:
    """The settings of a file; log and errors are in its format from now on, and files readable for its group."""
    from models.file_access import share_with
    from models.logging_setup import set_up
    from models.settings import load

    settings = load(config_path)
    set_up(settings.log.level, log_format or settings.log.format)
    share_with(settings.files.group)
    return settings

"""Options that several commands share, each declared once."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from models.memory_size import memory_size
from models.settings_path import SETTINGS, DefaultSettingsPath
from models.severities import SEVERITIES, THRESHOLDS


def _settings_path(context: click.Context, parameter: click.Parameter, value: Path) -> Path:
    """Return the path of the settings file, which may be missing only if no option names it."""
    source = context.get_parameter_source(parameter.name or "")
    return DefaultSettingsPath(value) if source is click.core.ParameterSource.DEFAULT else value


CONFIG = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    default=SETTINGS,
    show_default=True,
    callback=_settings_path,
    metavar="FILE",
    help="Settings file.",
)
MART = click.option(
    "--mart",
    "mart_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Mart to read. [default: report.mart in the settings]",
)
AS_OF = click.option(
    "--as-of",
    metavar="RUN|DATE",
    help="Use the data of an earlier run: its number, or a date or time (UTC; a date means its end).",
)
FAIL_ON = click.option(
    "--fail-on",
    type=click.Choice(THRESHOLDS),
    help="Exit with 1 if there is a failure of this severity or higher that is not waived.",
)


def _percent(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    if not re.fullmatch(r"(?:[0-9]{1,2}|100)%?", value):
        raise click.BadParameter(f"{value!r} is not a percentage: write 0% to 100%, without decimals.")
    return int(value.rstrip("%"))


MIN_COVERAGE = click.option(
    "--min-coverage",
    callback=_percent,
    metavar="PERCENT",
    help="Exit with 4 if a smaller share of account-regions was read completely. [default: coverage.min_percent in the settings]",
)


def _age(_context: click.Context, _parameter: click.Parameter, value: str) -> dt.timedelta:
    parts = re.fullmatch(r"([0-9]{1,6})([mhd])", value)
    if parts is None:
        raise click.BadParameter(f"{value!r} is not an age: write 90m, 26h or 2d.")
    return dt.timedelta(minutes=int(parts[1]) * {"m": 1, "h": 60, "d": 1440}[parts[2]])


MAX_AGE = click.option(
    "--max-age",
    callback=_age,
    default="26h",
    show_default=True,
    metavar="AGE",
    help="Exit with 4 if the last run that ended is older: 90m, 26h, 2d.",
)
LIMIT = click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    help="Maximum number of rows in a table; 0 for no limit.",
)
OUTPUT_FILE = click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write to this file, atomically. [default: standard output]",
)


def _memory_size(_context: click.Context, _parameter: click.Parameter, value: str) -> int:
    try:
        return memory_size(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not a size of memory: write 500MB or 4GB.") from error


MEMORY_LIMIT = click.option(
    "--memory-limit",
    callback=_memory_size,
    default="4GB",
    show_default=True,
    metavar="SIZE",
    help="Memory that a query may use: 500MB, 4GB.",
)
TEMP_DIRECTORY = click.option(
    "--temp-directory",
    type=click.Path(path_type=Path, exists=True, file_okay=False, writable=True),
    metavar="DIR",
    help="Directory to which a query can spill up to 20 GB that exceed its memory. [default: queries do not spill]",
)


class Seconds(click.FloatRange):
    """A finite, positive number of seconds, up to a year."""

    name = "seconds"

    def __init__(self) -> None:
        super().__init__(min=0, min_open=True, max=366 * 86_400)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Convert to a number; reject NaN, which a range check does not."""
        seconds = float(super().convert(value, param, ctx))
        if math.isnan(seconds):
            self.fail(f"{value} is not a number of seconds.", param, ctx)
        return seconds


def timeout_option(default: int, about: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option --timeout with a default in seconds."""
    return click.option("--timeout", type=Seconds(), default=default, show_default=True, metavar="SECONDS", help=about)


def format_option(
    *formats: str, about: str | None = None, required: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option --format; the first format is the default, unless one is required."""
    default: dict[str, Any] = {"required": True} if required else {"default": formats[0], "show_default": True}
    return click.option("--format", "output_format", type=click.Choice(formats), help=about, **default)


def _combined(*options: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


finding_filters = _combined(
    click.option("--severity", type=click.Choice(SEVERITIES), help="Only this severity and higher ones."),
    click.option("--rule", "rules", multiple=True, metavar="RULE", help="Only this rule."),
    click.option("--family", "families", multiple=True, metavar="FAMILY", help="Only rules of this family."),
    click.option("--account", "accounts", multiple=True, metavar="ACCOUNT", help="Only this account: its ID or name."),
    click.option("--owner", "owners", multiple=True, metavar="OWNER", help="Only findings of this owner."),
    click.option("--framework", metavar="TEXT", help="Only rules mapped to a control with this text in its name."),
)
"""The options that select findings; the values of a repeated option are alternatives."""
query_limits = _combined(timeout_option(300, "Time that a query may take."), MEMORY_LIMIT, TEMP_DIRECTORY)
"""The options that limit a query: time, memory and disk."""


def configured_mart(config_path: Path) -> Path:
    """The mart that the settings name."""
    from models.settings import load

    return load(config_path).report.mart

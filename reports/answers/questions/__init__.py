"""The questions that Python answers; each module is one, and a command.

The name of the file is the name of the command and of its function; the first line of the file is its help in `kmsledger --help`.
"""

from __future__ import annotations

from pathlib import Path

from models.cli_groups import LazyCommand


def questions() -> dict[str, LazyCommand]:
    """The commands by name, from the first lines of the modules, which are not imported."""
    commands = {}
    for file in sorted(Path(__file__).parent.glob("[!_]*.py")):
        with file.open(encoding="utf-8") as source:
            first_line = source.readline().strip().strip('"')
        commands[file.stem.replace("_", "-")] = LazyCommand(f"{__name__}.{file.stem}", file.stem, first_line)
    return commands

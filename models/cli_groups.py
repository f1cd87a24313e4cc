"""Groups of commands that are imported only when they run, so that help, version and completion stay fast."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class LazyCommand(NamedTuple):
    """Where a command is defined, and its line in the help of its group."""

    module: str
    name: str
    help: str


class LazyGroup(click.Group):
    """A group with sections of commands; a command's module is imported when the command runs or completes."""

    def __init__(self, *arguments: Any, sections: Mapping[str, Mapping[str, LazyCommand]], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.sections = sections
        self.lazy = {name: command for commands in sections.values() for name, command in commands.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the sections."""
        del ctx
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command's module."""
        del ctx
        if cmd_name not in self.lazy:
            return None
        module, name, _ = self.lazy[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by section, without importing them."""
        del ctx
        width = max(map(len, self.lazy))
        for title, commands in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:<{width}}", command.help) for name, command in commands.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the names of commands without importing them, then the group's own options."""
        from click.shell_completion import CompletionItem

        commands = self.lazy.items()
        names = [CompletionItem(name, help=lazy.help) for name, lazy in commands if name.startswith(incomplete)]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]

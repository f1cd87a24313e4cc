"""The reference of the commands, docs/commands.md, generated from their help: ``make reference`` writes it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import click

from models.cli_groups import LazyGroup

(SCRIPT,) = metadata.entry_points(group="console_scripts", name="kmsledger")
cli: LazyGroup = SCRIPT.load().__globals__["cli"]
DOCUMENT = Path(__file__).parents[1] / "docs" / "commands.md"
_INTRODUCTION = """\
# Commands

Every command with its options, as `kmsledger COMMAND --help` (or `-h`) prints them. `make reference` generates this page.

"""


def document() -> str:
    """The whole page, in Markdown."""
    root = click.Context(cli, info_name="kmsledger")
    lines = [_paragraphs(cli), *_options(root)]
    for title, commands in cli.sections.items():
        lines += [f"## {title}"]
        for name in commands:
            command = cli.get_command(root, name)
            assert command is not None, name
            lines += _command(click.Context(command, info_name=name, parent=root))
    return _INTRODUCTION + "\n\n".join(line for line in lines if line) + "\n"


def _command(context: click.Context) -> Iterator[str]:
    command = context.command
    yield f"### `{context.command_path}`"
    yield _paragraphs(command)
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"```text\n{context.command_path} {usage}\n```"
    yield from _options(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            part = command.get_command(context, name)
            assert part is not None, name
            yield from _command(click.Context(part, info_name=name, parent=context))


def _paragraphs(command: click.Command) -> str:
    """The help, with the lines of a paragraph joined, as click does; a paragraph after a backspace keeps its lines."""
    paragraphs = []
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        verbatim = paragraph.startswith("\b")
        text = paragraph.removeprefix("\b").strip("\n")
        paragraphs.append(f"```text\n{text}\n```" if verbatim else _inert(" ".join(text.split())))
    return "\n\n".join(paragraphs)


def _options(context: click.Context) -> Iterator[str]:
    # Click keeps the help option of the context that first needed it: in a process with other tests, it may lack -h.
    parameters = [one for one in context.command.get_params(context) if "--help" not in one.opts]
    records = [parameter.get_help_record(context) for parameter in parameters]
    rows = [f"| `{_cell(name)}` | {_inert(_cell(help_text))} |" for name, help_text in filter(None, records)]
    if rows:
        yield "\n".join(["| option | meaning |", "|---|---|", *rows])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _inert(text: str) -> str:
    """Text whose brackets, stars and angle brackets are no Markdown; in code, they are none anyway."""
    return "".join(
        part if part.startswith("`") else re.sub(r"[<*_[]", r"\\\g<0>", part) for part in re.split("(`[^`]+`)", text)
    )


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")

"""What all questions share: the options, the output as text, JSON or CSV, and the exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import click

from models.cli_groups import LazyCommand, LazyGroup
from models.cli_options import CONFIG, MART, configured_mart, format_option

INCOMPLETE = 3
"""The exit code if a part of the answer is unknown."""
_FORMAT = format_option("table", "json", "csv", about="json has every field; csv has one row per item.")

Rows = Iterable[Mapping[str, Any]]


class Answer(Protocol):
    """The answer to a question; it can have a property `known`, false if a part of the answer is unknown."""

    def to_dict(self) -> dict[str, Any]:
        """The document; :func:`reports.answers.change_event.json_value` converts its values."""

    def to_text(self) -> str:
        """Text for a terminal."""


def question(
    *options: Callable[[Any], Any],
    columns: Sequence[str],
    rows: Callable[[dict[str, Any]], Rows],
    subcommands: Mapping[str, LazyCommand] | None = None,
) -> Callable[[Callable[..., Answer]], click.Command]:
    """Make a command of a function that gets the path of the mart and the values of the options, and returns the answer.

    CSV has the columns of the rows, which are taken from the JSON document. With subcommands, the question is answered if none
    is given.
    """

    def decorate(ask: Callable[..., Answer]) -> click.Command:
        def run(*, config_path: Path, mart_path: Path | None, output_format: str, **values: Any) -> None:
            context = click.get_current_context()
            if context.invoked_subcommand is not None:
                return
            answer = ask(mart_path or configured_mart(config_path), **values)
            _print(answer, output_format, columns, rows)
            if not getattr(answer, "known", True):
                context.exit(INCOMPLETE)

        for option in reversed((CONFIG, MART, *options, _FORMAT)):
            run = option(run)
        if subcommands is None:
            return click.command(ask.__name__.replace("_", "-"), help=ask.__doc__)(run)
        group = click.group(
            ask.__name__,
            cls=LazyGroup,
            sections={"Commands": subcommands},
            invoke_without_command=True,
            help=ask.__doc__,
        )
        return group(run)

    return decorate


def _print(answer: Answer, output_format: str, columns: Sequence[str], rows: Callable[[dict[str, Any]], Rows]) -> None:
    if output_format == "csv":
        from reports.answers.change_event import json_value
        from reports.mart.result_writers import write_csv

        document = json_value(answer.to_dict())
        write_csv(sys.stdout, columns, ([row[column] for column in columns] for row in rows(document)))
    elif output_format == "json":
        from reports.answers.change_event import to_json

        click.echo(to_json(answer.to_dict()))
    else:
        click.echo(answer.to_text())


EVENT_COLUMNS = (
    *("run_id", "occurred_at", "event_type", "severity", "account_id", "account_name", "region", "key_arn"),
    *("resource_arn", "subject", "message", "before", "after", "until_run", "details"),
)
"""The columns of change events."""

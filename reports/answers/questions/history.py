"""Show the change history of a key."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from reports.answers.question import EVENT_COLUMNS, question

if TYPE_CHECKING:
    from reports.answers.key_history import HistoryResult


@question(
    click.argument("key"),
    columns=EVENT_COLUMNS,
    rows=lambda document: (event for key in document["keys"] for event in key["events"]),
)
def history(mart: Path, key: str) -> HistoryResult:
    """Show the change history of KEY: a key ARN, key ID or alias.

    The history has the first facts, each change with its details, what could not be read and why, all targets of the key's
    aliases, and the resources that started or stopped using it. For an alias, it has every key that the alias pointed at.

    CSV has one row per event.
    """
    from reports.answers.key_history import history as key_history

    return key_history(mart, key)

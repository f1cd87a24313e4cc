"""The loader of waiver files: YAML lists, whose problems are reported with their positions."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, ValidationError

from models.settings import SettingsError, validation_problems
from models.settings.types import AccountId, Flag, Group, Text, Unset, invalid, matching
from models.settings.yaml_loader import Problem, quoted, read


def _date(value: Any) -> Any:
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value
    try:
        if isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
            return dt.date.fromisoformat(value)
    except ValueError as error:
        raise invalid("a date that exists, written 2027-03-31") from error
    raise invalid("a date, written 2027-03-31")


WaiverId = Annotated[str, matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", "letters, digits, dots, - and _")]


class Waiver(Group):
    """An accepted failure: rule, resources, reason, owner, and the day (UTC) at whose end it expires.

    A tag (KEY or KEY=VALUE) and a description (a shell pattern) limit it to such keys.
    """

    renamed: ClassVar[Mapping[str, str]] = {"unknown": "include_unknown"}

    id: Annotated[WaiverId | None, Unset] = None
    rule: Text
    resource: Text
    account: Annotated[AccountId | None, Unset] = None
    tag: Annotated[Text | None, Unset] = None
    description: Annotated[Text | None, Unset] = None
    reason: Text
    ticket: Annotated[Text | None, Unset] = None
    owner: Text
    expires: Annotated[dt.date, BeforeValidator(_date)]
    include_unknown: Flag = False

    @property
    def name(self) -> str:
        """The ID, or else rule, account and resource."""
        return self.id or "/".join(filter(None, (self.rule, self.account, self.resource)))


@dataclass(frozen=True, slots=True)
class LocatedWaiver:
    """A waiver with its position in a file."""

    waiver: Waiver
    file: str
    line: int
    column: int


def read_waivers(files: Iterable[Path]) -> list[LocatedWaiver]:
    """The waivers of all files. Raises SettingsError with all problems, including duplicates."""
    waivers: list[LocatedWaiver] = []
    problems: list[Problem] = []
    first: dict[str, LocatedWaiver] = {}
    for file in files:
        source = read(file, {}, listed=True)
        problems += source.problems
        for index, value in enumerate(source.values or ()):
            try:
                waiver = Waiver.model_validate(value)
            except ValidationError as error:
                problems += validation_problems(source, error, (index,))
                continue
            position = source.positions[(index,)]
            located = LocatedWaiver(waiver, source.file, position.line, position.column)
            before = first.setdefault(waiver.name, located)
            if before is not located:
                name, where = quoted(waiver.name), f"{before.file}:{before.line}"
                expected = f"each waiver once (the other is {where})"
                problems.append(
                    Problem(source.file, position.line, position.column, f"[{index}]", f"waiver {name}", expected)
                )
            waivers.append(located)
    if problems:
        raise SettingsError(problems)
    return waivers

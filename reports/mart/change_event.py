"""Change events as text and JSON: a message, and details with the values before and after."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from reports.mart.as_of import Moment
from reports.mart.result_writers import printable

_LONGEST = 400
_SIGNS = {"changed": "~ ", "added": "+ ", "removed": "- ", "stated": ""}


@dataclass(frozen=True, slots=True)
class Detail:
    """One value before and after. If it has parts, the parts describe the change."""

    name: str
    change: Literal["changed", "added", "removed", "stated"]
    before: Any = None
    after: Any = None
    parts: tuple[Detail, ...] = ()
    text: str | None = None
    """A description, if the values before and after are too long for a line."""

    def plain(self) -> dict[str, Any]:
        """A JSON object: name, change, before, after, and parts if there are any."""
        values = {"name": self.name, "change": self.change, "before": value(self.before), "after": value(self.after)}
        return values | ({"parts": [part.plain() for part in self.parts]} if self.parts else {})

    def lines(self, indent: str) -> Iterator[str]:
        """Lines for a terminal, without control characters."""
        sign = "" if self.change == "changed" and not self.parts else _SIGNS[self.change]
        told = self.text if self.text is not None else self._words()
        yield _line(indent, f"{sign}{self.name}{': ' if told else ':' if self.parts else ''}{told}")
        for part in self.parts:
            yield from part.lines(indent + "  ")

    def _words(self) -> str:
        if self.parts:
            return ""
        if self.change == "changed":
            return f"{words(self.before)} → {words(self.after)}"
        return words(self.before if self.change == "removed" else self.after)


@dataclass(slots=True)
class Event:
    """A change that a run saw first. Times are UTC; the change itself happened before ``at``."""

    run_id: int
    occurred_at: dt.datetime
    event_type: str
    message: str
    severity: str = "info"
    account_id: str | None = None
    account_name: str | None = None
    region: str | None = None
    key_arn: str | None = None
    resource_arn: str | None = None
    subject: str | None = None
    before: str | None = None
    after: str | None = None
    until_run: int | None = None
    """For a state that ended: the first run without it."""
    details: list[Detail] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """A JSON object that always has every field."""
        names = (
            *(
                "run_id",
                "occurred_at",
                "event_type",
                "severity",
                "account_id",
                "account_name",
                "region",
                "key_arn",
                "resource_arn",
            ),
            *("subject", "message", "before", "after", "until_run"),
        )
        plain = {name: value(getattr(self, name)) for name in names}
        return plain | {"details": [detail.plain() for detail in self.details]}

    def lines(self, indent: str, lead: str = "") -> Iterator[str]:
        """The message, then its details, indented."""
        yield _line(indent, lead + self.message)
        for detail in self.details:
            yield from detail.lines(f"{indent}{' ' * len(lead)}  ")


def value(raw: Any) -> Any:
    """A value of the mart for JSON."""
    if isinstance(raw, dt.datetime):
        return raw.isoformat(timespec="seconds") + "Z"
    if isinstance(raw, list | tuple):
        return [value(one) for one in raw]
    if isinstance(raw, dict):
        return {name: value(one) for name, one in raw.items()}
    return raw


def words(raw: Any) -> str:
    """A value as text."""
    if raw is None or raw == "":
        return "-"
    if isinstance(raw, bool):
        return "yes" if raw else "no"
    if isinstance(raw, dt.datetime):
        return f"{raw:%Y-%m-%d %H:%M}"
    if isinstance(raw, list | tuple):
        return ", ".join(words(one) for one in raw) or "-"
    text = raw if isinstance(raw, str) else json.dumps(raw, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text):,} characters)"


def moment(one: Moment) -> dict[str, Any]:
    """A run as a JSON object."""
    return {
        "run_id": one.run_id,
        "started_at": value(one.started_at),
        "finished_at": value(one.finished_at),
        "status": one.status,
    }


def place(account_id: str | None, account_name: str | None, region: str | None) -> str:
    """An account-region as text."""
    account = f"{account_name} ({account_id})" if account_name else account_id or "no account"
    return f"{account}, {region}" if region else account


def safe(lines: Iterable[str]) -> Iterator[str]:
    """Make lines that contain untrusted names safe for a terminal."""
    return map(printable, lines)


def dumped(document: Any) -> str:
    """JSON in ASCII, so that neither control nor bidirectional characters reach a terminal."""
    return json.dumps(document, indent=2, ensure_ascii=True)


def _line(indent: str, text: str) -> str:
    return indent + printable(text)

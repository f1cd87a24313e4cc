"""Change events as text and JSON: a message, and details with the values before and after."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

from models.safe_text import printable
from reports.mart.as_of import RunRef

_LONGEST = 400
_SIGNS = {"changed": "~ ", "added": "+ ", "removed": "- ", "stated": ""}


Change = Literal["changed", "added", "removed", "stated"]


@dataclass(frozen=True, slots=True)
class Detail:
    """One value before and after. If it has parts, the parts describe the change."""

    name: str
    change: Change
    before: Any = None
    after: Any = None
    parts: tuple[Detail, ...] = ()
    text: str | None = None
    """A description, if the values before and after are too long for a line."""

    def to_dict(self) -> dict[str, Any]:
        """A JSON object: name, change, before, after, and parts if there are any."""
        values = {"name": self.name, "change": self.change, "before": self.before, "after": self.after}
        return values | ({"parts": self.parts} if self.parts else {})

    def text_lines(self, indent: str) -> Iterator[str]:
        """Lines for a terminal, without control characters."""
        sign = "" if self.change == "changed" and not self.parts else _SIGNS[self.change]
        text = self.text if self.text is not None else self._describe()
        yield _line(indent, f"{sign}{self.name}{': ' if text else ':' if self.parts else ''}{text}")
        for part in self.parts:
            yield from part.text_lines(indent + "  ")

    def _describe(self) -> str:
        if self.parts:
            return ""
        if self.change == "changed":
            return f"{describe(self.before)} → {describe(self.after)}"
        return describe(self.before if self.change == "removed" else self.after)


@dataclass(slots=True, kw_only=True)
class Event:
    """A change that a run saw first. Times are UTC; the change itself happened before ``occurred_at``."""

    run_id: int
    occurred_at: dt.datetime
    event_type: str
    severity: str = "info"
    account_id: str | None = None
    account_name: str | None = None
    region: str | None = None
    key_arn: str | None = None
    resource_arn: str | None = None
    subject: str | None = None
    message: str
    before: str | None = None
    after: str | None = None
    until_run: int | None = None
    """For a state that ended: the first run without it."""
    details: list[Detail] = field(default_factory=list)

    def text_lines(self, indent: str, lead: str = "") -> Iterator[str]:
        """The message, then its details, indented."""
        yield _line(indent, lead + self.message)
        for detail in self.details:
            yield from detail.text_lines(f"{indent}{' ' * len(lead)}  ")


def fields_of(record: Any) -> dict[str, Any]:
    """The fields of a dataclass by name, in their order."""
    return {each.name: getattr(record, each.name) for each in fields(record)}


def json_value(raw: Any) -> Any:
    """A value of an answer for JSON: times as text, and a dataclass as the object of its ``to_dict``, or else of its fields."""
    if isinstance(raw, dt.datetime):
        return raw.isoformat(timespec="seconds") + "Z"
    if isinstance(raw, RunRef):
        return {name: json_value(getattr(raw, name)) for name in ("run_id", "started_at", "finished_at", "status")}
    if is_dataclass(raw):
        return json_value(raw.to_dict() if hasattr(raw, "to_dict") else fields_of(raw))
    if isinstance(raw, list | tuple):
        return [json_value(item) for item in raw]
    if isinstance(raw, dict):
        return {name: json_value(item) for name, item in raw.items()}
    return raw


def describe(raw: Any) -> str:
    """A value as text."""
    if raw is None or raw == "":
        return "-"
    if isinstance(raw, bool):
        return "yes" if raw else "no"
    if isinstance(raw, dt.datetime):
        return f"{raw:%Y-%m-%d %H:%M}"
    if isinstance(raw, list | tuple):
        return ", ".join(describe(item) for item in raw) or "-"
    text = raw if isinstance(raw, str) else json.dumps(raw, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text):,} characters)"


def rank(event_type: str, first: Sequence[str]) -> int:
    """The position of an event type in an order that begins with some types; all others follow."""
    return first.index(event_type) if event_type in first else len(first)


def format_account_region(account_id: str | None, account_name: str | None, region: str | None) -> str:
    """An account-region as text."""
    account = f"{account_name} ({account_id})" if account_name else account_id or "no account"
    return f"{account}, {region}" if region else account


def to_json(document: Any) -> str:
    """JSON in ASCII, so that neither control nor bidirectional characters reach a terminal."""
    return json.dumps(json_value(document), indent=2, ensure_ascii=True)


def _line(indent: str, text: str) -> str:
    return indent + printable(text)

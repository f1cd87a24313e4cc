"""Template filters: format dates, counts and long names, and neutralize hostile text."""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from jinja2 import Undefined
from markupsafe import Markup, escape

from reports.answers.change_event import describe

# Control and format characters can hide, reverse or join text. Tab and line feed are kept: HTML renders both as white space.
_INVISIBLE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff]"
)
_ESCAPES: Final = (b"\\u", b"\\b", b"\\f", b"\\r", b"\x7f")
"""How control characters are written in JSON."""
_CODE: Final = re.compile(r"`([^`\n]+)`")
# The end of a run of colons and slashes that three characters follow.
_BREAK: Final = re.compile(r"(?<=[:/])(?=.{3})(?![:/].{3})")


def visible(text: str) -> str:
    """The text with every invisible character replaced by its code point, as <U+202E>."""
    if text.isprintable() and text.isascii():  # nearly every text of a report
        return text
    return _INVISIBLE.sub(lambda match: f"<U+{ord(match[0]):04X}>", text)


def needs_care(json_text: bytes) -> bool:
    """Whether a JSON text may contain characters that `visible` replaces; false for nearly every text."""
    return not json_text.isascii() or any(written in json_text for written in _ESCAPES)


def finalize(value: Any) -> Any:
    """The text that a template prints for `value`; applied to every `{{ }}`.

    Raises TypeError for None and booleans: templates must put them in words.
    """
    if type(value) is str:
        return visible(value)
    if isinstance(value, Markup | Undefined):
        return value
    if value is None or isinstance(value, bool):
        raise TypeError(f"a template prints {value}: replace it with words")
    return visible(str(value))


@lru_cache(maxsize=65_536)
def wrapping(value: str) -> Markup:
    """A long name or ARN with break opportunities after colons and slashes; copying it yields the original value."""
    escaped = str(escape(visible(value)))
    # Short names fit in a line; browsers already break at hyphens.
    return Markup(escaped if len(value) < 24 else _BREAK.sub("<wbr>", escaped))  # noqa: S704 - escaped above


def prose(text: str) -> Markup:
    """A text whose `code` in backticks is rendered as code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(visible(text)))))  # noqa: S704 - escaped in the same line


def number(value: int) -> str:
    """A count with thousands separators."""
    return f"{value:,}"


def counted(value: int, singular: str, plural: str = "") -> str:
    """`1 key`, `2,000 keys`; without `plural`, an s is appended to `singular`."""
    return f"{value:,} {singular if value == 1 else plural or singular + 's'}"


def date(value: datetime) -> str:
    """The day of a time in UTC."""
    return f"{value:%Y-%m-%d}"


def time(value: datetime) -> str:
    """A time in UTC, to the minute."""
    return f"{value:%Y-%m-%d %H:%M} UTC"


def days(value: int) -> str:
    """A number of whole days as a countdown: `in 3 days`, `today`, `2 days ago`."""
    if value < 0:
        return f"{counted(-value, 'day')} ago"
    return "today" if value == 0 else "tomorrow" if value == 1 else f"in {value:,} days"


def share(part: int, total: int) -> str:
    """A percentage: 100 % only if complete, `none` and `less than 1 %` for the lower end."""
    if not total:
        return "none"
    if part == total:
        return "100 %"
    percent = part * 100 // total
    return "less than 1 %" if part and not percent else f"{percent} %"


def region(value: str) -> str:
    """The name of a region, with `*` in words."""
    return {"*": "all regions", "global": "global"}.get(value, value)


def conditions(text: str | None) -> list[str]:
    """The conditions of a policy statement (JSON text), one text each; text in another form is returned unchanged."""
    if not text:
        return []
    try:
        return list(_conditions(json.loads(text)))
    except (ValueError, AttributeError):
        return [text]


def _conditions(value: dict[str, dict[str, Any]]) -> Iterator[str]:
    for operator, tests in value.items():
        for key, expected in tests.items():
            values = expected if isinstance(expected, list) else [expected]
            yield f"{key} {operator} {' or '.join(map(_to_text, values))}"


def _to_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


FILTERS: Final = {
    "wrapping": wrapping,
    "prose": prose,
    "number": number,
    "counted": counted,
    "date": date,
    "time": time,
    "days": days,
    "share": share,
    "region": region,
    "conditions": conditions,
    "describe": describe,
}

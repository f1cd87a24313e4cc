"""How values become text on a page: dates, counts, long names, and text that tries to be something else."""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from jinja2 import Undefined
from markupsafe import Markup, escape

# Control and format characters: they hide text, reverse it, or join what should stay apart. Tab and line feed are left
# alone, HTML shows both as white space.
_UNSEEN: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff]"
)
_CODE: Final = re.compile(r"`([^`\n]+)`")
_SEPARATOR: Final = re.compile(r"([:/]+)(?=.{3})")


def visible(text: str) -> str:
    """The text with every character that cannot be seen written out, as <U+202E>."""
    return _UNSEEN.sub(lambda match: f"<U+{ord(match[0]):04X}>", text)


def shown(value: Any) -> Any:
    """What a template prints for `value`; every `{{ }}` goes through it. A value that is not known must be put in words.

    Raises TypeError for None: it would be printed as a word that means nothing to the reader.
    """
    if isinstance(value, Markup | Undefined):
        return value
    if value is None or isinstance(value, bool):
        raise TypeError(f"a template prints {value}: say in words what it means")
    return visible(str(value))


def wrapping(value: str) -> Markup:
    """A long name or ARN that may break after its colons and slashes; copying it gives the value itself."""
    seen = str(escape(visible(value)))
    # What is short fits; elsewhere (at a hyphen, say) browsers break a line by themselves.
    return Markup(seen if len(value) < 24 else _SEPARATOR.sub(r"\1<wbr>", seen))  # noqa: S704 - escaped above


def prose(text: str) -> Markup:
    """A text in which `code` stands between backticks."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(visible(text)))))  # noqa: S704 - escaped in the same line


def number(value: int) -> str:
    """A count with thousands separators."""
    return f"{value:,}"


def counted(value: int, one: str, many: str = "") -> str:
    """`1 key`, `2,000 keys`; `many` is the plural where it is not `one` with an s."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def date(value: datetime) -> str:
    """The day of a time in UTC."""
    return f"{value:%Y-%m-%d}"


def time(value: datetime) -> str:
    """A time in UTC to the minute."""
    return f"{value:%Y-%m-%d %H:%M} UTC"


def days(value: int) -> str:
    """A countdown in words, from a number of whole days."""
    if value < 0:
        return f"{counted(-value, 'day')} ago"
    return "today" if value == 0 else "tomorrow" if value == 1 else f"in {value:,} days"


def share(part: int, whole: int) -> str:
    """A percentage that is 100 % only for all, and 0 % only for none."""
    if not whole:
        return "none"
    if part == whole:
        return "100 %"
    percent = part * 100 // whole
    return "less than 1 %" if part and not percent else f"{percent} %"


def region(value: str) -> str:
    """A region's name in words where it is not one."""
    return {"*": "all regions", "global": "global"}.get(value, value)


def conditions(text: str | None) -> list[str]:
    """The conditions of a policy statement (JSON text), one sentence each; text that is not of that form as it is."""
    if not text:
        return []
    try:
        return list(_conditions(json.loads(text)))
    except (ValueError, AttributeError):
        return [text]


def _conditions(value: dict[str, dict[str, Any]]) -> Iterator[str]:
    for operator, tests in value.items():
        for key, wanted in tests.items():
            values = wanted if isinstance(wanted, list) else [wanted]
            yield f"{key} {operator} {' or '.join(map(_plain, values))}"


def _plain(value: Any) -> str:
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
}

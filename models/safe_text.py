"""Makes text from AWS and from users safe for terminals, logs and JSON: it may move the cursor or reverse a line."""

from __future__ import annotations

import re
from urllib.parse import unquote

_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
# JSON writers escape the control characters below U+0020 only.
_BEYOND = "\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
_UNESCAPED = re.compile(f"[{_BEYOND}]")
_CONTROL = re.compile(f"[\x00-\x08\x0b-\x1f{_BEYOND}]")


def printable(text: str) -> str:
    """Return text without characters that move a terminal's cursor or change its writing direction."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character == " " else _escaped(character) for character in text
    )


def printable_lines(text: str) -> str:
    """Return text as :func:`printable` does, with its line feeds."""
    return "\n".join(map(printable, text.split("\n")))


def without_controls(text: str) -> str:
    """Return text with control and direction characters as escapes; line feeds, tabs and all other characters stay."""
    return text if text.isprintable() else _CONTROL.sub(lambda found: _escaped(found[0]), text)


def escaped_json(document: str) -> str:
    """Return a JSON document of the same value, with control and direction characters as escapes."""
    return _UNESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", document)


_PARAMETER = re.compile(r"([^\s&?=]*)(\s*=\s*)('[^']*'|[^&\s]*)")


def masked_url(text: str) -> str:
    """Return a URL, or keywords of libpq, with *** for passwords: in the user part (up to the last @) and in the query."""
    text = _PARAMETER.sub(_masked_parameter, text)
    match = re.fullmatch(r"((?:[A-Za-z][\w+.-]*:/*)?)(.*)@(.*)", text, re.DOTALL)
    if match is not None and ":" in match[2]:
        text = f"{match[1]}{match[2].partition(':')[0]}:***@{match[3]}"
    return text


def _masked_parameter(parameter: re.Match[str]) -> str:
    # A name can be percent-encoded: libpq and SQLAlchemy decode it.
    return f"{parameter[1]}{parameter[2]}***" if "password" in unquote(parameter[1]).lower() else parameter[0]


def _escaped(character: str) -> str:
    return _ESCAPES.get(character) or character.encode("unicode_escape").decode()

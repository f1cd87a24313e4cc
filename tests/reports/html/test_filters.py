"""Formatting of values: nothing is invisible, and nothing unknown is printed by accident."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError
from markupsafe import escape

from reports.html import filters
from reports.html.render import environment


@pytest.mark.parametrize(
    ("hidden", "written"),
    [
        ("a\u202eb", "a<U+202E>b"),
        ("\u2066x\u2069", "<U+2066>x<U+2069>"),
        ("a\x00b\x1b[0m", "a<U+0000>b<U+001B>[0m"),
        ("soft\u00adhyphen\ufeff", "soft<U+00AD>hyphen<U+FEFF>"),
        ("\U000e0041tag", "<U+E0041>tag"),
        ("line\nfeed\tand tab", "line\nfeed\tand tab"),
        ("Größe 日本 שלום", "Größe 日本 שלום"),
    ],
)
def test_characters_that_cannot_be_seen_are_written_out(hidden: str, written: str) -> None:
    """Control, direction and zero-width characters appear as their code; letters of all scripts stay."""
    assert filters.visible(hidden) == written


@given(st.text())
def test_a_name_that_may_wrap_is_still_itself(name: str) -> None:
    """Line breaks are allowed by markup only: without it, the text is the escaped name."""
    assert str(filters.wrapping(name)).replace("<wbr>", "") == str(escape(filters.visible(name)))


@given(st.text())
def test_code_in_prose_is_the_only_markup(words: str) -> None:
    """A remedy's `code` becomes an element; everything else is escaped."""
    plain = str(filters.prose(words)).replace("<code>", "").replace("</code>", "")
    assert "<" not in plain
    assert ">" not in plain


@pytest.mark.parametrize("value", [None, True, False])
def test_a_template_cannot_print_what_it_does_not_say_in_words(value: object) -> None:
    """None and booleans are rejected: a reader must not see None, True or a blank for an unknown value."""
    with pytest.raises(TypeError, match="replace it with words"):
        environment().from_string("{{ value }}").render(value=value)


def test_a_template_cannot_print_what_is_not_there() -> None:
    """A misspelled name is an error, not a blank."""
    with pytest.raises(UndefinedError):
        environment().from_string("{{ row.typo }}").render(row={})


@pytest.mark.parametrize(
    ("part", "whole", "said"),
    [(0, 0, "none"), (5, 5, "100 %"), (999, 1000, "99 %"), (1, 1000, "less than 1 %"), (0, 7, "0 %"), (1, 3, "33 %")],
)
def test_a_share_never_flatters(part: int, whole: int, said: str) -> None:
    """Only a complete share is 100 %, and a small share is not 0 %."""
    assert filters.share(part, whole) == said


@pytest.mark.parametrize(
    ("days", "said"), [(-1, "1 day ago"), (0, "today"), (1, "tomorrow"), (2, "in 2 days"), (-30, "30 days ago")]
)
def test_a_countdown_is_words(days: int, said: str) -> None:
    """The number of days until or since a date, in words."""
    assert filters.days(days) == said


@pytest.mark.parametrize(
    ("json", "lines"),
    [
        (None, []),
        (
            '{"StringEquals":{"kms:ViaService":["a","b"]},"Bool":{"kms:X":true}}',
            ["kms:ViaService StringEquals a or b", "kms:X Bool true"],
        ),
        ('{"StringEquals":"odd"}', ['{"StringEquals":"odd"}']),
        ("[1]", ["[1]"]),
        ("not JSON", ["not JSON"]),
    ],
)
def test_conditions_are_sentences_or_as_they_are(json: str | None, lines: list[str]) -> None:
    """A condition block becomes one line per key; any other form is shown as is, not dropped."""
    assert filters.conditions(json) == lines

"""The bars, and the contrast of text."""

from __future__ import annotations

import re
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.html.tables import bar

COUNTS = st.lists(st.integers(0, 10_000_000), max_size=8)


@given(COUNTS)
def test_a_bar_shows_all_that_exists(counts: list[int]) -> None:
    """Each nonzero count has a segment and is in the label; a number is printed in its segment if it fits."""
    words = {str(at): (f"Label {at}", f"kind-{at}") for at in range(len(counts))}
    html = str(bar(counts, words))
    present = [(at, count) for at, count in enumerate(counts) if count]
    assert re.findall(r"flex:(\d+)", html) == [str(count) for _, count in present]
    assert all(f"Label {at} {count:,}" in html for at, count in present)
    assert [text for text in re.findall(r">([\d,]*)</i>", html) if text] == [
        f"{count:,}" for _, count in present if count * 100 > sum(counts) * 9
    ]


def _luminance(colour: str) -> float:
    channels = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize(
    ("ink", "paper"),
    [
        *(
            (ink, paper)
            for ink in ("--ink", "--soft", "--link", "--bad", "--warn", "--good")
            for paper in ("--paper", "--card", "--faint")
        ),
        ("--low", "--card"),
        ("--good", "--good-paper"),
        ("--on-bad", "--solid-bad"),
        ("--bad", "--bad-paper"),
        ("--warn", "--warn-paper"),
        ("--ink", "--warn-paper"),
        ("--ink", "--bad-paper"),
    ],
)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(ink: str, paper: str, scheme: str) -> None:
    """Each text color has a contrast of at least 4.5 with its background (WCAG AA), light and dark."""
    style = (resources.files("reports.html") / "templates" / "report.css").read_text(encoding="utf-8")
    root = re.findall(r":root {(.*?)}", style, re.DOTALL)[{"light": 0, "dark": 1}[scheme]]
    colours = {
        name: value * 2 if len(value) == 3 else value for name, value in re.findall(r"(--[\w-]+): #(\w+);", root)
    }
    light, dark = sorted((_luminance(f"#{colours[name]}") for name in (ink, paper)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5

"""The geometry of the bars, and the contrast of text."""

from __future__ import annotations

import re
from importlib import resources
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.html.charts import stack

COUNTS = st.lists(st.integers(0, 10_000_000), max_size=8)


@given(COUNTS)
def test_a_bar_is_filled_and_shows_all_that_exists(counts: list[int]) -> None:
    """The parts fill the bar one after the other; nonzero parts are wide enough to be visible."""
    names = [str(at) for at in range(len(counts))]
    parts = stack(dict(zip(names, counts, strict=True)), names)
    assert [part.count for part in parts] == [count for count in counts if count]
    assert sum(part.width for part in parts) == pytest.approx(100 if parts else 0, abs=0.1)
    for before, after in pairwise(parts):
        assert before.start + before.width == pytest.approx(after.start, abs=0.02)
    assert all(part.width > 1 for part in parts)


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
            for paper in ("--paper", "--faint")
        ),
        ("--bad", "--bad-paper"),
        ("--warn", "--warn-paper"),
        ("--ink", "--warn-paper"),
        ("--ink", "--bad-paper"),
    ],
)
def test_text_stands_out(ink: str, paper: str) -> None:
    """Each text color has a contrast of at least 4.5 with its background (WCAG AA)."""
    style = (resources.files("reports.html") / "templates" / "report.css").read_text(encoding="utf-8")
    colours = {
        name: value * 2 if len(value) == 3 else value for name, value in re.findall(r"(--[\w-]+): #(\w+);", style)
    }
    light, dark = sorted((_luminance(f"#{colours[name]}") for name in (ink, paper)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5

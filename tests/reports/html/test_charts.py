"""The charts and bars, and the contrast of text."""

from __future__ import annotations

import itertools
import re
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.html.charts import bars, line
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


COLUMN = re.compile(r"M(\d+) ([\d.]+)h.85v([\d.]+)h-.85z")


@given(
    st.lists(st.none() | st.lists(st.integers(0, 10**7), min_size=3, max_size=3), max_size=40), st.integers(0, 10**8)
)
def test_columns_fit(points: list[list[int] | None], highest: int) -> None:
    """Each known run has a column in its place; nonzero counts are visible and stacked; an unknown run has no mark at all."""
    chart = bars(points, least=3, highest=highest)
    assert chart.width == max(14, len(points))
    columns: dict[int, list[tuple[float, float]]] = {}
    for number, path in enumerate(chart.parts):
        drawn = {int(left): (float(top), float(height)) for left, top, height in COLUMN.findall(path)}
        assert set(drawn) == {at for at, counts in enumerate(points) if counts and counts[number]}
        for left, column in drawn.items():
            columns.setdefault(left, []).append(column)
    for parts in columns.values():
        assert parts[0][0] + parts[0][1] == pytest.approx(98, abs=0.02)
        assert all(height >= 3 for _, height in parts)
        assert all(
            above[0] + above[1] == pytest.approx(below[0], abs=0.02) for below, above in itertools.pairwise(parts)
        )
        assert parts[-1][0] >= -0.02
    zeros = {int(left) for left, _, _ in COLUMN.findall(chart.zeros)}
    assert zeros == {at for at, counts in enumerate(points) if counts is not None and not any(counts)}


@given(st.lists(st.none() | st.integers(0, 10**7), max_size=40))
def test_a_line_is_interrupted_where_a_value_is_unknown(values: list[int | None]) -> None:
    """Each known value is a point within the chart, higher values are higher, and unknown values interrupt the line."""
    drawn = line(values)
    parts = drawn.path.split("M")[1:]
    groups = [len(list(group)) for known, group in itertools.groupby(values, lambda value: value is not None) if known]
    assert [part.count("L") + 1 for part in parts] == groups
    heights = [float(point.split()[1].removesuffix("h0")) for part in parts for point in part.split("L")]
    known = [value for value in values if value is not None]
    assert all(0 <= height <= 100 for height in heights)
    for (low, below), (high, above) in itertools.pairwise(sorted(zip(known, heights, strict=True))):
        assert (above <= below) if high >= low else False
    assert drawn.end.startswith("M" + parts[-1].split("L")[-1].removesuffix("h0") if parts else "")


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

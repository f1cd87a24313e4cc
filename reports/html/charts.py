"""The geometry of the charts; `templates/charts.j2` renders it as SVG."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

MIN_WIDTH: Final = 1.2
"""The minimum width of a segment in percent, so that small counts stay visible."""


@dataclass(frozen=True)
class Segment:
    """One segment of a stacked bar: `start` and `width` in percent of the bar."""

    name: str
    count: int
    start: float
    width: float


def stack(counts: Mapping[str, int], names: Iterable[str]) -> tuple[Segment, ...]:
    """The segments of a bar for counts by name, in the order of the names and without zeros."""
    present = [(name, counts[name]) for name in names if counts.get(name)]
    total = sum(count for _, count in present)
    widths = [max(MIN_WIDTH, count * 100 / total) for _, count in present]
    scale = 100 / sum(widths) if widths else 0
    segments: list[Segment] = []
    start = 0.0
    for (name, count), width in zip(present, widths, strict=True):
        segments.append(Segment(name, count, round(start, 2), round(width * scale, 2)))
        start += width * scale
    return tuple(segments)


@dataclass(frozen=True)
class Column:
    """A column of a trend chart, in percent of width and height: failures at the bottom, unknowns on top."""

    left: float
    width: float
    fail: float
    unknown: float


def columns(points: Sequence[Mapping[str, Any]], capacity: int = 14) -> tuple[Column, ...]:
    """The columns of a trend chart with room for `capacity` runs, from the number of failures and unknowns of each run.

    The highest column fills the height.
    """
    highest = max((point["fail"] + point["unknown"] for point in points), default=0)
    width = 100 / max(capacity, len(points))
    return tuple(
        Column(
            round(index * width, 2),
            round(width, 2),
            _height(point["fail"], highest),
            _height(point["unknown"], highest),
        )
        for index, point in enumerate(points)
    )


def _height(count: int, highest: int) -> float:
    # 84 % leaves room for two parts with the minimum height of 8 %.
    return round(max(8.0, count * 84 / highest), 2) if count else 0.0

"""The geometry of the charts; `templates/charts.j2` draws it as SVG."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

LEAST: Final = 1.2
"""Percent of the width that the smallest part takes: what exists can be seen."""


@dataclass(frozen=True)
class Part:
    """One part of a stacked bar: `start` and `width` in percent of the bar."""

    name: str
    count: int
    start: float
    width: float


def stack(counts: Sequence[tuple[str, int]]) -> tuple[Part, ...]:
    """The parts of a bar for counts by name, in their order and without those that are zero."""
    present = [(name, count) for name, count in counts if count]
    total = sum(count for _, count in present)
    widths = [max(LEAST, count * 100 / total) for _, count in present]
    scale = 100 / sum(widths) if widths else 0
    parts: list[Part] = []
    start = 0.0
    for (name, count), width in zip(present, widths, strict=True):
        parts.append(Part(name, count, round(start, 2), round(width * scale, 2)))
        start += width * scale
    return tuple(parts)


@dataclass(frozen=True)
class Night:
    """The findings of one night."""

    at: datetime
    fail: int
    unknown: int


@dataclass(frozen=True)
class Column:
    """A column of a trend, in percent of width and height: what fails stands at the bottom, what is unknown upon it."""

    night: Night
    left: float
    width: float
    fail: float
    unknown: float


def columns(nights: Sequence[Night], places: int = 14) -> tuple[Column, ...]:
    """The columns of a trend in the order of the nights, one for each of `places`; the highest column fills the height."""
    highest = max((night.fail + night.unknown for night in nights), default=0)
    width = 100 / max(places, len(nights))
    return tuple(
        Column(
            night,
            left=round(at * width, 2),
            width=round(width, 2),
            fail=_height(night.fail, highest),
            unknown=_height(night.unknown, highest),
        )
        for at, night in enumerate(nights)
    )


def _height(count: int, highest: int) -> float:
    # The highest column may have two parts that are widened.
    return round(max(8.0, count * 84 / highest), 2) if count else 0.0

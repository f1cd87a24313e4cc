"""The geometry of the charts; `templates/charts.j2` draws it as SVG."""

from collections.abc import Sequence
from dataclasses import dataclass
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

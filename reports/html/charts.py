"""The geometry of the charts; `templates/charts.j2` renders it as SVG."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


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

"""The geometry of the charts; `templates/charts.j2` renders it as SVG, which the page stretches to the available width."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from reports.mart.rows import Row

_HEIGHT = 98
"""What columns can fill of a height of 100; the rest is the ground line."""


@dataclass(frozen=True)
class Bars:
    """Stacked columns, one unit wide each: an SVG path per part, the first part at the bottom."""

    width: int
    parts: tuple[str, ...]
    zeros: str
    """The mark of the columns without any count."""
    highest: int


def bars(points: Sequence[Sequence[int] | None], *, capacity: int = 14, least: int = 8, highest: int = 0) -> Bars:
    """The columns of a chart with room for `capacity` runs, from the counts of each run; an unknown run has no column.

    The highest column, or `highest` if that is more, fills the height. A count is at least `least` percent high.
    """
    known = [counts for counts in points if counts is not None]
    highest = max(highest, *map(sum, known), 0)
    paths: list[list[str]] = [[] for _ in (known[0] if known else ())]
    zeros = []
    for left, counts in enumerate(points):
        if counts is None:
            continue
        top = float(_HEIGHT)
        for path, count in zip(paths, counts, strict=True):
            if count:
                height = max(least, count * (_HEIGHT - least * len(paths)) / highest)
                top -= height
                path.append(_column(left, top, height))
        if not any(counts):
            zeros.append(_column(left, 94, 4))
    return Bars(max(capacity, len(points)), tuple(map("".join, paths)), "".join(zeros), highest)


def trend_bars(points: Sequence[Row]) -> Bars:
    """The columns of a rule's trend: failures, and unknowns on top."""
    return bars([(point["fail"], point["unknown"]) for point in points])


def _column(left: int, top: float, height: float) -> str:
    return f"M{left} {round(top, 2):g}h.85v{round(height, 2):g}h-.85z"


@dataclass(frozen=True)
class Line:
    """A line in a square of 100: its path, the path of the area below it, and the path of its last point."""

    path: str
    area: str
    end: str


def line(values: Sequence[float | None], *, lowest: float = 0) -> Line:
    """The line of values over the whole width; it is interrupted where a value is unknown."""
    highest = max((value for value in values if value is not None), default=0)
    span = highest - lowest or 1
    step = 100 / max(len(values) - 1, 1)
    path, area, end = [], [], ""
    for points in _known(values):
        drawn = [f"{at * step:.4g} {95 - (value - lowest) * 85 / span:.4g}" for at, value in points]
        path.append("M" + "L".join(drawn) + ("h0" if len(drawn) == 1 else ""))
        first, last = (f"{points[at][0] * step:.4g}" for at in (0, -1))
        area.append(f"M{first} 100L{'L'.join(drawn)}L{last} 100z")
        end = f"M{drawn[-1]}h0"
    return Line("".join(path), "".join(area), end)


def _known(values: Sequence[float | None]) -> Iterator[list[tuple[int, float]]]:
    """The runs of known values with their positions."""
    for known, points in groupby(enumerate(values), lambda point: point[1] is not None):
        if known:
            yield [(at, value) for at, value in points if value is not None]

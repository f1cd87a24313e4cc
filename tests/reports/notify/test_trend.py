"""The picture of the trend: a valid PNG whose bars are proportional to the findings."""

import struct
import zlib
from itertools import pairwise

import pytest

from reports.notify.trend import TrendPoint, draw


def decode(picture: bytes) -> list[bytes]:
    """The rows of palette indexes of an indexed-color PNG; every checksum is verified."""
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    position, chunks = 8, {}
    while position < len(picture):
        (length,) = struct.unpack_from(">I", picture, position)
        kind, data = picture[position + 4 : position + 8], picture[position + 8 : position + 8 + length]
        (checksum,) = struct.unpack_from(">I", picture, position + 8 + length)
        assert checksum == zlib.crc32(kind + data)
        chunks[kind] = data
        position += 12 + length
    assert list(chunks) == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    width, height, depth, color = struct.unpack_from(">IIBB", chunks[b"IHDR"])
    assert (depth, color) == (8, 3)
    pixels = zlib.decompress(chunks[b"IDAT"])
    rows = [pixels[start + 1 : start + 1 + width] for start in range(0, len(pixels), width + 1)]
    assert len(rows) == height
    return rows


def bars(picture: bytes) -> list[tuple[int, int]]:
    """The height of the red and the amber part of each bar, from left to right."""
    columns = [(column.count(2), column.count(3)) for column in zip(*decode(picture), strict=True)]
    begins = [bar for before, bar in pairwise([(0, 0), *columns]) if bar not in {before, (0, 0)}]
    return begins or [(0, 0)]


def test_bars_are_proportional() -> None:
    """Failures are red and below, unknown ones amber and above; the highest run fills the picture."""
    drawn = bars(draw([TrendPoint(1, 100, 0), TrendPoint(2, 50, 50), TrendPoint(3, 25, 0)]))
    assert drawn == [(194, 0), (97, 97), (48, 0)]


def test_whatever_exists_is_visible() -> None:
    """A single finding beside thousands has a bar of its own, and no finding has none."""
    assert bars(draw([TrendPoint(1, 100_000, 0), TrendPoint(2, 1, 1), TrendPoint(3, 0, 0)])) == [(194, 0), (2, 2)]
    assert bars(draw([TrendPoint(1, 0, 0), TrendPoint(2, 0, 0)])) == [(0, 0)]


@pytest.mark.parametrize("count", [2, 7, 30])
def test_every_run_has_a_bar(count: int) -> None:
    """Runs share the width, and the picture stays small."""
    picture = draw([TrendPoint(number, 10 + number, 3) for number in range(count)])
    assert len(bars(picture)) == count
    assert len(picture) < 4000

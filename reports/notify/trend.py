"""Draws the trend of the findings for the mail: a small PNG, because mail clients show neither SVG nor scripts."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_WIDTH: Final = 1280
_HEIGHT: Final = 200
"""Pixels; the mail shows the picture at half its size, sharp on high-resolution screens."""
_LARGEST_SLOT: Final = 80
_PAPER, _AXIS, _FAILED, _UNKNOWN = range(4)
_PALETTE: Final = bytes.fromhex("ffffff 9aa5b1 b3261e dd9a3c")


@dataclass(frozen=True)
class TrendPoint:
    """The findings of a run, of the rules that are in force now."""

    run_id: int
    failed: int
    unknown: int


def describe(points: Sequence[TrendPoint]) -> str:
    """The trend in words."""
    first, last = points[0], points[-1]
    return (
        f"Findings from run {first.run_id} to run {last.run_id} ({len(points)} runs): {first.failed:,} to {last.failed:,} fail, "
        f"{first.unknown:,} to {last.unknown:,} unknown."
    )


def draw(points: Sequence[TrendPoint]) -> bytes:
    """A bar per run, the latest at the right: findings that fail below, unknown ones above."""
    slot = min(_WIDTH // len(points), _LARGEST_SLOT)
    bar = slot * 3 // 4
    highest = max(1, *(point.failed + point.unknown for point in points))
    rows = [bytearray(_WIDTH) for _ in range(_HEIGHT - 2)] + [bytearray([_AXIS]) * _WIDTH for _ in range(2)]
    for number, point in enumerate(points):
        left = number * slot
        bottom = _HEIGHT - 2
        for value, color in ((point.failed, _FAILED), (point.unknown, _UNKNOWN)):
            # Whatever exists is visible.
            height = max(2, value * (_HEIGHT - 6) // highest) if value else 0
            for row in rows[max(0, bottom - height) : bottom]:
                row[left : left + bar] = bytes([color]) * bar
            bottom -= height
    return _png(rows)


def _png(rows: Sequence[bytearray]) -> bytes:
    """An indexed-color PNG (ISO/IEC 15948); each line has filter type 0."""
    header = struct.pack(">IIBBBBB", _WIDTH, _HEIGHT, 8, 3, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    chunks = ((b"IHDR", header), (b"PLTE", _PALETTE), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )

"""Seeded draws that cost a microsecond, so that a world can be computed again whenever somebody asks for a part of it."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar

T = TypeVar("T")
Weights = Sequence[tuple[T, float]]
"""Values with their shares, which add up to one."""

WORDS = struct.Struct(">16I")


class Draw:
    """A stream of random numbers that depends on a text alone: the same text gives the same numbers everywhere."""

    __slots__ = ("_at", "_key", "_round", "_words")

    def __init__(self, *parts: object) -> None:
        self._key = "/".join([str(part) for part in parts]).encode()
        self._words: tuple[int, ...] = WORDS.unpack(blake2b(self._key).digest())
        self._at = 0
        self._round = 0

    def unit(self) -> float:
        """At least 0, below 1."""
        at = self._at
        if at == len(self._words):
            self._round += 1
            self._words = WORDS.unpack(blake2b(self._key, salt=self._round.to_bytes(16, "big")).digest())
            at = 0
        self._at = at + 1
        return self._words[at] / 4294967296.0

    def chance(self, share: float) -> bool:
        """True in this share of all cases."""
        return self.unit() < share

    def between(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return low + int(self.unit() * (high - low + 1))

    def pick(self, values: Sequence[T]) -> T:
        """One of them, each as likely."""
        return values[int(self.unit() * len(values))]

    def weighted(self, weights: Weights[T]) -> T:
        """One of them, by share; the last takes what is missing to one."""
        left = self.unit()
        for value, share in weights:
            left -= share
            if left < 0:
                return value
        return weights[-1][0]

    def lognormal(self, median: float, sigma: float, low: int, high: int) -> int:
        """A long-tailed whole number, clipped."""
        normal = math.sqrt(-2 * math.log(1 - self.unit())) * math.cos(2 * math.pi * self.unit())
        return max(low, min(high, round(median * math.exp(sigma * normal))))

    def hexes(self, digits: int) -> str:
        """Hexadecimal digits (an even number, 128 at most), independent of what was drawn before."""
        return blake2b(self._key, digest_size=digits // 2, person=b"hexes").hexdigest()


def hexes(digits: int, *parts: object) -> str:
    """As `Draw.hexes`, for where nothing else is drawn."""
    return Draw(*parts).hexes(digits)

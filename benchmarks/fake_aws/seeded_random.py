"""Fast seeded random numbers, so that any part of the organization can be computed on demand."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar

T = TypeVar("T")
Weights = Sequence[tuple[T, float]]
"""Values with their probabilities, which add up to 1."""

WORDS = struct.Struct(">16I")


class Draw:
    """A stream of random numbers that depends only on its seed parts."""

    __slots__ = ("_at", "_key", "_round", "_words")

    def __init__(self, *parts: object) -> None:
        self._key = "/".join([str(part) for part in parts]).encode()
        self._words: tuple[int, ...] = WORDS.unpack(blake2b(self._key).digest())
        self._at = 0
        self._round = 0

    def unit(self) -> float:
        """A number from 0 (inclusive) to 1 (exclusive)."""
        index = self._at
        if index == len(self._words):
            self._round += 1
            self._words = WORDS.unpack(blake2b(self._key, salt=self._round.to_bytes(16, "big")).digest())
            index = 0
        self._at = index + 1
        return self._words[index] / 4294967296.0

    def chance(self, share: float) -> bool:
        """Return True with this probability."""
        return self.unit() < share

    def between(self, low: int, high: int) -> int:
        """An integer, both ends inclusive."""
        return low + int(self.unit() * (high - low + 1))

    def pick(self, values: Sequence[T]) -> T:
        """One of the values, with equal probability."""
        return values[int(self.unit() * len(values))]

    def weighted(self, weights: Weights[T]) -> T:
        """One of the values, by probability; the last value gets the rest."""
        threshold = self.unit()
        for value, share in weights:
            threshold -= share
            if threshold < 0:
                return value
        return weights[-1][0]

    def lognormal(self, median: float, sigma: float, low: int, high: int) -> int:
        """A log-normal integer, clipped to `low` and `high`."""
        normal = math.sqrt(-2 * math.log(1 - self.unit())) * math.cos(2 * math.pi * self.unit())
        return max(low, min(high, round(median * math.exp(sigma * normal))))

    def hexes(self, digits: int) -> str:
        """Hexadecimal digits (an even number, at most 128), independent of earlier draws."""
        return blake2b(self._key, digest_size=digits // 2, person=b"hexes").hexdigest()


def hexes(digits: int, *parts: object) -> str:
    """`Draw.hexes` of a new stream."""
    return Draw(*parts).hexes(digits)

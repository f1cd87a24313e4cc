"""Sizes of memory as users write them."""

from __future__ import annotations

import re

EXPECTED = "a size of memory, such as 500MB or 4GB"


def memory_size(text: str) -> int:
    """The bytes of a size such as 500MB, 1.5 GiB or 4G. Raises ValueError."""
    size = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?([KMGT])(I?)B?", text.upper())
    if size is not None:
        number, unit, binary = size.groups()
        if (parsed := int(float(number) * (1024 if binary else 1000) ** (1 + "KMGT".index(unit)))) > 0:
            return parsed
    raise ValueError(f"expected {EXPECTED}")

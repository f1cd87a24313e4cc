"""IAM's wildcards: does a text match, which text would, and which text matches two patterns at once.

``*`` stands for any characters, ``?`` for one. A policy variable can yield a star that is only a star: such characters are
kept apart inside a pattern as private-use code points.
"""

from __future__ import annotations

from collections import deque
from functools import lru_cache

_LITERAL = {"*": "\ue000", "?": "\ue001", "$": "\ue002"}
_PLAIN = {code: character for character, code in _LITERAL.items()}
_TOO_LARGE = 200_000


def literal(text: str) -> str:
    """The text as a pattern that matches only itself."""
    if "*" in text or "?" in text:
        return text.replace("*", _LITERAL["*"]).replace("?", _LITERAL["?"])
    return text


def plain(pattern: str) -> str:
    """A pattern without wildcards as the text that it matches."""
    for code, character in _PLAIN.items():
        if code in pattern:
            pattern = pattern.replace(code, character)
    return pattern


def wild(pattern: str) -> bool:
    """Whether the pattern has a wildcard."""
    return "*" in pattern or "?" in pattern


def matches(pattern: str, text: str) -> bool:
    """Whether the whole text matches. Takes at most the product of both lengths, whatever the pattern."""
    if pattern == "*":
        return True
    if not wild(pattern):
        return plain(pattern) == text
    at, here, star, resume = 0, 0, -1, 0
    while here < len(text):
        sign = pattern[at] if at < len(pattern) else ""
        if sign == "*":
            star, resume = at, here
            at += 1
        elif sign and (sign == "?" or _PLAIN.get(sign, sign) == text[here]):
            at += 1
            here += 1
        elif star >= 0:
            resume += 1
            at, here = star + 1, resume
        else:
            return False
    return not pattern[at:].strip("*")


def filled(pattern: str, star: str = "example") -> str:
    """A text that matches the pattern."""
    return plain(pattern.replace("*", star).replace("?", "x"))


@lru_cache(maxsize=16_384)
def common(one: str, other: str) -> str | None:
    """A text that matches both patterns, or None if there is none."""
    for first, second in ((one, other), (other, one)):
        for star in ("example", "") if wild(first) else ("",):
            if matches(second, text := filled(first, star)):
                return text
        if not wild(first):
            return None
    if len(one) * len(other) > _TOO_LARGE:
        return None
    return _walk(one, other)


def _walk(one: str, other: str) -> str | None:
    """Breadth first over the pairs of positions in both patterns."""
    came: dict[tuple[int, int], tuple[tuple[int, int], str] | None] = {(0, 0): None}
    waiting = deque([(0, 0)])
    while waiting:
        here = waiting.popleft()
        if here == (len(one), len(other)):
            return _spelled(came, here)
        for step, character in _steps(one, other, *here):
            if step not in came:
                came[step] = (here, character)
                waiting.append(step)
    return None


def _steps(one: str, other: str, i: int, j: int) -> list[tuple[tuple[int, int], str]]:
    a, b = one[i : i + 1], other[j : j + 1]
    found: list[tuple[tuple[int, int], str]] = []
    if a == "*":
        found.append(((i + 1, j), ""))
    if b == "*":
        found.append(((i, j + 1), ""))
    if not a or not b or (a == "*" and b == "*"):
        return found
    after = (i if a == "*" else i + 1, j if b == "*" else j + 1)
    if a in "*?":
        found.append((after, "x" if b in "*?" else b))
    elif b in "*?" or a == b:
        found.append((after, a))
    return found


def _spelled(came: dict[tuple[int, int], tuple[tuple[int, int], str] | None], end: tuple[int, int]) -> str:
    characters: list[str] = []
    step = came[end]
    while step is not None:
        previous, character = step
        characters.append(character)
        step = came[previous]
    return plain("".join(reversed(characters)))

"""IAM wildcards: matching, example matches, and texts that match two patterns.

``*`` matches any characters, ``?`` exactly one. A policy variable can yield a literal star: patterns represent literal
wildcard characters as private-use code points.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import lru_cache

_LITERAL = {"*": "\ue000", "?": "\ue001", "$": "\ue002"}
_UNESCAPED = {code: character for character, code in _LITERAL.items()}
_MAX_STATES = 200_000


def escape(text: str) -> str:
    """Return a pattern that matches only the text itself."""
    return text.replace("*", _LITERAL["*"]).replace("?", _LITERAL["?"])


def unescape(pattern: str) -> str:
    """Return the text that a pattern without wildcards matches."""
    for code, character in _UNESCAPED.items():
        if code in pattern:
            pattern = pattern.replace(code, character)
    return pattern


def displayed(pattern: str) -> str:
    """Return the pattern as policies write it: ``${*}`` for a literal star."""
    for code, character in _UNESCAPED.items():
        pattern = pattern.replace(code, f"${{{character}}}")
    return pattern


def has_wildcard(pattern: str) -> bool:
    """Whether the pattern has a wildcard."""
    return "*" in pattern or "?" in pattern


def matches(pattern: str, text: str) -> bool:
    """Whether the whole text matches, in time at most proportional to the product of both lengths."""
    if pattern == "*":
        return True
    if not has_wildcard(pattern):
        return unescape(pattern) == text
    i, j, star, resume = 0, 0, -1, 0
    while j < len(text):
        character = pattern[i] if i < len(pattern) else ""
        if character == "*":
            star, resume = i, j
            i += 1
        elif character and (character == "?" or _UNESCAPED.get(character, character) == text[j]):
            i += 1
            j += 1
        elif star >= 0:
            resume += 1
            i, j = star + 1, resume
        else:
            return False
    return not pattern[i:].strip("*")


def complete_arn(resource: str) -> str:
    """Return the Resource of a policy with ``*`` for the fields that a shortened ARN leaves out: IAM ignores those."""
    missing = 5 - resource.count(":")
    return resource + ":*" * missing if resource.startswith("arn:") and missing > 0 else resource


def example_match(pattern: str, star: str = "example") -> str:
    """Return a text that matches the pattern."""
    return unescape(pattern.replace("*", star).replace("?", "x"))


@lru_cache(maxsize=16_384)
def common_match(left: str, right: str) -> str | None:
    """Return a text that matches both patterns, or None if there is none."""
    for first, second in ((left, right), (right, left)):
        for star in ("example", "") if has_wildcard(first) else ("",):
            if matches(second, text := example_match(first, star)):
                return text
        if not has_wildcard(first):
            return None
    if len(left) * len(right) > _MAX_STATES:
        return None
    return _intersect(left, right)


def _intersect(left: str, right: str) -> str | None:
    """Search breadth first over the pairs of positions in both patterns."""
    queue = deque([((0, 0), "")])
    seen = {(0, 0)}
    while queue:
        position, text = queue.popleft()
        if position == (len(left), len(right)):
            return unescape(text)
        for successor, character in _successors(left, right, *position):
            if successor not in seen:
                seen.add(successor)
                queue.append((successor, text + character))
    return None


def _successors(left: str, right: str, i: int, j: int) -> Iterator[tuple[tuple[int, int], str]]:
    a, b = left[i : i + 1], right[j : j + 1]
    if a == "*":
        yield (i + 1, j), ""
    if b == "*":
        yield (i, j + 1), ""
    if not a or not b or a == b == "*":
        return
    after = (i if a == "*" else i + 1, j if b == "*" else j + 1)
    if a in "*?":
        yield after, "x" if b in "*?" else b
    elif b in "*?" or a == b:
        yield after, a

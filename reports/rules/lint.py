"""Static checks of a rule's query."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from reports.rules.loader import Rule

STATUSES = ("pass", "fail", "unknown", "not_applicable")
_TOKEN = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|[A-Za-z_][A-Za-z_0-9]*|\S", re.DOTALL)
_Token = tuple[int, str]
"""Line and token text."""


def check_query(rule: Rule) -> Iterator[str]:
    """Yield problems of the query with file and line: ELSE with pass or fail, and invalid statuses."""
    tokens = [
        (rule.query.count("\n", 0, match.start()) + 1, match[0])
        for match in _TOKEN.finditer(rule.query)
        if not match[0].startswith(("--", "/*"))
    ]
    for (line, word), (_, after) in pairwise(tokens):
        if word.upper() == "ELSE" and after in {"'pass'", "'fail'"}:
            yield (
                f"{rule.source}:{line}: ELSE {after}: an unforeseen case must not {after[1:-1]}; test the condition and "
                "end with ELSE 'unknown'"
            )
    for line, word in _statuses(tokens):
        if word[1:-1] not in STATUSES:
            yield f"{rule.source}:{line}: {word} is not a status: choose from {', '.join(STATUSES)}"


def _statuses(tokens: list[_Token]) -> Iterator[_Token]:
    """Yield the string literals that a CASE ... END AS status can return."""
    words = [word.upper() for _, word in tokens]
    for end in range(len(tokens) - 2):
        if words[end : end + 3] != ["END", "AS", "STATUS"]:
            continue
        depth, at = 1, end
        while depth and at:
            at -= 1
            if depth == 1 and words[at] in {"THEN", "ELSE"} and tokens[at + 1][1].startswith("'"):
                yield tokens[at + 1]
            depth += {"END": 1, "CASE": -1}.get(words[at], 0)

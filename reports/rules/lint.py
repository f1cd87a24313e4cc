"""What can be told of a rule's query without running it, with file and line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from reports.rules.loader import Rule

STATUSES = ("pass", "fail", "unknown", "not_applicable")
_TOKEN = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|[A-Za-z_][A-Za-z_0-9]*|\S", re.DOTALL)
_Token = tuple[int, str]
"""Line, and the word, text or sign."""


def check_query(rule: Rule) -> Iterator[str]:
    """What is wrong with the query: a bare ELSE that passes or fails, a status that there is not."""
    tokens = [
        (rule.query.count("\n", 0, found.start()) + 1, found[0])
        for found in _TOKEN.finditer(rule.query)
        if not found[0].startswith(("--", "/*"))
    ]
    for (line, word), (_, after) in pairwise(tokens):
        if word.upper() == "ELSE" and after in {"'pass'", "'fail'"}:
            yield (
                f"{rule.source}:{line}: ELSE {after}: what the rule did not foresee must not {after[1:-1]}; test for it, and "
                "end with ELSE 'unknown'"
            )
    for line, word in _statuses(tokens):
        if word[1:-1] not in STATUSES:
            yield f"{rule.source}:{line}: {word} is no status; there are {', '.join(STATUSES)}"


def _statuses(tokens: list[_Token]) -> Iterator[_Token]:
    """The texts that a CASE ... END AS status can answer."""
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

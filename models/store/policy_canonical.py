"""The canonical form of policy documents, in which equivalent policies are equal texts.

AWS ignores white space, the order of object keys and of list values, the difference between a value and a list of that
value, the letter case of actions, and whether an account principal is an ID or the ARN of its root. So does the ledger (IAM
user guide, "Grammar of the IAM JSON policy language").
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import orjson

from models.hashing import canonical_json, storable

_ROOT = re.compile(r"arn:[a-z-]+:iam::(\d{12}):root")
MAX_DEPTH = 32
"""Levels of a policy; the grammar of IAM policies has six."""
_VALUE_LISTS = ("Action", "NotAction", "Resource", "NotResource")
_PRINCIPALS = ("Principal", "NotPrincipal")


@lru_cache(maxsize=4096)
def canonical_policy(received: str) -> str:
    """Canonical JSON of a policy; the text as received if it is not a readable JSON object.

    Raises ValueError for a policy that is nested too deeply; AWS accepts no such policy.
    """
    received = storable(received)
    try:
        document = orjson.loads(received)
    except orjson.JSONDecodeError:
        return received
    if received.count("{") + received.count("[") > MAX_DEPTH and _is_deeper(document, MAX_DEPTH):
        raise ValueError(f"the policy is nested more than {MAX_DEPTH} levels")
    if not isinstance(document, dict):
        return received
    statements = document.get("Statement")
    if isinstance(statements, dict):
        statements = [statements]
    if isinstance(statements, list):
        document = {**document, "Statement": [_statement(statement) for statement in statements]}
    return canonical_json(document)


def _is_deeper(value: Any, levels: int) -> bool:
    """Return whether a document has more levels, without recursion."""
    level = [value]
    while level and levels >= 0:
        levels -= 1
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
        ]
    return bool(level)


def _statement(statement: Any) -> Any:
    if not isinstance(statement, dict):
        return statement
    result = dict(statement)
    for name in _VALUE_LISTS:
        if name in result:
            lower = name in {"Action", "NotAction"}
            result[name] = _values(result[name], lower=lower)
    for name in _PRINCIPALS:
        if name in result:
            result[name] = _principal(result[name])
    if isinstance(result.get("Condition"), dict):
        result["Condition"] = {
            operator: {key: _values(value) for key, value in keys.items()} if isinstance(keys, dict) else keys
            for operator, keys in result["Condition"].items()
        }
    return result


def _principal(principal: Any) -> Any:
    if principal == "*":
        return {"AWS": ["*"]}
    if not isinstance(principal, dict):
        return principal
    return {
        kind: _values(
            [_account(item) for item in (value if isinstance(value, list) else [value])] if kind == "AWS" else value
        )
        for kind, value in principal.items()
    }


def _account(value: Any) -> Any:
    match = _ROOT.fullmatch(value) if isinstance(value, str) else None
    return match[1] if match else value


def _values(value: Any, *, lower: bool = False) -> Any:
    """A sorted list without duplicates if all values are scalars; otherwise the value as it is."""
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str | int | float | bool) for item in values):
        return value
    texts = [item if isinstance(item, str) else canonical_json(item) for item in values]
    return sorted({text.lower() if lower else text for text in texts})

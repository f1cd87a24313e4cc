"""Policy documents: the canonical form in which equal policies are equal texts.

AWS does not care about white space, the order of object keys, the order of the values of a list, a list of one value
against the bare value, the letter case of actions, nor whether an account principal is written as an id or as the ARN of
its root; so neither does the ledger (IAM user guide, "Grammar of the IAM JSON policy language").
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import orjson

from models.hashing import canonical_json, storable

_ROOT = re.compile(r"arn:[a-z-]+:iam::(\d{12}):root")
_VALUE_LISTS = ("Action", "NotAction", "Resource", "NotResource")
_PRINCIPALS = ("Principal", "NotPrincipal")


@lru_cache(maxsize=4096)
def canonical_policy(received: str) -> str:
    """Canonical JSON of a policy text; the text itself when it is no JSON object, or none that can be read."""
    received = storable(received)
    try:
        document = orjson.loads(received)
    except orjson.JSONDecodeError:
        return received
    if not isinstance(document, dict):
        return received
    statements = document.get("Statement")
    if isinstance(statements, dict):
        statements = [statements]
    if isinstance(statements, list):
        document = {**document, "Statement": [_statement(statement) for statement in statements]}
    try:
        return canonical_json(document)
    except orjson.JSONEncodeError:
        # Nested deeper than can be written; AWS takes no such policy.
        return received


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
            [_account(one) for one in (value if isinstance(value, list) else [value])] if kind == "AWS" else value
        )
        for kind, value in principal.items()
    }


def _account(value: Any) -> Any:
    found = _ROOT.fullmatch(value) if isinstance(value, str) else None
    return found[1] if found else value


def _values(value: Any, *, lower: bool = False) -> Any:
    """A sorted list without repetitions, where the values are plain; as it is otherwise."""
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str | int | float | bool) for one in values):
        return value
    texts = [one if isinstance(one, str) else canonical_json(one) for one in values]
    return sorted({text.lower() if lower else text for text in texts})

"""Finds the target of a query by ARN, ID, alias or name: a key, or a resource with its keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from models.aws_types import aws_type
from models.safe_text import printable
from reports.answers import identifier_lookup
from reports.answers.repository import Facts
from reports.answers.text import and_more
from reports.mart.errors import QueryError
from reports.mart.rows import rows

_SHOWN = 8
_KEYS = """
SELECT key_arn FROM keys WHERE key_arn = $text OR key_id = $text OR 'key/' || key_id = $text
UNION
SELECT a.target_key_arn FROM aliases a
WHERE a.target_key_arn IS NOT NULL
  AND (a.alias_arn = $text OR a.alias_name = $text OR ($bare AND a.alias_name = 'alias/' || $text))
ORDER BY 1
"""
_RESOURCES = """
SELECT resource_arn, resource_type, name, account_id, region FROM resources
WHERE resource_arn = $text OR name = $text
ORDER BY resource_arn
"""
_NEAR = """
SELECT DISTINCT name FROM resources WHERE name IS NOT NULL AND jaro_winkler_similarity(lower(name), lower($text)) >= 0.85
ORDER BY name LIMIT 3
"""
_USAGE = "SELECT * FROM resource_keys WHERE resource_arn = $arn ORDER BY role, position"


@dataclass(frozen=True, slots=True)
class Target:
    """A key (``resource`` is None), or a resource and its rows of view resource_keys."""

    arn: str
    resource: dict[str, Any] | None = None
    usage: tuple[dict[str, Any], ...] = ()


def find(facts: Facts, text: str) -> Target:
    """The key or resource that an ARN, ID, alias or name identifies.

    Raises QueryError (exit code 2) if there is none, with a hint, or more than one.
    """
    text = text.strip()
    values = {"text": text}
    bare = not text.startswith(("alias/", "arn:"))
    keys = [row["key_arn"] for row in rows(facts.duck, _KEYS, values | {"bare": bare})]
    resources = [
        row
        for row in rows(facts.duck, _RESOURCES, values)
        if row["resource_arn"] == text or aws_type(row["resource_type"]).found_by_name
    ]
    arns = [*keys, *(row["resource_arn"] for row in resources)]
    if len(arns) > 1:
        raise QueryError(_ambiguous(text, arns))
    if keys:
        return Target(keys[0])
    if resources:
        arn = resources[0]["resource_arn"]
        return Target(arn, resources[0], tuple(rows(facts.duck, _USAGE, {"arn": arn})))
    raise QueryError(_not_found(facts, text))


def _ambiguous(text: str, arns: Sequence[str]) -> str:
    listed = and_more([printable(arn) for arn in arns], limit=_SHOWN)
    return f"{printable(text)!r} matches {len(arns)} keys and resources: specify the ARN: {listed}"


def _not_found(facts: Facts, text: str) -> str:
    near = [printable(row["name"]) for row in rows(facts.duck, _NEAR, {"text": text})]
    hint = ""
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    else:
        try:
            deleted = identifier_lookup.find_keys(facts.duck, text)
        except QueryError as error:
            hint = str(error).partition(": ")[2]
        else:
            hint = f"{deleted.key_arns[0]} was deleted; use --as-of with a run or date at which it existed"
    return f"there is no key, alias, secret, database or bucket {printable(text)!r} in the ledger: {hint}"

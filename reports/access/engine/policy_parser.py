"""Parse policy documents into statements, without evaluating them.

AWS accepts a statement or a list of statements, and a value or a list of values. Invalid parts are kept and marked as
unreadable: "could not be parsed" and "allows nothing" are different results.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Named:
    """A principal as the policy names it: ``kind`` is AWS, Service, Federated, CanonicalUser or any other key."""

    kind: str
    value: str


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement. ``readable`` is false when a part of it is invalid in IAM."""

    position: int
    readable: bool
    sid: str | None = None
    effect: str | None = None
    principal_kind: str | None = None
    """``Principal`` or ``NotPrincipal``."""
    principals: tuple[Named, ...] = ()
    actions: tuple[str, ...] = ()
    not_actions: bool = False
    """The actions come from a NotAction: the statement applies to all others."""
    resources: tuple[str, ...] = ()
    has_resource: bool = False
    """A key policy statement without Resource has no effect."""
    conditions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The Sid, or ``#`` and the position (from 0)."""
        return self.sid or f"#{self.position}"

    @property
    def condition_keys(self) -> tuple[str, ...]:
        """The condition keys that the statement tests, as written, sorted."""
        blocks = (block for block in self.conditions.values() if isinstance(block, Mapping))
        return tuple(sorted({str(key) for block in blocks for key in block}))


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy document. ``readable`` is false when it, or one of its statements, could not be parsed."""

    readable: bool
    statements: tuple[Statement, ...] = ()
    version: str | None = None
    """As written. Policy variables are plain text in a policy without version 2012-10-17."""


def parse(text: str) -> Policy:
    """Parse a policy document from its JSON text; never raises."""
    items, version = statements_of(text)
    if items is None:
        return Policy(readable=False)
    statements = tuple(_statement(position, item) for position, item in enumerate(items))
    return Policy(all(statement.readable for statement in statements), statements, version)


def statements_of(text: str) -> tuple[list[Any] | None, str | None]:
    """Return the statements of a policy document (None if it could not be parsed), and its version."""
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None, None
    if not isinstance(document, dict):
        return None, None
    items, version = document.get("Statement"), document.get("Version")
    if isinstance(items, dict):
        items = [items]
    return items if isinstance(items, list) else None, version if isinstance(version, str) else None


def _statement(position: int, item: Any) -> Statement:
    if not isinstance(item, dict):
        return Statement(position, readable=False)
    sid, effect = item.get("Sid"), item.get("Effect")
    kind = next((name for name in ("Principal", "NotPrincipal") if name in item), None)
    principals = _principals(item[kind]) if kind else ()
    not_actions = "Action" not in item and "NotAction" in item
    # Key policies from before August 2025 may contain statements without an action; these have no effect.
    actions = texts(item.get("NotAction" if not_actions else "Action", []))
    # In a key policy, NotResource can only exclude the key itself.
    has_resource = "Resource" in item or "NotResource" in item
    resources = texts(item.get("Resource", item.get("NotResource", [])))
    conditions = item.get("Condition", {})
    readable = (
        (sid is None or isinstance(sid, str))
        and effect in ("Allow", "Deny")  # a tuple, because the value may be unhashable
        and not ("Principal" in item and "NotPrincipal" in item)
        and not ("Action" in item and "NotAction" in item)
        and principals is not None
        and actions is not None
        and resources is not None
        and "NotResource" not in item
        and isinstance(conditions, dict)
        and all(isinstance(block, dict) for block in conditions.values())
    )
    return Statement(
        position=position,
        readable=readable,
        sid=sid if isinstance(sid, str) else None,
        effect=effect if isinstance(effect, str) else None,
        principal_kind=kind,
        principals=principals or (),
        actions=actions or (),
        not_actions=not_actions,
        resources=resources or (),
        has_resource=has_resource,
        conditions=conditions if isinstance(conditions, dict) else {},
    )


def texts(value: Any) -> tuple[str, ...] | None:
    """Return the texts of a value that is one text or a list of texts; None for another value."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    return None


def _principals(value: Any) -> tuple[Named, ...] | None:
    """Return the named principals; ``"*"`` equals ``{"AWS": "*"}``."""
    if isinstance(value, str):
        return (Named("AWS", value),)
    if not isinstance(value, dict):
        return None
    principals: list[Named] = []
    for kind, names in value.items():
        values = texts(names)
        if values is None:
            return None
        principals += (Named(kind, name) for name in values)
    return tuple(principals)

"""A policy document as statements, whatever shape it came in; nothing is judged here.

AWS accepts one statement or a list of them, one value or a list, and stores text that other tools wrote by hand. What cannot
be read is kept and marked, because "we could not read it" and "it allows nothing" are different answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Named:
    """A principal as the policy names it: ``kind`` is AWS, Service, Federated, CanonicalUser (or what was written)."""

    kind: str
    value: str


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement. ``readable`` is false when a part of it has a shape that IAM does not know."""

    position: int
    readable: bool
    sid: str | None = None
    effect: str | None = None
    principal_kind: str | None = None
    """``Principal`` or ``NotPrincipal``."""
    principals: tuple[Named, ...] = ()
    actions: tuple[str, ...] = ()
    not_actions: bool = False
    """The actions are those of a NotAction: everything but them."""
    resources: tuple[str, ...] = ()
    has_resource: bool = False
    """A key policy statement without Resource has no effect."""
    conditions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its Sid, or ``#`` and its position (from 0)."""
        return self.sid or f"#{self.position}"

    @property
    def condition_keys(self) -> tuple[str, ...]:
        """The condition keys that it tests, sorted, as written."""
        blocks = (block for block in self.conditions.values() if isinstance(block, Mapping))
        return tuple(sorted({str(key) for block in blocks for key in block}))


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy document. ``readable`` is false when it, or a statement in it, could not be read."""

    readable: bool
    statements: tuple[Statement, ...] = ()
    version: str | None = None
    """As written. Policy variables are text, not variables, in a policy that does not say 2012-10-17."""


def parse(text: str) -> Policy:
    """Read a policy document from its JSON text; never raises."""
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        return Policy(readable=False)
    if not isinstance(document, dict):
        return Policy(readable=False)
    listed = document.get("Statement")
    if isinstance(listed, dict):
        listed = [listed]
    if not isinstance(listed, list):
        return Policy(readable=False)
    statements = tuple(_statement(position, item) for position, item in enumerate(listed))
    version = document.get("Version")
    return Policy(
        readable=all(statement.readable for statement in statements),
        statements=statements,
        version=version if isinstance(version, str) else None,
    )


def _statement(position: int, item: Any) -> Statement:
    if not isinstance(item, dict):
        return Statement(position, readable=False)
    sid, effect = item.get("Sid"), item.get("Effect")
    kind = next((name for name in ("Principal", "NotPrincipal") if name in item), None)
    principals = _principals(item[kind]) if kind else ()
    not_actions = "Action" not in item and "NotAction" in item
    # Keys of before August 2025 may have statements without an action, which AWS kept and gave no effect.
    actions = _texts(item.get("NotAction" if not_actions else "Action", []))
    # NotResource names what the statement is not about; in a key policy it can only exclude the key itself.
    has_resource = "Resource" in item or "NotResource" in item
    resources = _texts(item.get("Resource", [])) if "Resource" in item else _texts(item.get("NotResource", []))
    conditions = item.get("Condition", {})
    sound = (
        (sid is None or isinstance(sid, str))
        and effect in ("Allow", "Deny")  # no set: what is not hashable may stand here
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
        readable=sound,
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


def _texts(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    return None


def _principals(value: Any) -> tuple[Named, ...] | None:
    """``"*"`` is the same as ``{"AWS": "*"}``."""
    if isinstance(value, str):
        return (Named("AWS", value),)
    if not isinstance(value, dict):
        return None
    found: list[Named] = []
    for kind, names in value.items():
        texts = _texts(names)
        if texts is None:
            return None
        found += (Named(kind, name) for name in texts)
    return tuple(found)

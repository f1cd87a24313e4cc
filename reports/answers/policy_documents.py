"""Policies of identities and of resources other than keys, as rules that can be judged for one action on one resource."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from reports.access.engine.conditions import CURRENT, Element, read
from reports.access.engine.policy_parser import Policy, parse
from reports.access.engine.request_principals import audience
from reports.access.engine.solver import Rule
from reports.access.engine.wildcards import matches


@dataclass(frozen=True, slots=True)
class Document:
    """A policy with its name for people; ``policy`` is None when its content is not known."""

    name: str
    policy: Policy | None
    inverted: frozenset[int] = frozenset()
    """Positions of the statements whose resources are those of a NotResource."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A statement about the action and resource in question."""

    document: str
    rule: Rule
    certain: bool
    """Whether it is sure that the statement is about the resource."""

    @property
    def name(self) -> str:
        """The policy and the statement."""
        return f"{self.document} ({self.rule.name})" if self.document else self.rule.name


@dataclass(frozen=True, slots=True)
class Rules:
    """What policies say about one action on one resource."""

    allows: tuple[Judged, ...]
    denies: tuple[Judged, ...]
    unread: str = ""
    """Why there may be more than that."""


@lru_cache(maxsize=16_384)
def document(name: str, text: str | None) -> Document:
    """Read a policy from its JSON text (None: not known); never raises."""
    if text is None:
        return Document(name, None)
    try:
        loaded = orjson.loads(text)
    except orjson.JSONDecodeError:
        return Document(name, parse(text))
    inverted = frozenset(_turned(loaded)) if isinstance(loaded, dict) else frozenset()
    return Document(name, parse(orjson.dumps(loaded).decode() if inverted else text), inverted)


def _turned(loaded: dict[str, Any]) -> Iterable[int]:
    """NotResource is a matter of identity policies alone, which the reader of key policies does not know."""
    listed = loaded.get("Statement")
    for position, statement in enumerate(listed if isinstance(listed, list) else [listed]):
        if isinstance(statement, dict) and "NotResource" in statement and "Resource" not in statement:
            statement["Resource"] = statement.pop("NotResource")
            yield position


def rules_about(documents: Iterable[Document], action: str, resource: str, *, operation: int = 0) -> Rules:
    """The statements of policies that are about an action on a resource (its ARN); ``operation`` becomes that of the rules."""
    allows: list[Judged] = []
    denies: list[Judged] = []
    unread = ""
    for one in documents:
        if one.policy is None:
            unread = unread or f"the content of {one.name} is not known"
            continue
        if not one.policy.readable:
            unread = unread or f"a statement of {one.name} cannot be read"
        for statement in one.policy.statements:
            if not statement.readable or _acts(statement.actions, action) is statement.not_actions:
                continue
            about = _about(statement.resources, resource, one.policy.version)
            if one.inverted and statement.position in one.inverted:
                about = None if about is None else not about
            if about is False:
                continue
            elements: tuple[Element, ...] = read(statement.conditions, one.policy.version)
            allow = statement.effect == "Allow"
            about_it = Rule(statement, allow, operation, audience(statement), elements, about_key=True)
            (allows if allow else denies).append(Judged(one.name, about_it, about is True))
    return Rules(tuple(allows), tuple(denies), unread)


@lru_cache(maxsize=65_536)
def _acts(patterns: tuple[str, ...], action: str) -> bool:
    lowered = action.lower()
    return any(matches(pattern.lower(), lowered) for pattern in patterns)


def _about(patterns: tuple[str, ...], resource: str, version: str | None) -> bool | None:
    """Whether the resource is meant; None when that depends on a policy variable."""
    if any(matches(pattern, resource) for pattern in patterns if "${" not in pattern or version != CURRENT):
        return True
    return None if version == CURRENT and any("${" in pattern for pattern in patterns) else False

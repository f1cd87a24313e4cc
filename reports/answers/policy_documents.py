"""Policies of identities and of resources other than keys, as rules for one action on one resource."""

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
from reports.access.engine.wildcards import complete_arn, matches


@dataclass(frozen=True, slots=True)
class Document:
    """A policy with its display name; ``policy`` is None if its content is unknown."""

    name: str
    policy: Policy | None
    not_resource: frozenset[int] = frozenset()
    """Positions of the statements whose resources come from NotResource."""


@dataclass(frozen=True, slots=True)
class StatementMatch:
    """A statement that applies to an action and a resource."""

    document: str
    rule: Rule
    certain: bool
    """Whether the statement certainly applies to the resource."""

    @property
    def name(self) -> str:
        """The names of the policy and the statement."""
        return f"{self.document} ({self.rule.name})" if self.document else self.rule.name


@dataclass(frozen=True, slots=True)
class Rules:
    """The statements of policies that apply to one action on one resource."""

    allows: tuple[StatementMatch, ...]
    denies: tuple[StatementMatch, ...]
    unread: str = ""
    """Why there may be more statements."""


@lru_cache(maxsize=16_384)
def document(name: str, text: str | None) -> Document:
    """A policy parsed from its JSON text (None: unknown); never raises."""
    if text is None:
        return Document(name, None)
    try:
        loaded = orjson.loads(text)
    except orjson.JSONDecodeError:
        return Document(name, parse(text))
    not_resource = frozenset(_replace_not_resource(loaded)) if isinstance(loaded, dict) else frozenset()
    return Document(name, parse(orjson.dumps(loaded).decode() if not_resource else text), not_resource)


def _replace_not_resource(loaded: dict[str, Any]) -> Iterable[int]:
    """Rename NotResource, which the parser of key policies does not support, and yield the positions of its statements."""
    statements = loaded.get("Statement")
    for position, statement in enumerate(statements if isinstance(statements, list) else [statements]):
        if isinstance(statement, dict) and "NotResource" in statement and "Resource" not in statement:
            statement["Resource"] = statement.pop("NotResource")
            yield position


def rules_about(documents: Iterable[Document], action: str, resource: str, *, operation: int = 0) -> Rules:
    """The statements of policies that apply to an action on a resource (its ARN), as rules with the given operation bits."""
    allows: list[StatementMatch] = []
    denies: list[StatementMatch] = []
    unread = ""
    for each in documents:
        if each.policy is None:
            unread = unread or f"the content of {each.name} is unknown"
            continue
        if not each.policy.readable:
            unread = unread or f"a statement of {each.name} cannot be parsed"
        for statement in each.policy.statements:
            if not statement.readable or _matches_action(statement.actions, action) is statement.not_actions:
                continue
            applies = _matches_resource(statement.resources, resource, each.policy.version)
            if statement.position in each.not_resource:
                applies = None if applies is None else not applies
            if applies is False:
                continue
            elements: tuple[Element, ...] = read(statement.conditions, each.policy.version)
            allow = statement.effect == "Allow"
            rule = Rule(statement, allow, operation, audience(statement), elements, about_key=True)
            (allows if allow else denies).append(StatementMatch(each.name, rule, applies is True))
    return Rules(tuple(allows), tuple(denies), unread)


@lru_cache(maxsize=65_536)
def _matches_action(patterns: tuple[str, ...], action: str) -> bool:
    lowered = action.lower()
    return any(matches(pattern.lower(), lowered) for pattern in patterns)


def _matches_resource(patterns: tuple[str, ...], resource: str, version: str | None) -> bool | None:
    """Whether a pattern matches the resource; None if that depends on a policy variable."""
    constant = (complete_arn(pattern) for pattern in patterns if "${" not in pattern or version != CURRENT)
    if any(matches(pattern, resource) for pattern in constant):
        return True
    return None if version == CURRENT and any("${" in pattern for pattern in patterns) else False

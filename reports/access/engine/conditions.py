"""The Condition element of a statement: read once, then judged for a caller in a context.

A context gives each condition key (in lower case) a value: a text, several texts, None when the request does not carry the
key, or UNKNOWN. Answers are True, False and None for "cannot be known"; unknown operators and unknown keys give the last.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from reports.access.engine.condition_operators import OPERATORS, WITH_VARIABLES, test
from reports.access.engine.wildcards import literal


class Unknowable(Enum):
    """The type of UNKNOWN."""

    UNKNOWN = "unknown"

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = Unknowable.UNKNOWN
Value = str | tuple[str, ...] | Unknowable | None
Context = dict[str, Value]

_VARIABLE = re.compile(r"\$\{([^{}]*)\}")
_ESCAPES = {"*": literal("*"), "?": literal("?"), "$": "$"}
CURRENT = "2012-10-17"
"""The policy version that knows variables."""


@dataclass(frozen=True, slots=True)
class Element:
    """One operator on one key. ``unreadable`` says why it cannot be judged."""

    operator: str
    key: str
    """Lower case."""
    written: str
    """The key as the policy has it."""
    values: tuple[str, ...] = ()
    family: str = ""
    negated: bool = False
    if_exists: bool = False
    every: bool = False
    """ForAllValues."""
    some: bool = False
    """ForAnyValue."""
    variables: tuple[str, ...] = ()
    """Condition keys (lower case) that its values refer to."""
    unreadable: str = ""

    @property
    def optional(self) -> bool:
        """It holds when the request does not carry the key."""
        return self.if_exists or self.every or (self.negated and not self.some)


def read(conditions: Mapping[str, Any], version: str | None) -> tuple[Element, ...]:
    """Every operator on every key, in the order of the policy."""
    found: list[Element] = []
    for operator, block in conditions.items():
        if not isinstance(block, Mapping):
            found.append(Element(operator, "", "", unreadable=f"condition {operator} is no object"))
            continue
        found += (_element(operator, key, value, version) for key, value in block.items())
    return tuple(found)


def _element(operator: str, key: str, value: Any, version: str | None) -> Element:
    name = operator.strip().lower()
    every, some = name.startswith("forallvalues:"), name.startswith("foranyvalue:")
    base = name.partition(":")[2] if every or some else name
    if_exists = base.endswith("ifexists")
    base = base.removesuffix("ifexists")
    lowered = key.strip().lower()
    values = _values(value)
    if base not in OPERATORS or (base == "null" and if_exists):
        return Element(operator, lowered, key, unreadable=f"condition operator {operator} is not known")
    if values is None:
        return Element(operator, lowered, key, unreadable=f"the values of condition {operator} {key} cannot be read")
    family, negated = OPERATORS[base]
    variables: tuple[str, ...] = ()
    if version == CURRENT and family in WITH_VARIABLES:
        variables = tuple(
            dict.fromkeys(
                match.partition(",")[0].strip().lower()
                for text in values
                for match in _VARIABLE.findall(text)
                if match not in _ESCAPES
            )
        )
        if not variables:
            values = tuple(_escaped(text) for text in values)
    if family == "null":
        known = all(text.lower() in {"true", "false"} for text in values)
    else:
        known = bool(variables) or all(test(family, text) is not None for text in values)
    return Element(
        operator,
        lowered,
        key,
        values,
        family,
        negated,
        if_exists,
        every,
        some,
        variables,
        "" if known else f"a value of condition {operator} {key} makes no sense to it",
    )


def _values(value: Any) -> tuple[str, ...] | None:
    listed = value if isinstance(value, list) else [value]
    texts: list[str] = []
    for item in listed:
        if isinstance(item, bool):
            texts.append("true" if item else "false")
        elif isinstance(item, (str, int, float)):
            texts.append(str(item))
        else:
            return None
    return tuple(texts) or None


def _escaped(text: str) -> str:
    if "${" not in text:
        return text
    return _VARIABLE.sub(lambda match: _ESCAPES.get(match[1], match[0]), text)


def resolved(element: Element, context: Mapping[str, Value]) -> tuple[str, ...] | Unknowable:
    """Its values with the variables filled in; one whose variable has no value is left out."""
    if not element.variables:
        return element.values
    found: list[str] = []
    for text in element.values:
        filled = _filled(text, context)
        if filled is UNKNOWN:
            return UNKNOWN
        if isinstance(filled, str):
            found.append(filled)
    return tuple(found)


def _filled(text: str, context: Mapping[str, Value]) -> str | Unknowable | None:
    parts: list[str] = []
    end = 0
    for match in _VARIABLE.finditer(text):
        parts.append(text[end : match.start()])
        end = match.end()
        if match[1] in _ESCAPES:
            parts.append(_ESCAPES[match[1]])
            continue
        name, comma, default = match[1].partition(",")
        value = context.get(name.strip().lower(), UNKNOWN)
        if value is UNKNOWN:
            return UNKNOWN
        if isinstance(value, str):
            parts.append(literal(value))
        elif comma and value is None:
            parts.append(default.strip().removeprefix("'").removesuffix("'"))
        else:
            return None
    return "".join((*parts, text[end:]))


def judge(element: Element, context: Mapping[str, Value]) -> bool | None:
    """Whether it holds in the context; None if that cannot be known."""
    if element.unreadable:
        return None
    have = context.get(element.key, UNKNOWN)
    if have is UNKNOWN:
        return None
    if element.family == "null":
        absent = have is None or have == ()
        return any((value.lower() == "true") == absent for value in element.values)
    if have is None or have == ():
        return element.optional
    wanted = resolved(element, context)
    if wanted is UNKNOWN:
        return None
    tests = [found for text in wanted if (found := test(element.family, text)) is not None]
    if len(tests) < len(wanted):
        return None
    items = (have,) if isinstance(have, str) else have
    if element.every:
        return all(any(one(item) for one in tests) is not element.negated for item in items)
    if element.some:
        return any(any(one(item) for one in tests) is not element.negated for item in items)
    return any(one(item) for item in items for one in tests) is not element.negated


def judge_all(elements: tuple[Element, ...], context: Mapping[str, Value]) -> bool | None:
    """Whether all hold: several keys and operators are joined by AND."""
    answer: bool | None = True
    for element in elements:
        one = judge(element, context)
        if one is False:
            return False
        if one is None:
            answer = None
    return answer


def why_unknown(elements: tuple[Element, ...], context: Mapping[str, Value]) -> str:
    """What keeps the elements from being judged, as a clause."""
    for element in elements:
        if element.unreadable:
            return element.unreadable
        for key in (element.key, *element.variables):
            if context.get(key, UNKNOWN) is UNKNOWN:
                return f"the value of {element.written if key == element.key else key} is not known"
    return "a condition cannot be judged"

"""The Condition element of a statement: parsed once, then evaluated in request contexts.

A context maps each condition key (in lower case) to a value: a string, several strings, None when the request does not
carry the key, or UNKNOWN. Results are True, False, or None for unknown, as with unknown operators and keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import zip_longest
from typing import Any, Final

from reports.access.engine.condition_operators import OPERATORS, WITH_VARIABLES, value_test
from reports.access.engine.wildcards import escape, unescape


class Unknowable(Enum):
    """The type of UNKNOWN."""

    UNKNOWN = "unknown"


UNKNOWN: Final = Unknowable.UNKNOWN
Value = str | tuple[str, ...] | Unknowable | None
Context = dict[str, Value]

_VARIABLE = re.compile(r"\$\{([^{}]*)\}")
_ESCAPES = {"*": escape("*"), "?": escape("?"), "$": "$"}
CURRENT = "2012-10-17"
"""The policy version that supports variables."""


@dataclass(frozen=True, slots=True)
class Element:
    """One operator on one key. ``unreadable`` is the reason why it cannot be evaluated."""

    operator: str
    key: str
    """Lower case."""
    written: str
    """The key as the policy writes it."""
    values: tuple[str, ...] = ()
    family: str = ""
    negated: bool = False
    if_exists: bool = False
    all_values: bool = False
    """ForAllValues."""
    any_value: bool = False
    """ForAnyValue."""
    variables: tuple[str, ...] = ()
    """Condition keys (lower case) that the values refer to."""
    unreadable: str = ""

    @property
    def keys(self) -> tuple[str, ...]:
        """The condition keys on which the result depends (lower case)."""
        return (self.key, *self.variables)

    @property
    def optional(self) -> bool:
        """Whether the element holds when the request does not carry the key."""
        return self.if_exists or self.all_values or (self.negated and not self.any_value)


def read(conditions: Mapping[str, Any], version: str | None) -> tuple[Element, ...]:
    """Parse every operator on every key, in the order of the policy."""
    elements: list[Element] = []
    for operator, block in conditions.items():
        if not isinstance(block, Mapping):
            elements.append(Element(operator, "", "", unreadable=f"condition {operator} is not a JSON object"))
            continue
        elements += (_element(operator, key, value, version) for key, value in block.items())
    return tuple(elements)


def _element(operator: str, key: str, value: Any, version: str | None) -> Element:
    name = operator.strip().lower()
    all_values, any_value = name.startswith("forallvalues:"), name.startswith("foranyvalue:")
    base = name.partition(":")[2] if all_values or any_value else name
    if_exists = base.endswith("ifexists")
    base = base.removesuffix("ifexists")
    lowered = key.strip().lower()
    values = _values(value)
    if base not in OPERATORS or (base == "null" and if_exists):
        return Element(operator, lowered, key, unreadable=f"unknown condition operator {operator}")
    if values is None:
        return Element(operator, lowered, key, unreadable=f"condition {operator} {key} has values of an invalid type")
    family, negated = OPERATORS[base]
    variables: tuple[str, ...] = ()
    if version == CURRENT and family in WITH_VARIABLES:
        written = (variable for text in values for variable in _VARIABLE.findall(text) if variable not in _ESCAPES)
        variables = tuple(dict.fromkeys(map(_name, written)))
        if not variables:
            values = tuple(_escaped(text) for text in values)
    if family == "null":
        valid = all(text.lower() in {"true", "false"} for text in values)
    else:
        valid = bool(variables) or all(value_test(family, text) is not None for text in values)
    return Element(
        operator,
        lowered,
        key,
        values,
        family,
        negated,
        if_exists,
        all_values,
        any_value,
        variables,
        "" if valid else f"condition {operator} {key} has an invalid value",
    )


def _values(value: Any) -> tuple[str, ...] | None:
    items = value if isinstance(value, list) else [value]
    texts: list[str] = []
    for item in items:
        if isinstance(item, bool):
            texts.append("true" if item else "false")
        elif isinstance(item, (str, int, float)):
            texts.append(str(item))
        else:
            return None
    return tuple(texts) or None


def _name(variable: str) -> str:
    return variable.partition(",")[0].strip().lower()


def _escaped(text: str) -> str:
    return _VARIABLE.sub(lambda match: _ESCAPES.get(match[1], match[0]), text)


def resolve_variables(element: Element, context: Mapping[str, Value]) -> tuple[str, ...] | Unknowable:
    """Return the element's values with variables replaced, without those whose variable has no value."""
    if not element.variables:
        return element.values
    values: list[str] = []
    for text in element.values:
        value = _substitute(text, context)
        if value is UNKNOWN:
            return UNKNOWN
        if isinstance(value, str):
            values.append(value)
    return tuple(values)


def pattern_of(text: str) -> str:
    """Return the text with ``*`` in place of its variables."""
    return _VARIABLE.sub(lambda match: _ESCAPES.get(match[1], "*"), text)


def resolve_constants(element: Element, constants: Mapping[str, Value]) -> tuple[tuple[str, ...], bool]:
    """Return the element's values with constants for variables, and ``*`` for other variables; whether there are no others."""
    if not element.variables:
        return element.values, True
    values = resolve_variables(element, constants)
    return (tuple(map(pattern_of, element.values)), False) if values is UNKNOWN else (values, True)


def variable_values(element: Element, key: str, context: Mapping[str, Value]) -> tuple[str, ...]:
    """Return values of a variable with which the element's values match the value that its key has in the context."""
    actual = context.get(element.key)
    found: list[str] = []
    for text in element.values if isinstance(actual, str) else ():
        regex = ""
        for part, variable in _parts(text):
            regex += _regex(part)
            if variable is not None:
                regex += re.escape(variable) if variable in _ESCAPES else "(.*)" if _name(variable) == key else ".*"
        matching = re.fullmatch(regex, str(actual), re.DOTALL)
        found += matching.groups() if matching else ()
    return tuple(found)


def _parts(text: str) -> Iterator[tuple[str, str | None]]:
    """Yield the parts of the text, each with the variable after it."""
    parts = _VARIABLE.split(text)
    return zip_longest(parts[::2], parts[1::2])


def _regex(pattern: str) -> str:
    return "".join({"*": ".*", "?": "."}.get(character, re.escape(unescape(character))) for character in pattern)


def _substitute(text: str, context: Mapping[str, Value]) -> str | Unknowable | None:
    result = ""
    for part, variable in _parts(text):
        result += part
        if variable is None or variable in _ESCAPES:
            result += _ESCAPES.get(variable or "", "")
            continue
        _, comma, default = variable.partition(",")
        value = context.get(_name(variable), UNKNOWN)
        if value is UNKNOWN:
            return UNKNOWN
        if isinstance(value, str):
            result += escape(value)
        elif comma and value is None:
            result += default.strip().removeprefix("'").removesuffix("'")
        else:
            return None
    return result


def evaluate(element: Element, context: Mapping[str, Value]) -> bool | None:
    """Whether the element holds in the context; None if unknown."""
    if element.unreadable:
        return None
    value = context.get(element.key, UNKNOWN)
    if value is UNKNOWN:
        return None
    if element.family == "null":
        absent = value is None or value == ()
        return any((value.lower() == "true") == absent for value in element.values)
    if value is None or value == ():
        return element.optional
    policy_values = resolve_variables(element, context)
    if policy_values is UNKNOWN:
        return None
    tests = [test for text in policy_values if (test := value_test(element.family, text)) is not None]
    if len(tests) < len(policy_values):
        return None
    items = (value,) if isinstance(value, str) else value
    if element.all_values:
        return all(any(test(item) for test in tests) is not element.negated for item in items)
    if element.any_value:
        return any(any(test(item) for test in tests) is not element.negated for item in items)
    return any(test(item) for item in items for test in tests) is not element.negated


def evaluate_all(elements: tuple[Element, ...], context: Mapping[str, Value]) -> bool | None:
    """Whether all elements hold (keys and operators are joined by AND); None if unknown."""
    result: bool | None = True
    for element in elements:
        holds = evaluate(element, context)
        if holds is False:
            return False
        if holds is None:
            result = None
    return result


def unknown_reason(elements: tuple[Element, ...], context: Mapping[str, Value]) -> str:
    """Return why the elements cannot be evaluated, as a clause."""
    for element in elements:
        if element.unreadable:
            return element.unreadable
        for key in element.keys:
            if context.get(key, UNKNOWN) is UNKNOWN:
                return f"the value of {element.written if key == element.key else key} is unknown"
    return "a condition could not be evaluated"

"""Describe the conditions of an access in short English."""

from __future__ import annotations

from collections.abc import Iterable

from reports.access.engine.condition_keys import condition_key
from reports.access.engine.conditions import Element
from reports.access.engine.wildcards import displayed

_VERBS = {
    "equals": "is",
    "lessthan": "is less than",
    "lessthanequals": "is at most",
    "greaterthan": "is more than",
    "greaterthanequals": "is at least",
}


def join_or(values: Iterable[str]) -> str:
    """Join values as ``a``, ``a or b``, ``a, b or c``; abbreviate a long list."""
    return _join(values, "or") or "nothing"


def join_and(values: Iterable[str]) -> str:
    """Join values as ``a``, ``a and b``, ``a, b and c``; abbreviate a long list."""
    return _join(values, "and")


def _join(values: Iterable[str], word: str) -> str:
    items = list(map(displayed, values))
    if len(items) > 4:
        items = [*items[:3], f"{len(items) - 3} others"]
    return f" {word} ".join(filter(None, (", ".join(items[:-1]), *items[-1:])))


def describe_restriction(element: Element) -> str:
    """Describe a condition as a restriction: ``only through s3.eu-west-1.amazonaws.com``."""
    values = join_or(element.values)
    if element.unreadable or element.family == "null" or element.all_values or element.if_exists:
        return f"only if {describe_condition(element)}"
    word = "not" if element.negated else "only"
    if restriction := condition_key(element.key).restriction:
        return f"{word} {restriction.format(values)}"
    if element.key.startswith("kms:encryptioncontext:"):
        name = element.written.split(":", 2)[2]
        return f"encryption context {name}{'≠' if element.negated else '='}{values}"
    if element.key.startswith("aws:principaltag/"):
        return f"{word} principals with the tag {element.written.partition('/')[2]}={values}"
    if element.key.startswith("aws:resourcetag/"):
        return f"{word} while the key has the tag {element.written.partition('/')[2]}={values}"
    if element.key == "kms:grantisforawsresource" and element.values[0].lower() == "true":
        return "only grants for resources of AWS services"
    return f"only if {describe_condition(element)}"


def describe_condition(element: Element) -> str:
    """Describe a condition as a clause: ``aws:SourceVpce is not vpce-1``."""
    if element.unreadable:
        return f"{element.operator} {element.written}".strip()
    if element.family == "null":
        return f"{element.written} is {'absent' if element.values[0].lower() == 'true' else 'present'}"
    verb = _VERBS.get(element.family.partition(":")[2], "is")
    if element.negated:
        verb += " not"
    start = f"every value of {element.written}" if element.all_values else element.written
    ending = " where present" if element.if_exists else ""
    return f"{start} {verb} {join_or(element.values)}{ending}"


def describe_conditions(elements: Iterable[Element], exceptions: Iterable[tuple[str, Iterable[Element]]]) -> str:
    """Describe the conditions of an Allow, and the Deny statements (by name) that restrict it, as one text."""
    parts = [describe_restriction(element) for element in elements]
    for name, conditions in exceptions:
        if described := " and ".join(map(describe_condition, conditions)):
            parts.append(f"except if {described} (denied by {name})")
    return "; ".join(dict.fromkeys(parts))

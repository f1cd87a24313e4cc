"""IAM condition operators: compare one value of a policy with one value of a request.

From the IAM user guide, "JSON policy elements: Condition operators". Values are case-sensitive unless the operator ignores
case; ArnEquals and ArnLike are the same; an invalid number, date or address in a policy has no comparison (None).
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from functools import lru_cache

from reports.access.engine.wildcards import matches, unescape

Test = Callable[[str], bool]

_COMPARE: dict[str, Callable[[Decimal, Decimal], bool]] = {
    "equals": lambda actual, expected: actual == expected,
    "lessthan": lambda actual, expected: actual < expected,
    "lessthanequals": lambda actual, expected: actual <= expected,
    "greaterthan": lambda actual, expected: actual > expected,
    "greaterthanequals": lambda actual, expected: actual >= expected,
}

OPERATORS: dict[str, tuple[str, bool]] = {
    "stringequals": ("text", False),
    "stringnotequals": ("text", True),
    "stringequalsignorecase": ("caseless", False),
    "stringnotequalsignorecase": ("caseless", True),
    "stringlike": ("like", False),
    "stringnotlike": ("like", True),
    "bool": ("bool", False),
    "binaryequals": ("binary", False),
    "ipaddress": ("ip", False),
    "notipaddress": ("ip", True),
    "arnequals": ("arn", False),
    "arnlike": ("arn", False),
    "arnnotequals": ("arn", True),
    "arnnotlike": ("arn", True),
    "null": ("null", False),
    **{f"numeric{name}": (f"numeric:{name}", False) for name in _COMPARE},
    **{f"date{name}": (f"date:{name}", False) for name in _COMPARE},
    "numericnotequals": ("numeric:equals", True),
    "datenotequals": ("date:equals", True),
}
"""Operator in lower case to the family of its comparison, and whether it is negated."""

WITH_VARIABLES = frozenset({"text", "caseless", "like", "arn"})
"""Families whose values can contain policy variables."""


@lru_cache(maxsize=65_536)
def value_test(family: str, written: str) -> Test | None:
    """Return the comparison with one value of a policy; None when the value is invalid for the operator."""
    kind, _, comparison = family.partition(":")
    match kind:
        case "text":
            expected = unescape(written)
            return lambda actual: actual == expected
        case "caseless":
            folded = unescape(written).casefold()
            return lambda actual: actual.casefold() == folded
        case "like":
            return lambda actual: matches(written, actual)
        case "arn":
            return _arn(written)
        case "bool":
            truth = written.lower()
            return (lambda actual: actual.lower() == truth) if truth in {"true", "false"} else None
        case "binary":
            return lambda actual: actual == written
        case "ip":
            return _ip(written)
        case "numeric" | "date":
            return _ordered(parse_number if kind == "numeric" else parse_timestamp, _COMPARE[comparison], written)
        case _:
            return None


def _arn(written: str) -> Test | None:
    if not written.strip("*"):
        return lambda actual: actual.startswith("arn:")
    expected = written.split(":", 5)
    if len(expected) < 6:
        return lambda _: False

    def matches_parts(actual: str) -> bool:
        parts = actual.split(":", 5)
        return len(parts) == 6 and all(map(matches, expected, parts))

    return matches_parts


def parse_network(written: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """Parse an address or a range in CIDR notation."""
    try:
        return ipaddress.ip_network(written.strip(), strict=False)
    except ValueError:
        return None


def _ip(written: str) -> Test | None:
    network = parse_network(written)
    if network is None:
        return None

    def inside(actual: str) -> bool:
        try:
            address = ipaddress.ip_address(actual)
        except ValueError:
            return False
        return address in network

    return inside


def parse_number(text: str) -> Decimal | None:
    """Parse a finite number."""
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


def parse_timestamp(text: str) -> Decimal | None:
    """Parse an ISO 8601 timestamp or epoch seconds into epoch seconds."""
    seconds = parse_number(text)
    if seconds is not None and "-" not in text[1:]:
        return seconds
    try:
        when = dt.datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return Decimal(str((when if when.tzinfo else when.replace(tzinfo=dt.UTC)).timestamp()))


def _ordered(
    parse: Callable[[str], Decimal | None], compare: Callable[[Decimal, Decimal], bool], written: str
) -> Test | None:
    expected = parse(written)
    if expected is None:
        return None

    def holds(actual: str) -> bool:
        value = parse(actual)
        return value is not None and compare(value, expected)

    return holds

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
    "equals": lambda have, want: have == want,
    "lessthan": lambda have, want: have < want,
    "lessthanequals": lambda have, want: have <= want,
    "greaterthan": lambda have, want: have > want,
    "greaterthanequals": lambda have, want: have >= want,
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
            wanted = unescape(written)
            return lambda have: have == wanted
        case "caseless":
            folded = unescape(written).casefold()
            return lambda have: have.casefold() == folded
        case "like":
            return lambda have: matches(written, have)
        case "arn":
            return _arn(written)
        case "bool":
            truth = written.lower()
            return (lambda have: have.lower() == truth) if truth in {"true", "false"} else None
        case "binary":
            return lambda have: have == written
        case "ip":
            return _ip(written)
        case "numeric" | "date":
            return _ordered(parse_number if kind == "numeric" else parse_timestamp, _COMPARE[comparison], written)
        case _:
            return None


def _arn(written: str) -> Test | None:
    if not written.strip("*"):
        return lambda have: have.startswith("arn:")
    wanted = written.split(":", 5)
    if len(wanted) < 6:
        return lambda _: False

    def matches_parts(have: str) -> bool:
        parts = have.split(":", 5)
        return len(parts) == 6 and all(map(matches, wanted, parts))

    return matches_parts


def parse_network(written: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """Parse an address or a range in CIDR notation."""
    try:
        return ipaddress.ip_network(written.strip(), strict=False)
    except ValueError:
        return None


def _ip(written: str) -> Test | None:
    wanted = parse_network(written)
    if wanted is None:
        return None

    def inside(have: str) -> bool:
        try:
            address = ipaddress.ip_address(have)
        except ValueError:
            return False
        return address in wanted

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
    wanted = parse(written)
    if wanted is None:
        return None

    def holds(have: str) -> bool:
        value = parse(have)
        return value is not None and compare(value, wanted)

    return holds

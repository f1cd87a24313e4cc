"""IAM's condition operators on one value: does what the policy wrote match what the request carries.

From the IAM user guide, "JSON policy elements: Condition operators". Letter case counts in values unless the operator says
otherwise; ArnEquals and ArnLike are the same; numbers, dates, addresses that cannot be read in a policy give no answer (None).
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from functools import lru_cache

from reports.access.engine.wildcards import matches, plain

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
"""Operator in lower case: the family of its comparison, and whether it is negated."""

WITH_VARIABLES = frozenset({"text", "caseless", "like", "arn"})
"""Families whose values can hold policy variables."""


@lru_cache(maxsize=65_536)
def test(family: str, written: str) -> Test | None:
    """The comparison with one value of a policy; None when that value makes no sense to this operator."""
    kind, _, comparison = family.partition(":")
    match kind:
        case "text":
            wanted = plain(written)
            return lambda have: have == wanted
        case "caseless":
            folded = plain(written).casefold()
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
            return _ordered(number if kind == "numeric" else moment, _COMPARE[comparison], written)
        case _:
            return None


def _arn(written: str) -> Test | None:
    if not written.strip("*"):
        return lambda have: have.startswith("arn:")
    wanted = written.split(":", 5)
    if len(wanted) < 6:
        return lambda _: False

    def alike(have: str) -> bool:
        parts = have.split(":", 5)
        return len(parts) == 6 and all(map(matches, wanted, parts))

    return alike


def network(written: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """An address or a range in CIDR notation."""
    try:
        return ipaddress.ip_network(written.strip(), strict=False)
    except ValueError:
        return None


def _ip(written: str) -> Test | None:
    wanted = network(written)
    if wanted is None:
        return None

    def inside(have: str) -> bool:
        try:
            address = ipaddress.ip_address(have)
        except ValueError:
            return False
        return address in wanted

    return inside


def number(text: str) -> Decimal | None:
    """A finite number."""
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


def moment(text: str) -> Decimal | None:
    """Seconds since 1970, from ISO 8601 or from the seconds themselves."""
    seconds = number(text)
    if seconds is not None and "-" not in text[1:]:
        return seconds
    try:
        when = dt.datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return Decimal(str((when if when.tzinfo else when.replace(tzinfo=dt.UTC)).timestamp()))


def _ordered(
    read: Callable[[str], Decimal | None], compare: Callable[[Decimal, Decimal], bool], written: str
) -> Test | None:
    wanted = read(written)
    if wanted is None:
        return None

    def holds(have: str) -> bool:
        value = read(have)
        return value is not None and compare(value, wanted)

    return holds

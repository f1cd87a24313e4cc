"""Condition operators on a given request context."""

from __future__ import annotations

from typing import Any

import pytest

from reports.access.engine.conditions import CURRENT, UNKNOWN, Value, evaluate_all, read

A = "arn:aws:iam::111122223333:role/team/app"


@pytest.mark.parametrize(
    ("operator", "wanted", "have", "expected"),
    [
        ("StringEquals", "a", "a", True),
        ("StringEquals", "a", "A", False),
        ("StringEquals", "a*", "ab", False),
        ("StringEquals", ["a", "b"], "b", True),
        ("StringEquals", "a", None, False),
        ("StringNotEquals", ["a", "b"], "b", False),
        ("StringNotEquals", ["a", "b"], "c", True),
        ("StringNotEquals", "a", None, True),
        ("StringEqualsIgnoreCase", "a", "A", True),
        ("StringNotEqualsIgnoreCase", "a", "A", False),
        ("StringLike", "a*c?", "abbcd", True),
        ("StringLike", "a*", "A", False),
        ("StringNotLike", "a*", "ab", False),
        ("StringNotLike", "a*", "b", True),
        ("StringNotLike", "a*", None, True),
        ("StringEqualsIfExists", "a", None, True),
        ("StringEqualsIfExists", "a", "b", False),
        ("ArnLike", "arn:aws:iam::111122223333:role/*", A, True),
        ("ArnEquals", "arn:aws:iam::*:role/team/*", A, True),
        ("ArnLike", "arn:aws:*:role/team/app", A, False),
        ("ArnNotLike", "arn:aws:iam::*:role/team/*", A, False),
        ("ArnNotEquals", "arn:aws:iam::*:role/other", A, True),
        ("ArnLike", "*", A, True),
        ("ArnLike", "*", "x", False),
        ("NumericEquals", "1.0", "1", True),
        ("NumericNotEquals", "1", "1", False),
        ("NumericLessThan", "1", "1", False),
        ("NumericLessThanEquals", "1", "1", True),
        ("NumericGreaterThan", "1", "1", False),
        ("NumericGreaterThanEquals", "1", "1", True),
        ("NumericGreaterThan", 1, "1.5", True),
        ("NumericEquals", "1", "x", False),
        ("NumericEquals", "x", "1", None),
        ("DateEquals", "2026-01-01T00:00:00Z", "1767225600", True),
        ("DateNotEquals", "2026-01-01", "2026-01-01T00:00:00Z", False),
        ("DateLessThan", "2026-01-01T00:00:00Z", "2025-12-31T23:59:59Z", True),
        ("DateLessThan", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", False),
        ("DateGreaterThanEquals", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", True),
        ("DateGreaterThan", "2026-01-01T02:00:00+02:00", "2026-01-01T00:00:01Z", True),
        ("DateLessThan", "soon", "2026-01-01T00:00:00Z", None),
        ("Bool", "true", "true", True),
        ("Bool", True, "true", True),
        ("Bool", "TRUE", "false", False),
        ("Bool", "true", None, False),
        ("BoolIfExists", "true", None, True),
        ("BinaryEquals", "QQ==", "QQ==", True),
        ("BinaryEquals", "QQ==", "qq==", False),
        ("IpAddress", "10.0.0.0/8", "10.1.2.3", True),
        ("IpAddress", ["10.0.0.0/8", "2001:db8::/32"], "2001:db8::1", True),
        ("IpAddress", "10.0.0.1", "10.0.0.2", False),
        ("IpAddress", "10.0.0.0/8", None, False),
        ("NotIpAddress", "10.0.0.0/8", "10.1.2.3", False),
        ("NotIpAddress", "10.0.0.0/8", None, True),
        ("IpAddress", "10.0.0.0/99", "10.1.2.3", None),
        ("Null", "true", None, True),
        ("Null", "true", "x", False),
        ("Null", "false", None, False),
        ("Null", "false", "x", True),
        ("Null", ["true", "false"], "x", True),
        ("ForAllValues:StringEquals", ["a", "b"], ("a", "b"), True),
        ("ForAllValues:StringEquals", ["a", "b"], ("a", "c"), False),
        ("ForAllValues:StringEquals", "a", None, True),
        ("ForAllValues:StringEquals", "a", (), True),
        ("ForAllValues:StringNotEquals", "a", ("b", "c"), True),
        ("ForAllValues:StringNotEquals", "a", ("a", "c"), False),
        ("ForAnyValue:StringEquals", "a", ("a", "c"), True),
        ("ForAnyValue:StringEquals", "a", ("b", "c"), False),
        ("ForAnyValue:StringEquals", "a", None, False),
        ("ForAnyValue:StringNotEquals", "a", ("a", "c"), True),
        ("ForAnyValue:StringNotEquals", "a", ("a",), False),
        ("ForAnyValue:StringNotEquals", "a", None, False),
        ("ForAnyValue:StringLikeIfExists", "a", None, True),
        ("forallvalues:STRINGLIKE", "a*", ("ab", "ac"), True),
        ("StringEquals", "a", UNKNOWN, None),
        ("StringEqualsIfExists", "a", UNKNOWN, None),
        ("Null", "true", UNKNOWN, None),
        ("StringResembles", "a", "a", None),
        ("", "a", "a", None),
        ("StringEquals", [], "a", None),
        ("StringEquals", None, "a", None),
        ("StringEquals", "${v:name}", "me", True),
        ("StringNotEquals", "${v:name}", "me", False),
        ("StringLike", "x-${v:name}-*", "x-me-1", True),
        ("StringLike", "${v:star}", "anything", False),
        ("StringLike", "${v:star}", "*", True),
        ("StringLike", "a${*}", "a*", True),
        ("StringLike", "a${*}", "ab", False),
        ("StringEquals", "${$}{v:name}", "${v:name}", True),
        ("StringEquals", "${v:absent}", "", False),
        ("StringEquals", "${v:absent, 'none'}", "none", True),
        ("StringEquals", "${v:name, 'none'}", "none", False),
        ("StringEquals", "${v:other}", "x", None),
    ],
)
def test_operators(operator: str, wanted: Any, have: Value, *, expected: bool | None) -> None:
    """Covers each operator and quantifier, absent keys, unknown values, and policy variables."""
    elements = read({operator: {"K:Key": wanted}}, CURRENT)
    assert evaluate_all(elements, {"k:key": have, "v:name": "me", "v:star": "*", "v:absent": None}) is expected


def test_keys_and_operators_are_joined_by_and() -> None:
    """All elements must hold; a false element decides, even beside an unknown one."""
    elements = read({"StringEquals": {"a": "1", "b": "2"}, "Bool": {"c": "true"}}, CURRENT)
    assert evaluate_all(elements, {"a": "1", "b": "2", "c": "true"}) is True
    assert evaluate_all(elements, {"a": "1", "b": "2", "c": "false"}) is False
    assert evaluate_all(elements, {"a": "1", "b": UNKNOWN, "c": "true"}) is None
    assert evaluate_all(elements, {"a": "1", "b": UNKNOWN, "c": "false"}) is False
    assert evaluate_all((), {}) is True


def test_variables_are_text_in_old_policies() -> None:
    """Without the current policy version, a variable is plain text."""
    elements = read({"StringEquals": {"k:key": "${v:name}"}}, "2008-10-17")
    assert evaluate_all(elements, {"k:key": "${v:name}", "v:name": "me"}) is True
    assert evaluate_all(elements, {"k:key": "me", "v:name": "me"}) is False

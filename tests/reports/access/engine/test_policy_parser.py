"""Parsing of key policies: every valid form, and invalid documents."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.access.engine.policy_parser import Named, parse

ROOT = "arn:aws:iam::111122223333:root"


def parse_statement(**statement: Any) -> Any:
    policy = parse(orjson.dumps({"Statement": statement}).decode())
    assert len(policy.statements) == 1
    return policy.statements[0]


def test_a_single_statement_object_is_a_statement() -> None:
    """A policy whose Statement is an object instead of a list has that one statement."""
    policy = parse('{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"}}')
    assert policy.readable
    assert [statement.position for statement in policy.statements] == [0]


def test_value_equals_list_of_one_value() -> None:
    """An action equals a list with that action; letter case is preserved."""
    assert (
        parse_statement(Action="KMS:decrypt").actions
        == parse_statement(Action=["KMS:decrypt"]).actions
        == ("KMS:decrypt",)
    )


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("*", (Named("AWS", "*"),)),
        ({"AWS": "*"}, (Named("AWS", "*"),)),
        ({"AWS": ["111122223333", ROOT]}, (Named("AWS", "111122223333"), Named("AWS", ROOT))),
        ({"Service": "logs.amazonaws.com"}, (Named("Service", "logs.amazonaws.com"),)),
        ({"AWS": [], "Federated": "x"}, (Named("Federated", "x"),)),
    ],
)
def test_every_form_of_principal(written: Any, expected: tuple[Named, ...]) -> None:
    """Principals are parsed from a star, a value and a list, with their kinds."""
    statement = parse_statement(Effect="Allow", Action="kms:*", Resource="*", Principal=written)
    assert statement.principals == expected
    assert statement.readable


def test_negated_elements() -> None:
    """NotPrincipal and NotAction are marked as negated."""
    statement = parse_statement(Effect="Deny", NotPrincipal={"AWS": ROOT}, NotAction=["kms:Decrypt"], Resource="*")
    assert (statement.principal_kind, statement.not_actions, statement.actions) == (
        "NotPrincipal",
        True,
        ("kms:Decrypt",),
    )


def test_missing_resource_is_recorded() -> None:
    """A statement without Resource has no effect, so the parser records its absence."""
    assert not parse_statement(Effect="Allow", Principal="*", Action="kms:*").has_resource


def test_names_and_condition_keys() -> None:
    """A statement has its Sid or its position as name, and lists the condition keys that it tests."""
    statement = parse_statement(
        Condition={"StringEquals": {"kms:CallerAccount": "1", "aws:b": "2"}, "Bool": {"aws:a": "true"}}
    )
    assert statement.name == "#0"
    assert statement.condition_keys == ("aws:a", "aws:b", "kms:CallerAccount")
    assert parse_statement(Sid="Use").name == "Use"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        "[]",
        "null",
        '"x"',
        "{}",
        '{"Statement": 7}',
        '{"Statement": [7]}',
        '{"Statement": [{"Effect": "Maybe", "Action": "kms:*", "Principal": "*"}]}',
        '{"Statement": [{"Effect": "Allow", "Action": 7, "Principal": "*"}]}',
        '{"Statement": [{"Effect": "Allow", "Action": "kms:*", "Principal": {"AWS": 7}}]}',
        '{"Statement": [{"Effect": "Allow", "Action": "kms:*", "Principal": "*", "Condition": []}]}',
    ],
)
def test_invalid_policy_is_unreadable(text: str) -> None:
    """An invalid policy or statement is marked as unreadable, not parsed as empty."""
    assert not parse(text).readable


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
ELEMENTS = st.sampled_from(
    ["Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition", "X"]
)


@given(JSON)
def test_parses_any_json(document: Any) -> None:
    """No JSON document makes the parser fail."""
    parse(orjson.dumps(document).decode())


@given(st.text())
def test_parses_any_text(text: str) -> None:
    """No text makes the parser fail."""
    parse(text)


@given(st.lists(st.dictionaries(ELEMENTS, JSON, max_size=5) | JSON, max_size=4))
def test_no_statement_is_lost(statements: list[Any]) -> None:
    """Every statement of the document is present at its position, readable or not."""
    policy = parse(orjson.dumps({"Statement": statements}).decode())
    assert [statement.position for statement in policy.statements] == list(range(len(statements)))
    for statement in policy.statements:
        assert isinstance(statement.name, str)
        assert isinstance(statement.condition_keys, tuple)

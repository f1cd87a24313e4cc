"""Key policies in every shape that AWS accepts, and in shapes that nobody should have written."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.access.engine.policy_parser import Named, parse

ROOT = "arn:aws:iam::111122223333:root"


def one(**statement: Any) -> Any:
    policy = parse(orjson.dumps({"Statement": statement}).decode())
    assert len(policy.statements) == 1
    return policy.statements[0]


def test_a_single_statement_object_is_a_statement() -> None:
    """A policy whose Statement is an object instead of a list has that one statement."""
    policy = parse('{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"}}')
    assert policy.readable
    assert [statement.position for statement in policy.statements] == [0]


def test_values_and_lists_of_values_read_alike() -> None:
    """One action and a list with it are the same, and letter case is kept as written."""
    assert one(Action="KMS:decrypt").actions == one(Action=["KMS:decrypt"]).actions == ("KMS:decrypt",)


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
    """Principals are read from a star, a value and a list, with their kinds."""
    statement = one(Effect="Allow", Action="kms:*", Resource="*", Principal=written)
    assert statement.principals == expected
    assert statement.readable


def test_not_forms_are_told_apart() -> None:
    """NotPrincipal and NotAction are kept as what they are: the opposite of what they list."""
    statement = one(Effect="Deny", NotPrincipal={"AWS": ROOT}, NotAction=["kms:Decrypt"], Resource="*")
    assert (statement.principal_kind, statement.not_actions, statement.actions) == (
        "NotPrincipal",
        True,
        ("kms:Decrypt",),
    )


def test_a_missing_resource_is_seen() -> None:
    """A statement without Resource has no effect, so its absence is a fact."""
    assert not one(Effect="Allow", Principal="*", Action="kms:*").has_resource


def test_names_and_condition_keys() -> None:
    """A statement is called by its Sid or its position, and tells the condition keys it tests."""
    statement = one(Condition={"StringEquals": {"kms:CallerAccount": "1", "aws:b": "2"}, "Bool": {"aws:a": "true"}})
    assert statement.name == "#0"
    assert statement.condition_keys == ("aws:a", "aws:b", "kms:CallerAccount")
    assert one(Sid="Use").name == "Use"


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
def test_what_cannot_be_read_says_so(text: str) -> None:
    """A policy that is no policy, or has a statement that is none, is marked instead of read as empty."""
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
def test_any_json_is_read(document: Any) -> None:
    """No JSON document makes the parser fail."""
    parse(orjson.dumps(document).decode())


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    """No text makes the parser fail."""
    parse(text)


@given(st.lists(st.dictionaries(ELEMENTS, JSON, max_size=5) | JSON, max_size=4))
def test_no_statement_is_lost(statements: list[Any]) -> None:
    """Every statement of the document is there, at its position, whether it could be read or not."""
    policy = parse(orjson.dumps({"Statement": statements}).decode())
    assert [statement.position for statement in policy.statements] == list(range(len(statements)))
    for statement in policy.statements:
        assert isinstance(statement.name, str)
        assert isinstance(statement.condition_keys, tuple)

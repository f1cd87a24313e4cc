"""The canonical form: equivalent policies are equal texts, other policies are not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from models.hashing import content_hash
from models.store.policy_canonical import canonical_policy

STATEMENT: dict[str, Any] = {
    "Sid": "Use",
    "Effect": "Allow",
    "Principal": {"AWS": ["arn:aws:iam::111122223333:role/app", "444455556666"]},
    "Action": ["kms:Decrypt", "kms:Encrypt"],
    "Resource": "*",
    "Condition": {"StringEquals": {"kms:ViaService": ["s3.eu-west-1.amazonaws.com", "rds.eu-west-1.amazonaws.com"]}},
}


def policy(*statements: dict[str, Any], **document: Any) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)} | document)


@pytest.mark.parametrize(
    "same",
    [
        policy(STATEMENT).replace(": ", " :\r\n\t "),
        json.dumps({"Statement": [STATEMENT], "Version": "2012-10-17"}, indent=3),
        policy(dict(reversed(STATEMENT.items()))),
        policy(Statement=STATEMENT),
        policy(STATEMENT | {"Action": ["KMS:encrypt", "kms:Decrypt", "kms:decrypt"]}),
        policy(STATEMENT | {"Resource": ["*"]}),
        policy(
            STATEMENT | {"Principal": {"AWS": ["arn:aws:iam::444455556666:root", "arn:aws:iam::111122223333:role/app"]}}
        ),
        policy(
            STATEMENT
            | {
                "Condition": {
                    "StringEquals": {"kms:ViaService": ["rds.eu-west-1.amazonaws.com", "s3.eu-west-1.amazonaws.com"]}
                }
            }
        ),
    ],
    ids=["white space", "indent", "keys", "one statement", "actions", "resource", "account", "values"],
)
def test_equivalent_policies_are_equal(same: str) -> None:
    """A policy that differs only in form creates no new version."""
    assert canonical_policy(same) == canonical_policy(policy(STATEMENT))


@pytest.mark.parametrize(
    "other",
    [
        STATEMENT | {"Effect": "Deny"},
        STATEMENT | {"Action": ["kms:Decrypt"]},
        STATEMENT | {"NotAction": STATEMENT["Action"], "Action": []},
        STATEMENT | {"Principal": {"AWS": "444455556666"}},
        STATEMENT | {"Principal": {"Service": ["arn:aws:iam::111122223333:role/app", "444455556666"]}},
        STATEMENT | {"Resource": "arn:aws:kms:eu-west-1:111122223333:key/A"},
        STATEMENT | {"Condition": {}},
        STATEMENT | {"Condition": {"StringLike": STATEMENT["Condition"]["StringEquals"]}},
        STATEMENT | {"Sid": "use"},
    ],
)
def test_different_policies_stay_different(other: dict[str, Any]) -> None:
    """The canonical form hides no change of meaning, nor a change of the Sid."""
    assert canonical_policy(policy(other)) != canonical_policy(policy(STATEMENT))


def test_the_letter_case_of_resources_and_values_is_kept() -> None:
    """AWS compares ARNs and condition values case-sensitively."""
    upper = STATEMENT | {"Resource": "arn:aws:kms:eu-west-1:111122223333:key/AB"}
    lower = STATEMENT | {"Resource": "arn:aws:kms:eu-west-1:111122223333:key/ab"}
    assert canonical_policy(policy(upper)) != canonical_policy(policy(lower))


def test_both_forms_of_everyone_are_equal() -> None:
    """A bare star and a star among AWS principals are equal."""
    star = canonical_policy(policy(STATEMENT | {"Principal": "*"}))
    assert star == canonical_policy(policy(STATEMENT | {"Principal": {"AWS": "*"}}))
    assert star == canonical_policy(policy(STATEMENT | {"Principal": {"AWS": ["*"]}}))


def test_json_types_of_values_do_not_matter() -> None:
    """IAM treats true and "true", 300 and "300" alike in conditions."""
    typed = {"Bool": {"kms:GrantIsForAWSResource": True}, "NumericLessThan": {"kms:RotationPeriodInDays": 300}}
    text = {"Bool": {"kms:GrantIsForAWSResource": ["true"]}, "NumericLessThan": {"kms:RotationPeriodInDays": "300"}}
    one, other = (canonical_policy(policy(STATEMENT | {"Condition": condition})) for condition in (typed, text))
    assert one == other


def test_the_canonical_form_is_idempotent() -> None:
    """The canonical form of canonical text is the same text."""
    once = canonical_policy(policy(STATEMENT))
    assert canonical_policy(once) == once


@pytest.mark.parametrize(
    "received",
    ["", "not JSON", "[]", '"text"', "null", "{", '{"a": 1} trailing', "NaN", '{"Statement": ' + "[" * 2000],
)
def test_text_that_is_no_policy_is_kept(received: str) -> None:
    """A policy that cannot be parsed is kept as received and raises no error."""
    assert canonical_policy(received) == received


@pytest.mark.parametrize(
    "statement",
    [
        None,
        7,
        "text",
        [],
        {},
        {"Principal": 5},
        {"Principal": {"AWS": [None]}},
        {"Action": [{"a": 1}]},
        {"Action": [["kms:*"]]},
        {"Condition": []},
        {"Condition": {"StringEquals": 3}},
        {"Principal": {"AWS": [7, None]}},
    ],
)
def test_statements_of_unknown_form_are_kept(statement: Any) -> None:
    """A statement in a form that IAM does not know is kept as it is."""
    assert json.loads(canonical_policy(json.dumps({"Statement": [statement]}))) == {"Statement": [statement]}


def test_hostile_characters_raise_no_error() -> None:
    """NUL and lone surrogates become text that both engines can store."""
    for received in ('{"Sid":"\ud800"}', "\0", '{"Sid":"\\u0000"}', '{"Sid":"\\ud800"}'):
        text = canonical_policy(received)
        assert "\0" not in text
        assert text.encode()
        assert len(content_hash(text)) == 16


@pytest.mark.parametrize("levels", [33, 300, 1000])
def test_a_deeply_nested_policy_is_rejected(levels: int) -> None:
    """The grammar of IAM policies has six levels: one with more than 32 is an invalid response, not a policy."""
    with pytest.raises(ValueError, match="nested more than 32 levels"):
        canonical_policy('{"Statement":{"Sid":' + "[" * levels + "]" * levels + "}}")

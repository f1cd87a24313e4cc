"""Policies that mean the same are the same text; policies that may not are not."""

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
def test_what_aws_does_not_tell_apart_is_one_text(same: str) -> None:
    """A policy that only looks different makes no new version in the history."""
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
def test_what_may_mean_something_else_is_another_text(other: dict[str, Any]) -> None:
    """No change of meaning is hidden by the canonical form; the Sid is a change that a reader wants to see."""
    assert canonical_policy(policy(other)) != canonical_policy(policy(STATEMENT))


def test_the_letter_case_of_resources_and_values_stays() -> None:
    """ARNs and condition values are compared by AWS as they are written."""
    upper = STATEMENT | {"Resource": "arn:aws:kms:eu-west-1:111122223333:key/AB"}
    lower = STATEMENT | {"Resource": "arn:aws:kms:eu-west-1:111122223333:key/ab"}
    assert canonical_policy(policy(upper)) != canonical_policy(policy(lower))


def test_everybody_is_everybody_however_it_is_written() -> None:
    """The bare star and the star among AWS principals are one."""
    star = canonical_policy(policy(STATEMENT | {"Principal": "*"}))
    assert star == canonical_policy(policy(STATEMENT | {"Principal": {"AWS": "*"}}))
    assert star == canonical_policy(policy(STATEMENT | {"Principal": {"AWS": ["*"]}}))


def test_values_of_json_types_are_compared_as_text() -> None:
    """IAM reads true and "true", 300 and "300" alike in conditions."""
    typed = {"Bool": {"kms:GrantIsForAWSResource": True}, "NumericLessThan": {"kms:RotationPeriodInDays": 300}}
    text = {"Bool": {"kms:GrantIsForAWSResource": ["true"]}, "NumericLessThan": {"kms:RotationPeriodInDays": "300"}}
    one, other = (canonical_policy(policy(STATEMENT | {"Condition": condition})) for condition in (typed, text))
    assert one == other


def test_the_canonical_form_is_its_own() -> None:
    """Canonical text can be put through again, as happens when a stored text is compared."""
    once = canonical_policy(policy(STATEMENT))
    assert canonical_policy(once) == once


@pytest.mark.parametrize(
    "received",
    ["", "not JSON", "[]", '"text"', "null", "{", '{"a": 1} trailing', "NaN", '{"Statement": ' + "[" * 2000],
)
def test_what_is_no_policy_is_kept_as_received(received: str) -> None:
    """A policy that cannot be read is kept and shown, never dropped, and stops nothing."""
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
def test_odd_shapes_stop_nothing(statement: Any) -> None:
    """A statement of a shape that IAM does not know is kept as it is."""
    assert json.loads(canonical_policy(json.dumps({"Statement": [statement]}))) == {"Statement": [statement]}


def test_hostile_characters_and_depth_stop_nothing() -> None:
    """NUL, halves of surrogate pairs and absurd nesting come out as text that both engines can store."""
    deep = '{"Statement":{"Sid":' + "[" * 300 + "]" * 300 + "}}"
    for received in ('{"Sid":"\ud800"}', "\0", '{"Sid":"\\u0000"}', '{"Sid":"\\ud800"}', deep):
        text = canonical_policy(received)
        assert "\0" not in text
        assert text.encode()
        assert len(content_hash(text)) == 16

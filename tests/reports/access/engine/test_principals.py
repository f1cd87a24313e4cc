"""Named principals: their type, their account, and known parties."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.access.engine.policy_parser import Named, parse
from reports.access.engine.principals import Principal, classify, known_parties, named

ACCOUNT = "111122223333"


@pytest.mark.parametrize(
    ("kind", "value", "expected", "account"),
    [
        ("AWS", "arn:aws:iam::111122223333:root", "account", ACCOUNT),
        ("AWS", "arn:aws-us-gov:iam::111122223333:root", "account", ACCOUNT),
        ("AWS", ACCOUNT, "account", ACCOUNT),
        ("AWS", "000123456789", "account", "000123456789"),
        ("AWS", "arn:aws:iam::111122223333:role/path/name", "role", ACCOUNT),
        ("AWS", "arn:aws:iam::111122223333:user/name", "user", ACCOUNT),
        ("AWS", "arn:aws:sts::111122223333:assumed-role/aws:ec2-infrastructure/i-0abc", "session", ACCOUNT),
        ("AWS", "arn:aws:sts::111122223333:federated-user/name", "session", ACCOUNT),
        ("AWS", "*", "public", None),
        ("AWS", "AIDAEXAMPLEEXAMPLE123", "deleted", None),
        ("AWS", "AROAEXAMPLEEXAMPLE123", "deleted", None),
        ("AWS", "dynamodb.eu-west-1.amazonaws.com", "service", None),
        ("AWS", "arn:aws:iam::111122223333:role/foo*", "unknown", ACCOUNT),
        ("AWS", "arn:aws:iam::*:root", "unknown", None),
        ("AWS", "", "unknown", None),
        ("Service", "logs.amazonaws.com", "service", None),
        ("Service", "*", "unknown", None),
        ("Federated", "arn:aws:iam::111122223333:saml-provider/idp", "federated", ACCOUNT),
        ("Federated", "accounts.google.com", "federated", None),
        ("CanonicalUser", "79a59df900b949e55d96a1e698fbaced", "canonical", None),
        ("Other", "x", "unknown", None),
    ],
)
def test_kinds(kind: str, value: str, expected: str, account: str | None) -> None:
    """Every form of principal has a type and an account; a wildcard inside a name is unknown."""
    principal = classify(Named(kind, value))
    assert (principal.written, principal.type, principal.account) == (value, expected, account)


def named_by(**statement: Any) -> tuple[Principal, ...]:
    text = orjson.dumps({"Statement": [{"Effect": "Allow", "Action": "kms:*"} | statement]}).decode()
    return named(parse(text).statements[0])


def test_not_principal_names_everyone() -> None:
    """NotPrincipal names everyone, not the principals that it lists."""
    assert named_by(NotPrincipal={"AWS": ACCOUNT}) == (Principal("*", "public"),)


@pytest.mark.parametrize("key", ["kms:CallerAccount", "KMS:calleraccount", "aws:PrincipalAccount"])
def test_everyone_of_an_account_is_the_account(key: str) -> None:
    """A star that is restricted to the caller's account names that account."""
    conditions = {"StringEquals": {key: [ACCOUNT, "000123456789"]}}
    assert named_by(Principal="*", Condition=conditions) == (
        Principal("*", "account", "000123456789"),
        Principal("*", "account", ACCOUNT),
    )


def test_everyone_of_an_organization() -> None:
    """A star that is restricted to an organization names that organization."""
    conditions = {"StringEquals": {"aws:PrincipalOrgID": "o-abc"}}
    assert named_by(Principal="*", Condition=conditions) == (Principal("*", "public", organization="o-abc"),)


@pytest.mark.parametrize(
    "conditions",
    [
        {},
        {"StringLike": {"kms:CallerAccount": "*"}},
        {"StringNotEquals": {"kms:CallerAccount": ACCOUNT}},
        {"StringEqualsIfExists": {"kms:CallerAccount": ACCOUNT}},
        {"ForAllValues:StringEquals": {"kms:CallerAccount": ACCOUNT}},
        {"StringEquals": {"kms:ViaService": "s3.eu-west-1.amazonaws.com"}},
        {"StringEquals": {"aws:ResourceAccount": ACCOUNT}},
        {"StringLike": {"aws:PrincipalOrgID": "o-*"}},
    ],
)
def test_other_conditions_leave_everyone(conditions: dict[str, Any]) -> None:
    """A condition that does not determine the caller's account leaves everyone named."""
    assert named_by(Principal="*", Condition=conditions) == (Principal("*", "public"),)


def test_configured_parties_override_published_ones() -> None:
    """Published vendor accounts have names, and a configured name replaces them."""
    assert known_parties()["754581900792"] == "Checkmarx"
    assert known_parties()["749452252575"] == "Cerby"
    parties = known_parties([("Scanner", ["754581900792", "000000000001"])])
    assert (parties["754581900792"], parties["000000000001"]) == ("Scanner", "Scanner")


@given(st.sampled_from(["AWS", "Service", "Federated", "CanonicalUser", "X"]), st.text())
def test_any_text_has_a_type(kind: str, value: str) -> None:
    """No text makes the classification fail, and an account always has twelve digits."""
    principal = classify(Named(kind, value))
    assert principal.written == value
    assert principal.account is None or (len(principal.account) == 12 and principal.account.isdigit())

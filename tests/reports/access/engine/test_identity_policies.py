"""What the IAM policies of a user or role allow on a key."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reports.access.engine.identity_policies import IdentityAccess, identity_access
from reports.access.engine.model import KeyFacts

ACCOUNT = "111122223333"
KEY = f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/00000000-0000-4000-8000-000000000001"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/app"
FACTS = KeyFacts(KEY, ACCOUNT, tags={"team": "shop"})
DELEGATED = ("kms:Decrypt", "kms:Encrypt", "kms:PutKeyPolicy")


def policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def statement_of(
    effect: str = "Allow", action: Any = "kms:Decrypt", resource: Any = "*", **more: Any
) -> dict[str, Any]:
    return {"Effect": effect, "Action": action, "Resource": resource} | more


def evaluate(
    *statements: dict[str, Any], boundary: str | None = None, bounded: bool = False
) -> tuple[IdentityAccess, ...]:
    return identity_access({"p": policy(*statements)}, boundary, FACTS, DELEGATED, ROLE, bounded=bounded)


@pytest.mark.parametrize(
    ("statement", "operations"),
    [
        (statement_of(), ("kms:Decrypt",)),
        (statement_of(action="kms:*"), DELEGATED),
        (statement_of(action="*"), DELEGATED),
        (statement_of(action=["KMS:decrypt", "s3:*", "kms:GenerateDataKey"]), ("kms:Decrypt",)),
        (statement_of(resource=KEY), ("kms:Decrypt",)),
        (statement_of(resource=f"arn:aws:kms:*:{ACCOUNT}:key/*"), ("kms:Decrypt",)),
        (statement_of(resource=f"arn:aws:kms:eu-west-1:{ACCOUNT}:alias/x"), ()),
        (statement_of(resource="arn:aws:kms:us-east-1:*"), ()),
        ({"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}, DELEGATED),
        ({"Effect": "Allow", "NotAction": "kms:Put*", "Resource": "*"}, ("kms:Decrypt", "kms:Encrypt")),
        ({"Effect": "Allow", "Action": "kms:Decrypt", "NotResource": KEY}, ()),
        ({"Effect": "Allow", "Action": "kms:Decrypt", "NotResource": "arn:aws:s3:::*"}, ("kms:Decrypt",)),
        (statement_of(Condition={"StringEquals": {"aws:ResourceTag/team": "shop"}}), ("kms:Decrypt",)),
        (statement_of(Condition={"StringEquals": {"aws:ResourceTag/team": "other"}}), ()),
        (statement_of("Deny"), ()),
    ],
)
def test_what_a_statement_allows(statement: dict[str, Any], operations: tuple[str, ...]) -> None:
    """Actions and resources support wildcards and negation, within what the key policy delegates to IAM."""
    assert evaluate(statement) == ((IdentityAccess("p", operations),) if operations else ())


def test_unknown_access() -> None:
    """A condition on an unknown value, an unreadable policy and an unknown policy make the access unknown."""
    (access,) = evaluate(statement_of(Condition={"Bool": {"aws:MultiFactorAuthPresent": "true"}}))
    assert (access.operations, access.reason) == (
        ("kms:Decrypt",),
        "the value of aws:MultiFactorAuthPresent is unknown",
    )
    for text, reason in (("no JSON", "the policy could not be parsed"), (None, "the policy document is unknown")):
        (access,) = identity_access({"p": text}, None, FACTS, DELEGATED, ROLE)
        assert (access.operations, access.reason) == (DELEGATED, reason)


def test_deny_wins_and_an_unknown_condition_makes_access_unknown() -> None:
    """A Deny removes its operations; with a condition that cannot be evaluated, they become unknown."""
    assert evaluate(statement_of(action="kms:*"), statement_of("Deny", action="kms:Put*")) == (
        IdentityAccess("p", ("kms:Decrypt", "kms:Encrypt")),
    )
    certain, unsure = evaluate(
        statement_of(action="kms:*"),
        statement_of("Deny", action="kms:Decrypt", Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}),
    )
    assert certain.operations == ("kms:Encrypt", "kms:PutKeyPolicy")
    assert (unsure.operations, unsure.reason) == (("kms:Decrypt",), "a Deny in its policies could not be evaluated")


def test_permissions_boundary() -> None:
    """A permissions boundary allows nothing by itself, limits what is allowed, and makes access unknown when it is unknown."""
    assert evaluate(statement_of(action="kms:*"), boundary=policy(statement_of(action="kms:Enc*")), bounded=True) == (
        IdentityAccess("p", ("kms:Encrypt",)),
    )
    assert evaluate(statement_of(action="s3:*"), boundary=policy(statement_of(action="kms:*")), bounded=True) == ()
    (unsure,) = evaluate(statement_of(), boundary=None, bounded=True)
    assert (unsure.operations, unsure.reason) == (("kms:Decrypt",), "the policy document is unknown")


def test_iam_allows_only_what_the_key_policy_delegates() -> None:
    """An administrator of the account can do no more with the key than the key policy delegates."""
    (access,) = identity_access({"p": policy(statement_of(action="*"))}, None, FACTS, ["kms:DescribeKey"], ROLE)
    assert access.operations == ("kms:DescribeKey",)

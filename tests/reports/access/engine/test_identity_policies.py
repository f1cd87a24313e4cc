"""What IAM policies of a user or role let it do with a key."""

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


def say(effect: str = "Allow", action: Any = "kms:Decrypt", resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": effect, "Action": action, "Resource": resource} | more


def asked(
    *statements: dict[str, Any], boundary: str | None = None, bounded: bool = False
) -> tuple[IdentityAccess, ...]:
    return identity_access({"p": policy(*statements)}, boundary, FACTS, DELEGATED, ROLE, bounded=bounded)


@pytest.mark.parametrize(
    ("statement", "operations"),
    [
        (say(), ("kms:Decrypt",)),
        (say(action="kms:*"), DELEGATED),
        (say(action="*"), DELEGATED),
        (say(action=["KMS:decrypt", "s3:*", "kms:GenerateDataKey"]), ("kms:Decrypt",)),
        (say(resource=KEY), ("kms:Decrypt",)),
        (say(resource=f"arn:aws:kms:*:{ACCOUNT}:key/*"), ("kms:Decrypt",)),
        (say(resource=f"arn:aws:kms:eu-west-1:{ACCOUNT}:alias/x"), ()),
        (say(resource="arn:aws:kms:us-east-1:*"), ()),
        ({"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}, DELEGATED),
        ({"Effect": "Allow", "NotAction": "kms:Put*", "Resource": "*"}, ("kms:Decrypt", "kms:Encrypt")),
        ({"Effect": "Allow", "Action": "kms:Decrypt", "NotResource": KEY}, ()),
        ({"Effect": "Allow", "Action": "kms:Decrypt", "NotResource": "arn:aws:s3:::*"}, ("kms:Decrypt",)),
        (say(Condition={"StringEquals": {"aws:ResourceTag/team": "shop"}}), ("kms:Decrypt",)),
        (say(Condition={"StringEquals": {"aws:ResourceTag/team": "other"}}), ()),
        (say("Deny"), ()),
    ],
)
def test_what_a_statement_allows(statement: dict[str, Any], operations: tuple[str, ...]) -> None:
    """Actions and resources with wildcards, negated or not, within what the key policy leaves to IAM."""
    assert asked(statement) == ((IdentityAccess("p", operations),) if operations else ())


def test_what_cannot_be_known_is_unknown() -> None:
    """A condition on what only the call tells, a policy that cannot be read, and one that is not known allow perhaps."""
    (found,) = asked(say(Condition={"Bool": {"aws:MultiFactorAuthPresent": "true"}}))
    assert (found.operations, found.reason) == (
        ("kms:Decrypt",),
        "the value of aws:MultiFactorAuthPresent is not known",
    )
    for text, reason in (("no JSON", "the policy cannot be read"), (None, "the policy is not known")):
        (found,) = identity_access({"p": text}, None, FACTS, DELEGATED, ROLE)
        assert (found.operations, found.reason) == (DELEGATED, reason)


def test_a_deny_wins_and_a_conditional_one_leaves_doubt() -> None:
    """A Deny takes away; one whose condition cannot be judged makes what it is about unknown."""
    assert asked(say(action="kms:*"), say("Deny", action="kms:Put*")) == (
        IdentityAccess("p", ("kms:Decrypt", "kms:Encrypt")),
    )
    certain, unsure = asked(
        say(action="kms:*"), say("Deny", action="kms:Decrypt", Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}})
    )
    assert certain.operations == ("kms:Encrypt", "kms:PutKeyPolicy")
    assert (unsure.operations, unsure.reason) == (("kms:Decrypt",), "a Deny among its policies cannot be judged")


def test_a_boundary_bounds() -> None:
    """A permissions boundary allows nothing by itself, bounds what is allowed, and leaves doubt when it is not known."""
    assert asked(say(action="kms:*"), boundary=policy(say(action="kms:Enc*")), bounded=True) == (
        IdentityAccess("p", ("kms:Encrypt",)),
    )
    assert asked(say(action="s3:*"), boundary=policy(say(action="kms:*")), bounded=True) == ()
    (unsure,) = asked(say(), boundary=None, bounded=True)
    assert (unsure.operations, unsure.reason) == (("kms:Decrypt",), "the policy is not known")


def test_nothing_is_allowed_that_the_key_policy_does_not_leave_to_iam() -> None:
    """An administrator of the account can do no more with the key than is delegated."""
    (found,) = identity_access({"p": policy(say(action="*"))}, None, FACTS, ["kms:DescribeKey"], ROLE)
    assert found.operations == ("kms:DescribeKey",)

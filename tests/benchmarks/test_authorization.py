"""The endpoint enforces policies as IAM evaluates them, and rejects those that it would enforce in part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from benchmarks.fake_aws.authorization import Authorization, Role
from benchmarks.fake_aws.client import FakeAws
from benchmarks.fake_aws.identity import Session


def policy(*statements: dict[str, Any]) -> dict[str, Any]:
    """A policy document; statements are Allow on all resources unless they say something else."""
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Resource": "*", **each} for each in statements]}


@pytest.fixture
def enforcing(fake: FakeAws) -> Iterator[FakeAws]:
    yield fake
    fake.control.enforce()


def code(call: Any, **arguments: Any) -> str:
    """The error code of a call; empty if it succeeds."""
    try:
        call(**arguments)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""


@pytest.mark.parametrize(
    ("document", "is_allowed"),
    [
        (policy(), False),
        (policy({"Action": "kms:ListKeys"}), True),
        (policy({"Action": ["KMS:list*"]}), True),
        (policy({"Action": "kms:ListKey?"}), True),
        (policy({"Action": "kms:ListKey"}), False),
        (policy({"Action": "*"}, {"Effect": "Deny", "Action": "kms:List*"}), False),
        (policy({"Action": "kms:ListKeys", "Resource": "arn:aws:kms:*:*:key/x"}), False),
    ],
)
def test_the_crawlers_identity_may_do_what_its_policy_allows(
    enforcing: FakeAws, document: dict[str, Any], is_allowed: bool
) -> None:
    """Actions may have wildcards in any case, a Deny wins, and no statement means no permission."""
    enforcing.control.enforce(document)
    listed = code(enforcing.session().client("kms").list_keys)
    assert listed == ("" if is_allowed else "AccessDeniedException")
    call = (enforcing.world.management.id, "kms:ListKeys")
    assert enforcing.control.authorized() == (({call}, set()) if is_allowed else (set(), {call}))


def test_without_policies_everything_is_allowed(enforcing: FakeAws) -> None:
    """The caller's identity needs no permission, and policies can be removed."""
    enforcing.control.enforce(policy())
    assert code(enforcing.session().client("sts").get_caller_identity) == ""
    enforcing.control.enforce()
    assert code(enforcing.session().client("kms").list_keys) == ""


def test_a_role_is_assumed_with_both_policies(enforcing: FakeAws) -> None:
    """The caller's policy and the trust policy have to allow the call, its tags and its source identity."""
    world = enforcing.world
    caller = f"arn:aws:iam::{world.management.id}:user/kmsledger"
    role = world.parameters.role_name
    arn = f"arn:aws:iam::{world.accounts[1].id}:role/{role}"
    everything = policy({"Action": "sts:*"})

    def trust(*actions: str, principal: str = caller, external_id: str = "fake-external-id") -> dict[str, Any]:
        condition = {"StringEquals": {"sts:ExternalId": external_id}}
        return policy({"Principal": {"AWS": principal}, "Action": list(actions), "Condition": condition})

    def assume(identity: dict[str, Any], trusted: dict[str, Any], **more: Any) -> str:
        enforcing.control.enforce(identity, **{role: {"permissions": policy({"Action": "kms:*"}), "trust": trusted}})
        request = {"RoleArn": arn, "RoleSessionName": "test", "ExternalId": "fake-external-id", **more}
        return code(enforcing.session().client("sts").assume_role, **request)

    tags = {"Tags": [{"Key": "team", "Value": "security"}]}
    assert assume(everything, trust("sts:AssumeRole")) == ""
    assert assume(everything, trust("sts:AssumeRole", principal=f"arn:aws:iam::{world.management.id}:root")) == ""
    assert assume(policy({"Action": "sts:AssumeRole", "Resource": f"arn:aws:iam::*:role/{role}"}), trust("sts:*")) == ""
    assert (
        assume(policy({"Action": "sts:AssumeRole", "Resource": "arn:aws:iam::*:role/x"}), trust("sts:*"))
        == "AccessDenied"
    )
    assert assume(everything, trust("sts:AssumeRole", external_id="other")) == "AccessDenied"
    assert assume(everything, trust("sts:AssumeRole", principal=arn)) == "AccessDenied"
    assert assume(everything, trust("sts:AssumeRole"), **tags) == "AccessDenied"
    assert assume(everything, trust("sts:AssumeRole", "sts:TagSession"), **tags) == ""
    assert assume(policy({"Action": "sts:AssumeRole"}), trust("sts:*"), **tags) == "AccessDenied"
    assert assume(everything, trust("sts:AssumeRole"), SourceIdentity="nightly") == "AccessDenied"
    assert assume(everything, trust("sts:*"), SourceIdentity="nightly") == ""


def test_a_session_has_what_role_and_session_policy_allow() -> None:
    """The session policy of sts:AssumeRole restricts the session to what both policies allow."""
    session = Session("111122223333", "arn:aws:sts::111122223333:assumed-role/Reader/x", "AROA", "ASIAX", "secret", 0.0)
    role = Role(policy({"Action": ["kms:ListKeys", "kms:ListAliases"]}), policy())
    authorization = Authorization(
        policy(), {"Reader": role}, _session_policies={"ASIAX": policy({"Action": "kms:ListKeys"})}
    )

    class Call:
        def __init__(self, operation: str) -> None:
            self.operation, self.session, self.params = operation, session, dict[str, Any]()

        def denied(self, reason: str) -> PermissionError:
            return PermissionError(reason)

    authorization.check(Call("kms:ListKeys"))  # type: ignore[arg-type]  # what the check uses of a call
    with pytest.raises(PermissionError):
        authorization.check(Call("kms:ListAliases"))  # type: ignore[arg-type]  # as above


@pytest.mark.parametrize(
    "statement", [{"NotAction": "kms:*"}, {"Action": "kms:*", "Condition": {"ArnLike": {"aws:PrincipalArn": "*"}}}]
)
def test_a_policy_is_not_enforced_in_part(enforcing: FakeAws, statement: dict[str, Any]) -> None:
    """Elements and conditions that the endpoint does not know are an error, not ignored."""
    with pytest.raises(ValueError, match="does not enforce"):
        enforcing.control.enforce(policy(statement))

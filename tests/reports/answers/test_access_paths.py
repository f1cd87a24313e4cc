"""The access paths of one identity."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from reports.answers.access_paths import protected_key
from reports.answers.policy_documents import document
from reports.answers.repository import Identity, Key
from reports.answers.secret_access import kms_request_context
from tests.reports.access.engine.cases import FACTS, KEY, ORGANIZATION, OWNER, allow, aws, deny, policy_of, root

BOB = f"arn:aws:iam::{OWNER}:user/bob"
EVERYTHING = json.dumps({"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}})


@pytest.mark.parametrize(("boundary", "operations"), [(None, [("kms:Decrypt",)]), (EVERYTHING, [])])
def test_not_principal_never_exempts_an_identity_with_a_boundary(
    boundary: str | None, operations: list[tuple[str, ...]]
) -> None:
    """A Deny with NotPrincipal applies to every principal that has a boundary (IAM user guide: NotPrincipal)."""
    policy = policy_of([allow(aws(BOB)), deny(None, NotPrincipal=aws(BOB, root()))])
    key = Key(FACTS, KEY, "eu-west-1", "Enabled", policy, "", (), "")
    bob = Identity(BOB, OWNER, "user", boundary=document("boundary", boundary) if boundary else None)
    paths = protected_key(key, ORGANIZATION).access_paths(bob, ["kms:Decrypt"])
    assert [path.operations for path in paths] == operations


@pytest.mark.parametrize(
    ("partition", "service", "certain"),
    [
        ("aws", "secretsmanager.eu-west-1.amazonaws.com", [True]),
        ("aws", "secretsmanager.eu-west-1.amazonaws.com.cn", []),
        ("aws-us-gov", "secretsmanager.us-gov-west-1.amazonaws.com", [True]),
        ("aws-cn", "secretsmanager.cn-north-1.amazonaws.com", [False]),
        ("aws-cn", "secretsmanager.cn-north-1.amazonaws.com.cn", [False]),
    ],
)
def test_the_name_of_a_service_in_other_partitions_is_unknown(
    partition: str, service: str, certain: list[bool]
) -> None:
    """In China, service names end in amazonaws.com or amazonaws.com.cn (Getting started with AWS in China: IAM)."""
    region = service.split(".")[1]
    facts = replace(FACTS, arn=KEY.replace("arn:aws:", f"arn:{partition}:"))
    bob = Identity(BOB.replace("arn:aws:", f"arn:{partition}:"), OWNER, "user")
    policy = policy_of([allow(aws(bob.arn), when={"StringEquals": {"kms:ViaService": service}})])
    context = kms_request_context(f"arn:{partition}:secretsmanager:{region}:{OWNER}:secret:x", region)
    key = Key(facts, facts.arn, region, "Enabled", policy, "", (), "")
    paths = protected_key(key, ORGANIZATION, context).access_paths(bob, ["kms:Decrypt"])
    assert [path.certain for path in paths] == certain

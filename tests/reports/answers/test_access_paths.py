"""The access paths of one identity."""

from __future__ import annotations

import json

import pytest

from reports.answers.access_paths import protected_key
from reports.answers.policy_documents import document
from reports.answers.repository import Identity, Key
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

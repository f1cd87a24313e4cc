"""The statements of IAM policies on KMS."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reports.access.engine.identity_policies import IdentityStatement, read_identity
from reports.access.engine.kms_actions import BY_POLICY_MASK, mask, matching
from reports.access.engine.solver import rules_of
from reports.answers.policy_documents import document, rules_about
from tests.reports.access.engine.cases import policy_of

KEY = "arn:aws:kms:eu-west-1:111122223333:key/00000000-0000-4000-8000-000000000001"


def policy(*statements: Any) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def statement_of(action: Any = "kms:Decrypt", resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource} | more


@pytest.mark.parametrize(
    ("statement", "operations", "resources", "inverted"),
    [
        (statement_of(), {"Decrypt"}, ("*",), False),
        (statement_of(["KMS:decrypt", "s3:*", "kms:GenerateMac"]), {"Decrypt", "GenerateMac"}, ("*",), False),
        (statement_of("kms:ReEncrypt*", [KEY, "*"]), {"ReEncryptFrom", "ReEncryptTo"}, (KEY, "*"), False),
        ({"Effect": "Allow", "Action": "kms:Decrypt", "NotResource": KEY}, {"Decrypt"}, (KEY,), True),
    ],
)
def test_what_a_statement_allows(
    statement: dict[str, Any], operations: set[str], resources: tuple[str, ...], inverted: bool
) -> None:
    """Actions support wildcards and letter case; resources are kept as written, with NotResource marked."""
    assert read_identity(policy(statement)) == (IdentityStatement(True, mask(operations), resources, inverted),)


@pytest.mark.parametrize("resource", ["arn:aws:kms", "arn:aws", "arn:aws:kms:*", "arn:aws:kms:eu-west-1:111122223333"])
@pytest.mark.parametrize("effect", ["Allow", "Deny"])
def test_a_shortened_arn_matches_every_resource_in_the_missing_fields(resource: str, effect: str) -> None:
    """An ARN without its last fields includes all of their values (IAM user guide: IAM JSON policy elements, Resource)."""
    text = policy(statement_of("kms:Decrypt", resource, Effect=effect))
    rules = rules_about([document("inline", text)], "kms:Decrypt", KEY)
    assert [match.certain for match in (*rules.allows, *rules.denies)] == [True]
    other = policy(statement_of("kms:Decrypt", resource.replace("aws", "aws-cn"), Effect=effect))
    rules = rules_about([document("inline", other)], "kms:Decrypt", KEY)
    assert not rules.allows
    assert not rules.denies
    assert [rule.about_key for rule in rules_of(policy_of({"Effect": effect, "Resource": resource}), KEY)] == [True]


def test_every_action_and_negated_actions() -> None:
    """`*` and `kms:*` name every operation that a key policy controls; NotAction names the others."""
    for action in ("*", "kms:*"):
        assert read_identity(policy(statement_of(action)))[0].operations == BY_POLICY_MASK
    (statement,) = read_identity(policy({"Effect": "Deny", "NotAction": "kms:Put*", "Resource": "*"}))
    assert (statement.allow, statement.operations) == (False, BY_POLICY_MASK & ~matching(("kms:Put*",)))


def test_statements_on_other_services_are_omitted() -> None:
    """A statement without a KMS operation has no row; a single statement needs no list."""
    assert read_identity(policy(statement_of("s3:*"))) == ()
    assert len(read_identity(json.dumps({"Statement": statement_of()}))) == 1


def test_conditions_are_parsed() -> None:
    """A statement keeps its conditions as elements."""
    (statement,) = read_identity(policy(statement_of(Condition={"Bool": {"aws:MultiFactorAuthPresent": "true"}})))
    assert [element.written for element in statement.elements] == ["aws:MultiFactorAuthPresent"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "the policy document is unknown"),
        ("no JSON", "the policy could not be parsed"),
        (policy("no statement"), "a statement could not be parsed"),
        (policy({"Action": "kms:*", "Resource": "*"}), "a statement could not be parsed"),
    ],
)
def test_an_unreadable_policy_may_allow_or_deny_anything(text: str | None, reason: str) -> None:
    """A policy or statement that cannot be parsed may allow or deny every operation on every key."""
    assert [(each.allow, each.operations, each.resources, each.reason) for each in read_identity(text)] == [
        (allow, BY_POLICY_MASK, ("*",), reason) for allow in (True, False)
    ]


def test_an_unreadable_part_of_a_statement_keeps_its_effect() -> None:
    """A statement with an effect and invalid resources may apply to every key, with that effect only."""
    (statement,) = read_identity(policy(statement_of(resource=[1])))
    assert (statement.allow, statement.operations, statement.reason) == (
        True,
        BY_POLICY_MASK,
        "a statement could not be parsed",
    )

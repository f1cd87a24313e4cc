"""One concrete question, paths, sentences, shapes of grants, and what an analysis depends on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reports.access.engine import kms_actions
from reports.access.engine.evaluator import allowed, paths_of
from reports.access.engine.grant_analysis import analyse_grant, constraint_scope, grant_shape
from reports.access.engine.model import Access, Decision, Effect, KeyFacts
from reports.access.engine.policy_analysis import analyse_policy, cache_key
from reports.access.engine.wildcards import common, filled, matches
from tests.reports.access.engine.cases import (
    ADMIN,
    APP,
    CHECKMARX,
    FACTS,
    KEY,
    ORGANIZATION,
    OUTSIDER,
    OWNER,
    SISTER,
    allow,
    aws,
    deny,
    grant_of,
    policy_of,
    root,
    service,
)

S3 = "s3.eu-west-1.amazonaws.com"
POLICY = policy_of(
    [
        allow(aws(root()), "kms:*", Sid="Root"),
        allow(aws(APP, root(CHECKMARX)), ["kms:Decrypt", "kms:DescribeKey"], Sid="Use"),
        allow(aws(root(OUTSIDER)), "kms:Decrypt", {"StringEquals": {"kms:ViaService": S3}}, Sid="Via"),
        allow(service("logs.amazonaws.com"), "kms:Decrypt", {"StringEquals": {"aws:SourceAccount": OWNER}}, Sid="Logs"),
        deny("*", "kms:ScheduleKeyDeletion", Sid="Keep"),
        deny("*", "kms:Decrypt", {"StringEquals": {"aws:PrincipalTag/quarantine": "yes"}}, Sid="Quarantine"),
    ]
)


@pytest.mark.parametrize(
    ("caller", "operation", "context", "effect", "via", "iam"),
    [
        (APP, "kms:Decrypt", {}, "allow", "Use", False),
        (APP, "KMS:DECRYPT", None, "allow", "Use", False),
        (APP, "kms:Decrypt", {"aws:PrincipalTag/quarantine": "yes"}, "deny", "Quarantine", False),
        (APP, "kms:Encrypt", {}, "allow", "Root", True),
        (ADMIN, "kms:Decrypt", {}, "allow", "Root", True),
        (ADMIN, "kms:ScheduleKeyDeletion", {}, "deny", "Keep", False),
        (OWNER, "kms:PutKeyPolicy", None, "allow", "Root", True),
        (root(), "kms:PutKeyPolicy", {}, "allow", "Root", True),
        (CHECKMARX, "kms:Decrypt", None, "allow", "Use", True),
        (f"arn:aws:iam::{CHECKMARX}:role/x", "kms:DescribeKey", {}, "allow", "Use", True),
        (CHECKMARX, "kms:Encrypt", None, "deny", "", False),
        (CHECKMARX, "kms:PutKeyPolicy", None, "deny", "", False),
        (OUTSIDER, "kms:Decrypt", None, "allow", "Via", True),
        (OUTSIDER, "kms:Decrypt", {}, "deny", "", False),
        (OUTSIDER, "kms:Decrypt", {"KMS:ViaService": S3}, "allow", "Via", True),
        (OUTSIDER, "kms:Decrypt", {"kms:ViaService": "ec2.eu-west-1.amazonaws.com"}, "deny", "", False),
        ("logs.amazonaws.com", "kms:Decrypt", {"aws:SourceAccount": OWNER}, "allow", "Logs", True),
        ("logs.amazonaws.com", "kms:Decrypt", {"aws:SourceAccount": OUTSIDER}, "deny", "", False),
        (f"arn:aws:sts::{OWNER}:assumed-role/app/run", "kms:Decrypt", {}, "allow", "Use", False),
        (APP, "kms:RetireGrant", None, "unknown", "", False),
        (APP, "kms:ListKeys", None, "deny", "", False),
        (APP, "kms:Transmogrify", None, "unknown", "", False),
        ("nobody", "kms:Decrypt", None, "unknown", "", False),
    ],
)
def test_one_question(
    caller: str, operation: str, context: dict[str, Any] | None, effect: str, via: str, *, iam: bool
) -> None:
    """The effect, the statement that decides, and whether the caller's own IAM has a say."""
    found = allowed(POLICY, FACTS, ORGANIZATION, caller, operation, context)
    assert (found.effect, found.source_id) == (effect, via)
    if found.effect is Effect.ALLOW and not caller.endswith(".com"):
        assert found.needs_iam is iam
    assert found.reason or found.effect is Effect.ALLOW


def test_what_does_not_work_from_outside() -> None:
    """A statement that gives an outside account everything gives it no administration; its own account gets that."""
    open_to_them = policy_of([allow(aws(root(OUTSIDER), root()), "kms:*")])
    assert allowed(open_to_them, FACTS, ORGANIZATION, OUTSIDER, "kms:PutKeyPolicy").effect is Effect.DENY
    assert allowed(open_to_them, FACTS, ORGANIZATION, OWNER, "kms:PutKeyPolicy").effect is Effect.ALLOW
    assert allowed(open_to_them, FACTS, ORGANIZATION, OUTSIDER, "kms:CreateGrant").effect is Effect.ALLOW


def test_a_broken_statement_leaves_a_question_open() -> None:
    """What a statement that cannot be read would say is not assumed, either way; a Deny that can be read stands."""
    broken = policy_of([allow(aws(APP)), 7, deny("*", "kms:Encrypt")])
    assert allowed(broken, FACTS, ORGANIZATION, APP, "kms:Decrypt").effect is Effect.UNKNOWN
    assert allowed(broken, FACTS, ORGANIZATION, APP, "kms:Sign").effect is Effect.UNKNOWN


def test_too_many_conditions_are_unknown_and_not_private() -> None:
    """A policy with more patterns than can be tried gives no answer, where a smaller one of its kind gives the right one."""

    def tangled(patterns: int) -> Any:
        allowing = {"StringLike": {"aws:PrincipalTag/t": [f"v{number}*" for number in range(patterns)]}}
        return policy_of([allow(when=allowing), deny(when={"StringNotLike": {"aws:PrincipalTag/t": "*0q*"}})])

    assert allowed(tangled(3), FACTS, ORGANIZATION, OUTSIDER, "kms:Decrypt").effect is Effect.ALLOW
    assert allowed(tangled(40), FACTS, ORGANIZATION, OUTSIDER, "kms:Decrypt").effect is Effect.ALLOW
    hopeless = policy_of(
        [
            allow(when={"StringLike": {"aws:PrincipalTag/t": [f"v{number}*" for number in range(90)]}}),
            deny(when={"StringNotLike": {"aws:PrincipalTag/t": "*qqq*"}}),
        ]
    )
    assert allowed(hopeless, FACTS, ORGANIZATION, OUTSIDER, "kms:Decrypt").effect is Effect.UNKNOWN


def test_an_unknown_tag_leaves_a_question_open() -> None:
    """A condition on tags that were not crawled makes the answer unknown, and the reason names the key."""
    tagged = policy_of([allow(aws(APP), when={"StringEquals": {"aws:ResourceTag/a": "b"}})])
    found = allowed(tagged, FACTS, ORGANIZATION, APP, "kms:Decrypt")
    assert found == Decision(
        Effect.UNKNOWN, "#0", 0, needs_iam=False, reason="the value of aws:ResourceTag/a is not known"
    )
    known = replace(FACTS, tags={"a": "b"})
    assert allowed(tagged, known, ORGANIZATION, APP, "kms:Decrypt").effect is Effect.ALLOW


def test_paths_are_all_the_ways() -> None:
    """A vendor with a statement and a grant keeps access when one of them goes; strangers are no path of theirs."""
    verdicts = analyse_policy(POLICY, FACTS, ORGANIZATION).verdicts
    grant = analyse_grant(grant_of({"grantee_principal": f"arn:aws:iam::{CHECKMARX}:role/x"}), FACTS, ORGANIZATION)
    both = paths_of((*verdicts, *grant), CHECKMARX, "kms:Decrypt")
    assert [(one.path, one.source_id) for one in both] == [("policy", "Use"), ("grant", "g-1")]
    assert [one.source_id for one in paths_of(verdicts, root(CHECKMARX), "decrypt")] == ["Use"]
    assert [one.source_id for one in paths_of((*verdicts, *grant), CHECKMARX, "kms:DescribeKey")] == ["Use"]
    assert paths_of(verdicts, CHECKMARX, "kms:Encrypt") == ()
    assert [one.source_id for one in paths_of(verdicts, APP, "kms:Decrypt")] == ["Root", "Use"]
    assert [one.source_id for one in paths_of(verdicts, ADMIN, "kms:Decrypt")] == ["Root"]
    assert [one.source_id for one in paths_of(grant, f"arn:aws:iam::{CHECKMARX}:role/y", "kms:Decrypt")] == []
    session = f"arn:aws:sts::{CHECKMARX}:assumed-role/x/s"
    assert [one.source_id for one in paths_of(grant, session, "kms:Decrypt")] == ["g-1"]


def test_paths_of_everyone_and_of_the_organization() -> None:
    """A public path is everyone's; a path of the organization is that of its accounts only."""
    public = analyse_policy(policy_of([allow()]), FACTS, ORGANIZATION).verdicts
    assert [one.access for one in paths_of(public, OUTSIDER, "kms:Decrypt")] == [Access.PUBLIC]
    ours = policy_of([allow(when={"StringEquals": {"aws:PrincipalOrgID": ORGANIZATION.organization_id}})])
    verdicts = analyse_policy(ours, FACTS, ORGANIZATION).verdicts
    assert [one.access for one in paths_of(verdicts, SISTER, "kms:Decrypt", ORGANIZATION)] == [Access.ORGANIZATION]
    assert paths_of(verdicts, OUTSIDER, "kms:Decrypt", ORGANIZATION) == ()


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        (
            allow(aws(root(CHECKMARX)), Sid="Use"),
            f"Account {CHECKMARX} (Checkmarx) can kms:Decrypt through statement Use, if its own IAM allows.",
        ),
        (allow(), "Anyone in any AWS account can kms:Decrypt through statement #0, if their own IAM allows."),
        (allow(aws(APP)), f"{APP} can kms:Decrypt through statement #0."),
        (
            allow(aws(root())),
            f"Account {OWNER} can kms:Decrypt through statement #0, if IAM policies in account {OWNER} allow it.",
        ),
        (
            allow(aws(APP), when={"StringEquals": {"kms:ViaService": S3}}),
            f"{APP} can kms:Decrypt through statement #0, only through {S3}.",
        ),
        (
            allow(aws("AROAEXAMPLEEXAMPLE123")),
            "AROAEXAMPLEEXAMPLE123 no longer exists; statement #0 still allows it kms:Decrypt.",
        ),
        (allow(service("a.amazonaws.com")), "The AWS service a.amazonaws.com can kms:Decrypt through statement #0."),
        (
            allow(aws(APP), when={"StringEquals": {"foo:bar": "x"}}),
            (
                f"It is not known whether {APP} can kms:Decrypt through statement #0, only if foo:bar is x: "
                "the value of foo:bar is not known."
            ),
        ),
    ],
)
def test_sentences(statement: dict[str, Any], sentence: str) -> None:
    """A verdict reads as one sentence with who, what, through which statement, and what narrows it."""
    assert analyse_policy(policy_of([statement]), FACTS, ORGANIZATION).verdicts[0].message == sentence


def test_a_witness_is_a_concrete_call() -> None:
    """A verdict on strangers shows an unrelated account, an operation, and the context it made up."""
    when = {"StringEquals": {"kms:ViaService": S3}, "StringLike": {"kms:EncryptionContext:app": "a-*"}}
    verdict = analyse_policy(policy_of([allow(when=when)]), FACTS, ORGANIZATION).verdicts[0]
    assert verdict.access is Access.PUBLIC_VIA_SERVICE
    assert verdict.witness is not None
    assert verdict.witness.account not in {None, OWNER, SISTER, CHECKMARX}
    assert verdict.witness.caller == f"arn:aws:iam::{verdict.witness.account}:role/stranger"
    assert verdict.witness.operation == "kms:Decrypt"
    assert verdict.witness.context == {"kms:viaservice": S3, "kms:encryptioncontext:app": "a-example"}


def test_grants_of_many_volumes_have_one_shape() -> None:
    """Sessions and constraint values make no shapes of their own, unless a Deny could tell them apart."""

    def made(number: int) -> dict[str, Any]:
        return {
            "grant_id": f"g-{number}",
            "grantee_principal": f"arn:aws:sts::{OWNER}:assumed-role/aws:ec2-infrastructure/i-{number}",
            "constraints": {"EncryptionContextSubset": {"aws:ebs:id": f"vol-{number}"}},
        }

    grants = [grant_of(made(number)) for number in range(3)]
    assert len({grant_shape(grant) for grant in grants}) == 1
    assert len({grant_shape(grant, policy_of([allow()])) for grant in grants}) == 1
    assert len({grant_shape(grant, policy_of([deny()])) for grant in grants}) == 3
    assert constraint_scope(grants[2].constraints) == "encryption context aws:ebs:id=vol-2"
    assert constraint_scope(None) == ""


def test_what_an_analysis_depends_on() -> None:
    """Keys share an analysis of one policy unless it asks about something in which they differ."""
    other = replace(FACTS, arn=KEY[:-4] + "ffff", tags={"a": "b"}, aliases=("alias/x",))
    plain = policy_of([allow()])
    assert cache_key(plain, FACTS) == cache_key(plain, other)
    assert cache_key(plain, FACTS) != cache_key(plain, KeyFacts(KEY, OUTSIDER))
    assert cache_key(plain, FACTS) != cache_key(plain, replace(FACTS, manager="AWS"))
    for asking in (
        allow(Resource=KEY),
        allow(when={"StringEquals": {"aws:ResourceTag/a": "b"}}),
        allow(when={"ForAnyValue:StringEquals": {"KMS:RESOURCEALIASES": "alias/x"}}),
    ):
        assert cache_key(policy_of([asking]), FACTS) != cache_key(policy_of([asking]), other)


def test_the_operations_of_kms() -> None:
    """Grants carry nineteen operations; from another account the documented ones work; names come back as written."""
    assert len(kms_actions.GRANTABLE) == 19
    assert len(kms_actions.CROSS_ACCOUNT) == 22
    assert not kms_actions.KEY_LEVEL & kms_actions.ACCOUNT_LEVEL
    assert kms_actions.names(kms_actions.matching(("KMS:reencrypt*",))) == ("kms:ReEncryptFrom", "kms:ReEncryptTo")
    assert kms_actions.names(kms_actions.matching(("kms:*",), negated=True)) == ()
    assert kms_actions.unknown_names(("kms:Decrypt", "kms:New", "s3:New", "kms:N*")) == ("kms:New",)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("a*", "*b", True),
        ("a*c", "ab*d*", True),
        ("a*c", "*b", False),
        ("a?c", "ab*", True),
        ("abc", "a*", True),
        ("abc", "abd", False),
        ("*x*", "*y*", True),
    ],
)
def test_what_two_patterns_have_in_common(one: str, other: str, *, expected: bool) -> None:
    """A text that both patterns match is found when there is one."""
    found = common(one, other)
    assert (found is not None) is expected
    if found is not None:
        assert matches(one, found)
        assert matches(other, found)


def test_patterns() -> None:
    """Stars and question marks match as IAM's do, without trouble from hostile patterns."""
    assert matches("a*b?", "axxbc")
    assert not matches("a*b?", "axxb")
    assert not matches("*a" * 40 + "b", "a" * 400)
    assert matches("a.c", "a.c")
    assert not matches("a.c", "abc")
    assert filled("a*?") == "aexamplex"

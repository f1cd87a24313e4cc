"""Decisions on single requests, access paths, messages, and the inputs of an analysis."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest

from reports.access.engine import kms_actions
from reports.access.engine.analysis_key import cache_key, context_inputs, organization_key
from reports.access.engine.evaluator import allowed
from reports.access.engine.grant_analysis import analyse_grant, constraint_conditions
from reports.access.engine.model import Access, Decision, Effect, KeyFacts, Organization
from reports.access.engine.policy_analysis import analyse_policy
from reports.access.engine.wildcards import common_match, example_match, matches
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
from tests.reports.access.engine.paths import paths_of

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
def test_decision_on_a_request(
    caller: str, operation: str, context: dict[str, Any] | None, effect: str, via: str, *, iam: bool
) -> None:
    """A decision has the effect, the deciding statement, and whether the caller's own IAM policies matter."""
    decision = allowed(POLICY, FACTS, ORGANIZATION, caller, operation, context)
    assert (decision.effect, decision.source_id) == (effect, via)
    if decision.effect is Effect.ALLOW and not caller.endswith(".com"):
        assert decision.needs_iam is iam
    assert decision.reason or decision.effect is Effect.ALLOW


def test_administration_does_not_work_across_accounts() -> None:
    """A statement with all actions gives a foreign account no administration, but gives it to the owner's account."""
    shared = policy_of([allow(aws(root(OUTSIDER), root()), "kms:*")])
    assert allowed(shared, FACTS, ORGANIZATION, OUTSIDER, "kms:PutKeyPolicy").effect is Effect.DENY
    assert allowed(shared, FACTS, ORGANIZATION, OWNER, "kms:PutKeyPolicy").effect is Effect.ALLOW
    assert allowed(shared, FACTS, ORGANIZATION, OUTSIDER, "kms:CreateGrant").effect is Effect.ALLOW


def test_unreadable_statement_makes_decisions_unknown() -> None:
    """An unreadable statement could allow or deny anything; a readable Deny still applies."""
    unreadable = policy_of([allow(aws(APP)), 7, deny("*", "kms:Encrypt")])
    assert allowed(unreadable, FACTS, ORGANIZATION, APP, "kms:Decrypt").effect is Effect.UNKNOWN
    assert allowed(unreadable, FACTS, ORGANIZATION, APP, "kms:Sign").effect is Effect.UNKNOWN


def test_too_many_conditions_are_unknown_and_not_private() -> None:
    """A policy with too many patterns makes the decision unknown; a smaller one of its kind gives the right decision."""

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


def test_unknown_tag_makes_the_decision_unknown() -> None:
    """A condition on tags that were not crawled makes the decision unknown; the reason names the condition key."""
    tagged = policy_of([allow(aws(APP), when={"StringEquals": {"aws:ResourceTag/a": "b"}})])
    decision = allowed(tagged, FACTS, ORGANIZATION, APP, "kms:Decrypt")
    assert decision == Decision(
        Effect.UNKNOWN, "#0", 0, needs_iam=False, reason="the value of aws:ResourceTag/a is unknown"
    )
    known = replace(FACTS, tags={"a": "b"})
    assert allowed(tagged, known, ORGANIZATION, APP, "kms:Decrypt").effect is Effect.ALLOW


def test_paths_of_a_principal() -> None:
    """A vendor with a statement and a grant has two access paths; paths of other principals are not included."""
    verdicts = analyse_policy(POLICY, FACTS, ORGANIZATION).verdicts
    grant = analyse_grant(grant_of({"grantee_principal": f"arn:aws:iam::{CHECKMARX}:role/x"}), FACTS, ORGANIZATION)
    both = paths_of((*verdicts, *grant), CHECKMARX, "kms:Decrypt")
    assert [(path.path, path.source_id) for path in both] == [("policy", "Use"), ("grant", "g-1")]
    assert [path.source_id for path in paths_of(verdicts, root(CHECKMARX), "decrypt")] == ["Use"]
    assert [path.source_id for path in paths_of((*verdicts, *grant), CHECKMARX, "kms:DescribeKey")] == ["Use"]
    assert paths_of(verdicts, CHECKMARX, "kms:Encrypt") == ()
    assert [path.source_id for path in paths_of(verdicts, APP, "kms:Decrypt")] == ["Root", "Use"]
    assert [path.source_id for path in paths_of(verdicts, ADMIN, "kms:Decrypt")] == ["Root"]
    assert [path.source_id for path in paths_of(grant, f"arn:aws:iam::{CHECKMARX}:role/y", "kms:Decrypt")] == []
    session = f"arn:aws:sts::{CHECKMARX}:assumed-role/x/s"
    assert [path.source_id for path in paths_of(grant, session, "kms:Decrypt")] == ["g-1"]


def test_paths_of_everyone_and_of_the_organization() -> None:
    """A public path applies to every principal; a path of the organization applies to its accounts only."""
    public = analyse_policy(policy_of([allow()]), FACTS, ORGANIZATION).verdicts
    assert [path.access for path in paths_of(public, OUTSIDER, "kms:Decrypt")] == [Access.PUBLIC]
    organization_policy = policy_of(
        [allow(when={"StringEquals": {"aws:PrincipalOrgID": ORGANIZATION.organization_id}})]
    )
    verdicts = analyse_policy(organization_policy, FACTS, ORGANIZATION).verdicts
    assert [path.access for path in paths_of(verdicts, SISTER, "kms:Decrypt", ORGANIZATION)] == [Access.ORGANIZATION]
    assert paths_of(verdicts, OUTSIDER, "kms:Decrypt", ORGANIZATION) == ()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            allow(aws(root(CHECKMARX)), Sid="Use"),
            f"Account {CHECKMARX} (Checkmarx) can kms:Decrypt through statement Use, if its own IAM policies allow it.",
        ),
        (
            allow(),
            "Anyone in any AWS account can kms:Decrypt through statement #0, if their own IAM policies allow it.",
        ),
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
                f"Could not determine whether {APP} can kms:Decrypt through statement #0, only if foo:bar is x: "
                "the value of foo:bar is unknown."
            ),
        ),
    ],
)
def test_messages(statement: dict[str, Any], message: str) -> None:
    """A message names the principal, the operations, the statement and the conditions."""
    assert analyse_policy(policy_of([statement]), FACTS, ORGANIZATION).verdicts[0].message == message


def test_witness_is_a_concrete_request() -> None:
    """The witness of public access has an unrelated account, an operation, and a request context."""
    when = {"StringEquals": {"kms:ViaService": S3}, "StringLike": {"kms:EncryptionContext:app": "a-*"}}
    verdict = analyse_policy(policy_of([allow(when=when)]), FACTS, ORGANIZATION).verdicts[0]
    assert verdict.access is Access.PUBLIC_VIA_SERVICE
    assert verdict.witness is not None
    assert verdict.witness.account not in {None, OWNER, SISTER, CHECKMARX}
    assert verdict.witness.caller == f"arn:aws:iam::{verdict.witness.account}:role/stranger"
    assert verdict.witness.operation == "kms:Decrypt"
    assert verdict.witness.context == {"kms:viaservice": S3, "kms:encryptioncontext:app": "a-example"}


def test_conditions_of_a_grant() -> None:
    """The constraints of a grant are described in English."""
    constraints = '{"EncryptionContextSubset":{"aws:ebs:id":"vol-2"}}'
    assert constraint_conditions(constraints) == "encryption context aws:ebs:id=vol-2"
    assert constraint_conditions(None) == ""


def test_not_principal_never_exempts_a_caller_with_a_boundary() -> None:
    """A Deny with NotPrincipal applies to every principal that has a boundary (IAM user guide: NotPrincipal)."""
    bob = f"arn:aws:iam::{OWNER}:user/bob"
    policy = policy_of([allow(aws(bob)), deny(None, NotPrincipal=aws(bob, root()))])
    assert allowed(policy, FACTS, ORGANIZATION, bob, "kms:Decrypt").effect is Effect.ALLOW
    assert allowed(policy, FACTS, ORGANIZATION, bob, "kms:Decrypt", has_boundary=True).effect is Effect.DENY


@pytest.mark.parametrize("key", ["aws:CurrentTime", "aws:EpochTime"])
def test_a_time_that_passes_needs_a_new_analysis(key: str) -> None:
    """The analysis of a policy with a condition on the time is repeated when that time is past, and not before."""
    timed = policy_of([allow(aws(APP), when={"DateLessThan": {key: "2026-01-01T00:00:00Z"}})])

    def at(year: int, month: int) -> Organization:
        return replace(ORGANIZATION, now=dt.datetime(year, month, 1, tzinfo=dt.UTC))

    assert "time" in context_inputs(timed)
    before, later, after = (organization_key(timed, FACTS, at(*date)) for date in ((2025, 1), (2025, 6), (2026, 6)))
    assert before == later != after
    timeless = policy_of([allow(aws(APP))])
    assert organization_key(timeless, FACTS, at(2025, 1)) == organization_key(timeless, FACTS, at(2026, 6))


def test_cache_key_contains_what_the_policy_tests() -> None:
    """Keys share an analysis of a policy unless the policy tests a fact in which they differ."""
    other = replace(FACTS, arn=KEY[:-4] + "ffff", tags={"a": "b"}, aliases=("alias/x",))
    unconditional = policy_of([allow()])
    assert cache_key(unconditional, FACTS) == cache_key(unconditional, other)
    assert cache_key(unconditional, FACTS) != cache_key(unconditional, KeyFacts(KEY, OUTSIDER))
    assert cache_key(unconditional, FACTS) != cache_key(unconditional, replace(FACTS, manager="AWS"))
    for statement in (
        allow(Resource=KEY),
        allow(when={"StringEquals": {"aws:ResourceTag/a": "b"}}),
        allow(when={"ForAnyValue:StringEquals": {"KMS:RESOURCEALIASES": "alias/x"}}),
    ):
        assert cache_key(policy_of([statement]), FACTS) != cache_key(policy_of([statement]), other)


def test_kms_operations() -> None:
    """Grants support 19 operations, 22 operations work across accounts, and names have AWS's spelling."""
    assert len(kms_actions.GRANTABLE) == 19
    assert len(kms_actions.CROSS_ACCOUNT) == 22
    assert not kms_actions.KEY_LEVEL & kms_actions.ACCOUNT_LEVEL
    assert kms_actions.names(kms_actions.matching(("KMS:reencrypt*",))) == ("kms:ReEncryptFrom", "kms:ReEncryptTo")
    assert kms_actions.names(kms_actions.matching(("kms:*",), negated=True)) == ()
    assert kms_actions.unknown_names(("kms:Decrypt", "kms:New", "s3:New", "kms:N*")) == ("kms:New",)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
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
def test_common_match(left: str, right: str, *, expected: bool) -> None:
    """A text that matches both patterns is returned when there is one."""
    text = common_match(left, right)
    assert (text is not None) is expected
    if text is not None:
        assert matches(left, text)
        assert matches(right, text)


def test_wildcards() -> None:
    """Stars and question marks match as in IAM; hostile patterns do not slow down the match."""
    assert matches("a*b?", "axxbc")
    assert not matches("a*b?", "axxb")
    assert not matches("*a" * 40 + "b", "a" * 400)
    assert matches("a.c", "a.c")
    assert not matches("a.c", "abc")
    assert example_match("a*?") == "aexamplex"

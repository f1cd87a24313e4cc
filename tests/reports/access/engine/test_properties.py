"""What holds for every policy, whoever wrote it."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.access.engine.evaluator import allowed, paths_of
from reports.access.engine.grant_analysis import analyse_grant, grant_shape
from reports.access.engine.model import Access, Analysis, Effect, Grant
from reports.access.engine.policy_analysis import analyse_policy
from reports.access.engine.policy_parser import parse
from tests.reports.access.engine.cases import (
    ADMIN,
    APP,
    CHECKMARX,
    FACTS,
    KEY,
    ORGANIZATION,
    ORGANIZATION_ID,
    OUTSIDER,
    OWNER,
    SISTER,
    policy_of,
    root,
)

S3 = "s3.eu-west-1.amazonaws.com"
BOB = f"arn:aws:iam::{OWNER}:user/bob"
STRANGER = "777788889999"
PRINCIPALS = st.sampled_from(
    [
        "*",
        {"AWS": "*"},
        {"AWS": root()},
        {"AWS": OWNER},
        {"AWS": [APP, ADMIN]},
        {"AWS": BOB},
        {"AWS": root(OUTSIDER)},
        {"AWS": [root(CHECKMARX), root(SISTER)]},
        {"Service": "logs.amazonaws.com"},
        {"AWS": "AROAEXAMPLEEXAMPLE123"},
    ]
)
ACTIONS = st.sampled_from(
    ["kms:*", "kms:Decrypt", ["kms:Decrypt", "kms:PutKeyPolicy"], "kms:Create*", "kms:DescribeKey"]
)
TESTS = st.sampled_from(
    [
        ("StringEquals", "kms:CallerAccount", OWNER),
        ("StringEquals", "kms:CallerAccount", [OUTSIDER, SISTER]),
        ("StringNotEquals", "kms:CallerAccount", OUTSIDER),
        ("StringEquals", "aws:PrincipalOrgID", ORGANIZATION_ID),
        ("StringNotEquals", "aws:PrincipalOrgID", ORGANIZATION_ID),
        ("StringEqualsIfExists", "aws:PrincipalOrgID", ORGANIZATION_ID),
        ("StringEquals", "kms:ViaService", S3),
        ("StringNotEquals", "kms:ViaService", S3),
        ("StringLike", "kms:EncryptionContext:app", "a*"),
        ("Null", "kms:EncryptionContext:app", "true"),
        ("ArnLike", "aws:PrincipalArn", f"arn:aws:iam::{OWNER}:role/*"),
        ("ArnNotLike", "aws:PrincipalArn", [APP]),
        ("Bool", "kms:GrantIsForAWSResource", "true"),
        ("StringEquals", "aws:SourceAccount", OWNER),
        ("IpAddress", "aws:SourceIp", "203.0.113.0/24"),
        ("NotIpAddress", "aws:SourceIp", "203.0.113.0/24"),
        ("StringEquals", "foo:bar", "x"),
        ("StringEquals", "aws:PrincipalTag/team", ["a", "b"]),
        ("StringNotLike", "aws:PrincipalTag/team", "a*"),
    ]
)
CALLERS = (APP, BOB, OWNER, SISTER, OUTSIDER, STRANGER, CHECKMARX, root(), "logs.amazonaws.com", "sns.amazonaws.com")
OPERATIONS = ("kms:Decrypt", "kms:DescribeKey", "kms:CreateGrant", "kms:PutKeyPolicy")
RANK = {Effect.DENY: 0, Effect.UNKNOWN: 1, Effect.ALLOW: 2}


@st.composite
def statements(draw: st.DrawFn, effects: tuple[str, ...] = ("Allow", "Allow", "Deny")) -> dict[str, Any]:
    condition: dict[str, dict[str, Any]] = {}
    for operator, key, value in draw(st.lists(TESTS, max_size=2)):
        condition.setdefault(operator, {})[key] = value
    made: dict[str, Any] = {
        "Effect": draw(st.sampled_from(effects)),
        draw(st.sampled_from(["Principal", "Principal", "Principal", "NotPrincipal"])): draw(PRINCIPALS),
        draw(st.sampled_from(["Action", "Action", "Action", "NotAction"])): draw(ACTIONS),
        "Resource": "*",
    }
    return made | {"Condition": condition} if condition else made


POLICIES = st.lists(statements(), min_size=1, max_size=4)


def answers(policy: list[dict[str, Any]]) -> dict[tuple[str, str], int]:
    read = policy_of(policy)
    return {
        (caller, operation): RANK[allowed(read, FACTS, ORGANIZATION, caller, operation).effect]
        for caller in CALLERS
        for operation in OPERATIONS
    }


@settings(deadline=None)
@given(POLICIES, statements(("Deny",)))
def test_a_deny_never_widens(policy: list[dict[str, Any]], more: dict[str, Any]) -> None:
    """With one more Deny nobody gets anything that they did not have."""
    before, after = answers(policy), answers([*policy, more])
    assert all(after[key] <= before[key] for key in before)


@settings(deadline=None)
@given(POLICIES, statements(("Allow",)))
def test_an_allow_never_narrows(policy: list[dict[str, Any]], more: dict[str, Any]) -> None:
    """With one more Allow nobody loses anything."""
    before, after = answers(policy), answers([*policy, more])
    assert all(after[key] >= before[key] for key in before)


@settings(deadline=None)
@given(POLICIES)
def test_who_gets_in_has_a_verdict(policy: list[dict[str, Any]]) -> None:
    """The question about one caller and the analysis of everyone agree: no access without a verdict that tells of it."""
    read = policy_of(policy)
    verdicts = analyse_policy(read, FACTS, ORGANIZATION).verdicts
    certain = [one for one in verdicts if one.access is not Access.UNKNOWN]
    for caller in CALLERS:
        for operation in OPERATIONS:
            effect = allowed(read, FACTS, ORGANIZATION, caller, operation).effect
            if effect is Effect.DENY or (caller.endswith("amazonaws.com") and effect is Effect.UNKNOWN):
                continue
            among = certain if effect is Effect.ALLOW else verdicts
            told = paths_of(among, caller, operation, ORGANIZATION)
            services = [one for one in among if one.access is Access.AWS_SERVICE or one.principal == "*"]
            unknowns = [one for one in among if one.access is Access.UNKNOWN and operation in one.operations]
            assert told or unknowns or (caller.endswith("amazonaws.com") and services), (caller, operation)


@settings(deadline=None)
@given(POLICIES)
def test_every_witness_gets_in(policy: list[dict[str, Any]]) -> None:
    """The call that a verdict shows as its witness is let through when it is made."""
    read = policy_of(policy)
    for verdict in analyse_policy(read, FACTS, ORGANIZATION).verdicts:
        witness = verdict.witness
        if witness is None or verdict.access in (Access.UNKNOWN, Access.DELETED) or "member" in witness.caller:
            continue
        if witness.caller == "*":
            continue
        caller = witness.caller
        if caller.endswith(":root") and "only the root user" not in verdict.conditions:
            caller = caller.split(":")[4]
        decision = allowed(read, FACTS, ORGANIZATION, caller, witness.operation, witness.context)
        assert decision.effect is Effect.ALLOW, (verdict, decision)


@settings(deadline=None)
@given(POLICIES)
def test_an_only_path_is_the_only_path(policy: list[dict[str, Any]]) -> None:
    """Without the statement that is named as the only path, the access is gone."""
    verdicts = analyse_policy(policy_of(policy), FACTS, ORGANIZATION).verdicts
    for verdict in verdicts:
        for operation in verdict.operations:
            key = (verdict.access, verdict.principal, verdict.account, operation)
            ways = {one.statement_index for one in verdicts if operation in one.operations and key[:3] == _who(one)}
            if len(ways) > 1 or operation not in OPERATIONS:
                continue
            rest = [statement for index, statement in enumerate(policy) if index != verdict.statement_index]
            after = analyse_policy(policy_of(rest), FACTS, ORGANIZATION).verdicts
            assert not any(operation in one.operations and key[:3] == _who(one) for one in after)


def _who(verdict: Any) -> tuple[Access, str, str | None]:
    return verdict.access, verdict.principal, verdict.account


def essence(analysis: Analysis) -> list[tuple[Any, ...]]:
    """What must not depend on how a policy is written."""
    return sorted(
        (one.access.value, one.principal, one.account or "", operation)
        for one in analysis.verdicts
        for operation in one.operations
    )


def rewritten(policy: list[dict[str, Any]], draw: st.DataObject) -> list[dict[str, Any]]:
    """The same policy in other letter case, other order, with lists for single values."""
    made: list[dict[str, Any]] = []
    for statement in draw.draw(st.permutations(policy)):
        other = dict(statement)
        for name in ("Action", "NotAction"):
            if name in other:
                listed = other[name] if isinstance(other[name], list) else [other[name]]
                other[name] = [draw.draw(st.sampled_from([one.upper(), one.lower(), one])) for one in reversed(listed)]
        if "Condition" in other:
            other["Condition"] = {
                operator: {
                    draw.draw(st.sampled_from([key.upper(), key.lower()])): value
                    for key, value in reversed(block.items())
                }
                for operator, block in reversed(other["Condition"].items())
            }
        if isinstance(other.get("Principal"), dict):
            other["Principal"] = {
                kind: names if isinstance(names, list) else [names] for kind, names in other["Principal"].items()
            }
        elif other.get("Principal") == "*":
            other["Principal"] = {"AWS": ["*"]}
        other["Resource"] = ["*"]
        made.append(dict(reversed(other.items())))
    return made


@settings(deadline=None)
@given(POLICIES, st.data())
def test_the_way_of_writing_does_not_matter(policy: list[dict[str, Any]], draw: st.DataObject) -> None:
    """Letter case of actions and keys, order, and lists for single values change no verdict."""
    before = analyse_policy(policy_of(policy), FACTS, ORGANIZATION)
    after = analyse_policy(policy_of(rewritten(policy, draw)), FACTS, ORGANIZATION)
    assert sorted(set(essence(before))) == sorted(set(essence(after)))


@given(statements())
def test_one_statement_is_a_list_of_one(statement: dict[str, Any]) -> None:
    """A statement without a list around it says the same."""
    assert analyse_policy(policy_of(statement), FACTS, ORGANIZATION) == analyse_policy(
        policy_of([statement]), FACTS, ORGANIZATION
    )


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1000, 1000)
    | st.text(max_size=8)
    | st.sampled_from(["*", "kms:*", "${", "arn:"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
OPERATOR = st.sampled_from(
    ["StringLike", "ForAllValues:ArnLike", "IpAddress", "Null", "DateLessThan", "Bool", "NumericEquals", "x"]
)
KEYS = st.sampled_from(
    [
        "aws:SourceIp",
        "kms:CallerAccount",
        "aws:PrincipalArn",
        "aws:CurrentTime",
        "kms:EncryptionContext:",
        "aws:userid",
        "",
    ]
)
BROKEN = st.fixed_dictionaries(
    {},
    optional={
        "Sid": JSON,
        "Effect": st.sampled_from(["Allow", "Deny"]) | JSON,
        "Principal": st.just("*") | PRINCIPALS | JSON,
        "NotPrincipal": PRINCIPALS | JSON,
        "Action": ACTIONS | JSON,
        "NotAction": JSON,
        "Resource": st.just("*") | JSON,
        "Condition": st.dictionaries(OPERATOR, st.dictionaries(KEYS, JSON, max_size=2), max_size=2) | JSON,
    },
)


@settings(deadline=None, max_examples=300)
@given(st.lists(BROKEN | JSON, max_size=3) | JSON)
def test_nothing_crashes_the_analysis(document: Any) -> None:
    """Whatever stands in a policy, there is an analysis; what could not be read is unknown with a reason."""
    read = policy_of(document)
    analysis = analyse_policy(read, FACTS, ORGANIZATION)
    unread = [one for one in analysis.verdicts if one.access is Access.UNKNOWN]
    assert read.readable or unread
    assert all(one.reason and one.message for one in unread)
    allowed(read, FACTS, ORGANIZATION, APP, "kms:Decrypt")


@given(st.text(), st.text(), st.text())
def test_no_text_crashes(policy: str, caller: str, operation: str) -> None:
    """Texts that are no policies, callers or operations get an answer."""
    read = parse(policy)
    assert analyse_policy(read, FACTS, ORGANIZATION).verdicts or read.readable
    assert allowed(read, FACTS, ORGANIZATION, caller, operation).effect is not Effect.ALLOW


WORDS = (
    st.none()
    | st.text(max_size=12)
    | st.sampled_from([APP, root(OUTSIDER), S3, "AROAEXAMPLEEXAMPLE123", f"arn:aws:sts::{OWNER}:assumed-role/a/b"])
)
LISTS = st.text(max_size=12) | JSON.map(lambda one: orjson.dumps(one).decode()) | st.just('["Decrypt","CreateGrant"]')
GRANTS = st.builds(
    Grant, st.just(KEY), st.text(max_size=4), WORDS, WORDS, WORDS, WORDS, WORDS, WORDS, LISTS, st.none() | LISTS
)


@settings(deadline=None)
@given(GRANTS, POLICIES)
def test_nothing_crashes_a_grant(grant: Grant, policy: list[dict[str, Any]]) -> None:
    """Whatever stands in a grant, it has verdicts, and a Deny in the policy only takes away."""
    alone = analyse_grant(grant, FACTS, ORGANIZATION)
    assert all(bool(one.reason) == (one.access is Access.UNKNOWN) for one in alone)
    under = analyse_grant(grant, FACTS, ORGANIZATION, policy_of(policy))
    held = {(one.principal, operation) for one in alone for operation in one.operations}
    assert {(one.principal, operation) for one in under for operation in one.operations} <= held


@given(GRANTS)
def test_a_shape_gets_what_its_grants_get(grant: Grant) -> None:
    """Grants of one shape have the same classes, accounts and operations, and a shape is its own shape."""
    shape = grant_shape(grant)
    assert grant_shape(shape) == shape
    alike = [
        [
            (one.access, one.account, one.party, one.operations, bool(one.conditions))
            for one in analyse_grant(each, FACTS, ORGANIZATION)
        ]
        for each in (grant, shape)
    ]
    assert alike[0] == alike[1]

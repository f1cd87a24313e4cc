"""Properties that hold for every policy."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import duckdb
import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.access.engine.evaluator import allowed
from reports.access.engine.grant_analysis import analyse_grant
from reports.access.engine.model import Access, Analysis, Effect, Grant
from reports.access.engine.policy_analysis import analyse_policy
from reports.access.engine.policy_parser import parse
from reports.access.grant_macros import MACROS
from tests.hypothesis_profiles import examples
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
from tests.reports.access.engine.paths import paths_of

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
    statement: dict[str, Any] = {
        "Effect": draw(st.sampled_from(effects)),
        draw(st.sampled_from(["Principal", "Principal", "Principal", "NotPrincipal"])): draw(PRINCIPALS),
        draw(st.sampled_from(["Action", "Action", "Action", "NotAction"])): draw(ACTIONS),
        "Resource": "*",
    }
    return statement | {"Condition": condition} if condition else statement


POLICIES = st.lists(statements(), min_size=1, max_size=4)


def ranks(policy: list[dict[str, Any]]) -> dict[tuple[str, str], int]:
    parsed = policy_of(policy)
    return {
        (caller, operation): RANK[allowed(parsed, FACTS, ORGANIZATION, caller, operation).effect]
        for caller in CALLERS
        for operation in OPERATIONS
    }


@settings(deadline=None)
@given(POLICIES, statements(("Deny",)))
def test_deny_never_extends_access(policy: list[dict[str, Any]], more: dict[str, Any]) -> None:
    """An additional Deny gives nobody more access."""
    before, after = ranks(policy), ranks([*policy, more])
    assert all(after[key] <= before[key] for key in before)


@settings(deadline=None)
@given(POLICIES, statements(("Allow",)))
def test_allow_never_reduces_access(policy: list[dict[str, Any]], more: dict[str, Any]) -> None:
    """An additional Allow removes nobody's access."""
    before, after = ranks(policy), ranks([*policy, more])
    assert all(after[key] >= before[key] for key in before)


@settings(deadline=None)
@given(POLICIES)
def test_every_allowed_request_has_a_verdict(policy: list[dict[str, Any]]) -> None:
    """Decisions on single requests and the analysis agree: every allowed request has a verdict."""
    parsed = policy_of(policy)
    verdicts = analyse_policy(parsed, FACTS, ORGANIZATION).verdicts
    certain = [verdict for verdict in verdicts if verdict.access is not Access.UNKNOWN]
    for caller in CALLERS:
        for operation in OPERATIONS:
            effect = allowed(parsed, FACTS, ORGANIZATION, caller, operation).effect
            if effect is Effect.DENY or (caller.endswith("amazonaws.com") and effect is Effect.UNKNOWN):
                continue
            candidates = certain if effect is Effect.ALLOW else verdicts
            paths = paths_of(candidates, caller, operation, ORGANIZATION)
            services = [path for path in candidates if path.access is Access.AWS_SERVICE or path.principal == "*"]
            unknowns = [path for path in candidates if path.access is Access.UNKNOWN and operation in path.operations]
            assert paths or unknowns or (caller.endswith("amazonaws.com") and services), (caller, operation)


@settings(deadline=None)
@given(POLICIES)
def test_every_witness_is_allowed(policy: list[dict[str, Any]]) -> None:
    """The request that a verdict has as its witness is allowed."""
    parsed = policy_of(policy)
    for verdict in analyse_policy(parsed, FACTS, ORGANIZATION).verdicts:
        witness = verdict.witness
        if witness is None or verdict.access in (Access.UNKNOWN, Access.DELETED) or "member" in witness.caller:
            continue
        if witness.caller == "*":
            continue
        caller = witness.caller
        if caller.endswith(":root") and "only the root user" not in verdict.conditions:
            caller = caller.split(":")[4]
        decision = allowed(parsed, FACTS, ORGANIZATION, caller, witness.operation, witness.context)
        assert decision.effect is Effect.ALLOW, (verdict, decision)


@settings(deadline=None)
@given(POLICIES)
def test_an_only_path_is_the_only_path(policy: list[dict[str, Any]]) -> None:
    """Without the statement that is the only path, there is no access."""
    verdicts = analyse_policy(policy_of(policy), FACTS, ORGANIZATION).verdicts
    for verdict in verdicts:
        for operation in verdict.operations:
            key = (verdict.access, verdict.principal, verdict.account, operation)
            paths = {
                path.statement_index for path in verdicts if operation in path.operations and key[:3] == _grantee(path)
            }
            if len(paths) > 1 or operation not in OPERATIONS:
                continue
            rest = [statement for index, statement in enumerate(policy) if index != verdict.statement_index]
            after = analyse_policy(policy_of(rest), FACTS, ORGANIZATION).verdicts
            assert not any(operation in path.operations and key[:3] == _grantee(path) for path in after)


def _grantee(verdict: Any) -> tuple[Access, str, str | None]:
    return verdict.access, verdict.principal, verdict.account


def access_set(analysis: Analysis) -> list[tuple[Any, ...]]:
    """Return the access of an analysis, independent of the notation of the policy."""
    return sorted(
        (verdict.access.value, verdict.principal, verdict.account or "", operation)
        for verdict in analysis.verdicts
        for operation in verdict.operations
    )


def rewritten(policy: list[dict[str, Any]], draw: st.DataObject) -> list[dict[str, Any]]:
    """Return an equivalent policy with another letter case and order, and lists for single values."""
    statements: list[dict[str, Any]] = []
    for statement in draw.draw(st.permutations(policy)):
        other = dict(statement)
        for name in ("Action", "NotAction"):
            if name in other:
                actions = other[name] if isinstance(other[name], list) else [other[name]]
                other[name] = [
                    draw.draw(st.sampled_from([action.upper(), action.lower(), action])) for action in reversed(actions)
                ]
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
        statements.append(dict(reversed(other.items())))
    return statements


@settings(deadline=None)
@given(POLICIES, st.data())
def test_notation_does_not_matter(policy: list[dict[str, Any]], draw: st.DataObject) -> None:
    """Letter case of actions and keys, order, and lists for single values change no verdict."""
    before = analyse_policy(policy_of(policy), FACTS, ORGANIZATION)
    after = analyse_policy(policy_of(rewritten(policy, draw)), FACTS, ORGANIZATION)
    assert sorted(set(access_set(before))) == sorted(set(access_set(after)))


@given(statements())
def test_single_statement_equals_list_of_one(statement: dict[str, Any]) -> None:
    """A single statement object has the same analysis as a list with that statement."""
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
INVALID = st.fixed_dictionaries(
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


@settings(max_examples=examples(fast=100, deep=300))
@given(st.lists(INVALID | JSON, max_size=3) | JSON)
def test_analysis_never_fails(document: Any) -> None:
    """Any document has an analysis; unreadable parts make access unknown, with a reason."""
    parsed = policy_of(document)
    analysis = analyse_policy(parsed, FACTS, ORGANIZATION)
    unknown = [verdict for verdict in analysis.verdicts if verdict.access is Access.UNKNOWN]
    assert parsed.readable or unknown
    assert all(verdict.reason and verdict.message for verdict in unknown)
    allowed(parsed, FACTS, ORGANIZATION, APP, "kms:Decrypt")


@given(st.text(), st.text(), st.text())
def test_any_text_has_a_result(policy: str, caller: str, operation: str) -> None:
    """Arbitrary texts as policy, caller and operation have a result."""
    parsed = parse(policy)
    assert analyse_policy(parsed, FACTS, ORGANIZATION).verdicts or parsed.readable
    assert allowed(parsed, FACTS, ORGANIZATION, caller, operation).effect is not Effect.ALLOW


PRINCIPAL_TEXTS = (
    st.none()
    | st.text(max_size=12)
    | st.sampled_from([APP, root(OUTSIDER), S3, "AROAEXAMPLEEXAMPLE123", f"arn:aws:sts::{OWNER}:assumed-role/a/b"])
)
OPERATION_LISTS = (
    st.text(max_size=12)
    | JSON.map(lambda document: orjson.dumps(document).decode())
    | st.just('["Decrypt","CreateGrant"]')
)
GRANTS = st.builds(
    Grant,
    st.just(KEY),
    st.text(max_size=4),
    PRINCIPAL_TEXTS,
    PRINCIPAL_TEXTS,
    PRINCIPAL_TEXTS,
    PRINCIPAL_TEXTS,
    PRINCIPAL_TEXTS,
    PRINCIPAL_TEXTS,
    OPERATION_LISTS,
    st.none() | OPERATION_LISTS,
)


@settings(deadline=None)
@given(GRANTS, POLICIES)
def test_grant_analysis_never_fails(grant: Grant, policy: list[dict[str, Any]]) -> None:
    """Any grant has an analysis, and a key policy only removes access."""
    verdicts = analyse_grant(grant, FACTS, ORGANIZATION)
    assert all(bool(verdict.reason) == (verdict.access is Access.UNKNOWN) for verdict in verdicts)
    with_policy = analyse_grant(grant, FACTS, ORGANIZATION, policy_of(policy))
    held = {(verdict.principal, operation) for verdict in verdicts for operation in verdict.operations}
    assert {(verdict.principal, operation) for verdict in with_policy for operation in verdict.operations} <= held


@cache
def macros() -> duckdb.DuckDBPyConnection:
    duck = duckdb.connect()
    duck.execute("CREATE SCHEMA internal")
    for macro in MACROS:
        duck.execute(macro)
    return duck


def shape_of(grant: Grant) -> Grant:
    """Return the grant without what the analysis id of a grant does not cover."""
    query = "SELECT internal.mask_session($1), internal.mask_session($2), internal.mask_values($3)"
    masked = macros().execute(query, [grant.grantee_principal, grant.retiring_principal, grant.constraints]).fetchone()
    assert masked is not None
    grantee, retiring, constraints = masked
    shape = replace(grant, key_arn="", grant_id="", name=None, created_at=None)
    return replace(shape, grantee_principal=grantee, retiring_principal=retiring, constraints=constraints)


@settings(deadline=None)
@given(GRANTS)
def test_shape_gives_the_access_of_its_grants(grant: Grant) -> None:
    """A grant and its shape have the same classes, accounts and operations; a shape is its own shape."""
    shape = shape_of(grant)
    assert shape_of(shape) == shape
    of_grant, of_shape = (
        [
            (verdict.access, verdict.account, verdict.party, verdict.operations, bool(verdict.conditions))
            for verdict in analyse_grant(analyzed, FACTS, ORGANIZATION)
        ]
        for analyzed in (grant, shape)
    )
    assert of_grant == of_shape

"""The engine, compared with trying every identity of a tiny universe."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from reports.access.engine import context_values, identities, principals, service_sources
from reports.access.engine.automaton import Part
from reports.access.engine.grant_analysis import analyse_grant
from reports.access.engine.model import Access, Grant, KeyFacts, Organization, Verdict
from reports.access.engine.policy_analysis import analyse_policy
from reports.access.engine.policy_parser import Named, Policy
from reports.access.engine.principals import classify
from tests.reports.access.engine.cases import policy_of
from tests.reports.access.engine.oracle import (
    ACCOUNTS,
    KNOWN,
    OURS,
    OUTSIDER,
    OWNER,
    SISTER,
    Request,
    about,
    allowed,
    allows_request,
    allows_service,
    conditions,
    of_accounts,
    universe,
)

FACTS = KeyFacts(f"arn:aws:kms:eu-west-1:{OWNER}:key/1", OWNER, "CUSTOMER")
ORGANIZATION = Organization(OURS, frozenset({OWNER, SISTER}))
STRANGERS = frozenset(ACCOUNTS) - {*KNOWN}
MFA, CONTEXT, VIA = "aws:multifactorauthpresent", "kms:encryptioncontext:app", "kms:viaservice"
THROUGH = ["s3.eu-west-1.amazonaws.com", "sns.eu-west-1.amazonaws.com"]
VALUES: dict[str, tuple[str | None, ...]] = {
    MFA: (None, "true", "false"),
    CONTEXT: (None, "a", "b", "B", "x"),
    VIA: (None, *THROUGH, "other"),
}
"""The condition keys of a request that are not those of its identity."""
DECRYPT, DESCRIBE = "kms:Decrypt", "kms:DescribeKey"
ACTIONS = [
    {"Action": DECRYPT},
    {"Action": DECRYPT},
    {"Action": DESCRIBE},
    {"Action": "kms:De*"},
    {"NotAction": DECRYPT},
]
SERVICES = ["s3.amazonaws.com", "sns.amazonaws.com"]
SOURCES: list[Request] = [
    {"aws:sourceaccount": account, "aws:sourcearn": account and f"arn:aws:sns:us-east-1:{account}:topic"}
    for account in (None, *ACCOUNTS)
]

GLOBS = ["a", "b", "ab", "*", "a*", "*b", "?", "?b", "*a*", "??", "a/*", "*/b"]
ACCOUNT_GLOBS = ["*", "1*", "2*", "?1", "*2", "??", "9*", "?", *KNOWN]
KINDS = ["iam::{}:role/{}", "iam::{}:user/{}", "sts::{}:federated-user/{}", "iam::{}:root", "iam::{}:{}"]
USER_IDS = [
    "*",
    "AROA*",
    "AIDA*",
    "*:*",
    "*:a*",
    "*:?b",
    "1*",
    "2?",
    *KNOWN,
    f"{OUTSIDER}:ab",
    f"{OWNER}:*",
    "AROA*:aa",
]
TYPES = ["User", "AssumedRole", "Account", "FederatedUser", "Anonymous"]
NAMED = ["iam::{}:user/{}", "sts::{}:federated-user/{}", "sts::{}:assumed-role/{}/aa"]
EQUALS = ["StringEquals", "StringNotEquals", "StringEqualsIfExists", "StringEqualsIgnoreCase"]
LIKE, ARN = ["StringLike", "StringNotLike"], ["ArnLike", "ArnNotLike", "ArnEquals", "StringLike", "StringNotLike"]


class Draw:
    """Random policies; equal seeds give equal policies."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - not for cryptography
        self._arns = [
            f"arn:aws:{kind.format(account, name)}" for kind in KINDS for account in ACCOUNT_GLOBS for name in GLOBS
        ]
        self._conditions: list[tuple[list[str], list[str], list[str], int]] = [
            (LIKE, ["kms:CallerAccount", "aws:PrincipalAccount"], ACCOUNT_GLOBS, 3),
            (EQUALS, ["kms:CallerAccount"], [*KNOWN], 2),
            (ARN, ["aws:PrincipalArn"], self._arns, 3),
            (ARN, ["aws:PrincipalArn"], self._arns, 3),
            (LIKE, ["aws:userid"], USER_IDS, 3),
            (LIKE, ["aws:username"], GLOBS, 2),
            (EQUALS, ["aws:username"], ["a", "ab", "B"], 2),
            (EQUALS, ["aws:PrincipalType"], TYPES, 3),
            (["Null"], ["aws:username", "aws:PrincipalOrgID"], ["true", "false"], 1),
            (["StringEquals", "StringNotEquals"], ["aws:PrincipalOrgID"], [OURS], 1),
            (["Bool", "BoolIfExists"], ["aws:MultiFactorAuthPresent"], ["true"], 1),
            (EQUALS, ["kms:EncryptionContext:app"], ["a", "b"], 2),
            (["StringEquals", "StringNotEquals"], ["kms:ViaService"], THROUGH, 2),
        ]
        self._sources: list[tuple[list[str], list[str], list[str], int]] = [
            (LIKE, ["aws:SourceAccount"], ACCOUNT_GLOBS, 3),
            (EQUALS, ["aws:SourceAccount"], [*KNOWN], 2),
            (ARN[:3], ["aws:SourceArn"], [f"arn:aws:sns:*:{account}:*" for account in ACCOUNT_GLOBS], 2),
            (["Null"], ["aws:SourceAccount"], ["true", "false"], 1),
            (EQUALS, ["kms:EncryptionContext:app"], ["a", "b"], 2),
        ]

    def policy(self) -> list[dict[str, Any]]:
        """One to four statements."""
        return [self._statement() for _ in range(self._random.randint(1, 4))]

    def service_policy(self) -> list[dict[str, Any]]:
        """One to three statements about AWS services, with conditions on the resource that they act for."""
        statements = []
        for _ in range(self._random.randint(1, 3)):
            listed = self._random.choice(["*", {"Service": self._random.sample(SERVICES, self._random.randint(1, 2))}])
            effect = self._random.choice(["Allow", "Allow", "Deny"])
            statements.append(
                {"Effect": effect, "Principal": listed, **self._about(self._sources, self._random.choice([0, 1, 1, 2]))}
            )
        return statements

    def denials(self) -> list[dict[str, Any]]:
        """One to three Deny statements, with conditions that do not distinguish the identities of an account."""
        kinds = [
            kind for kind in self._conditions if set(kind[1]) & {"aws:PrincipalOrgID", "kms:EncryptionContext:app"}
        ]
        kinds = [(operators, [keys[-1]], values, most) for operators, keys, values, most in kinds]
        statements = []
        for _ in range(self._random.randint(1, 3)):
            listed = self._random.choice(["*", {"AWS": [self.grantee() for _ in range(self._random.randint(1, 2))]}])
            conditions = self._about(kinds, self._random.choice([0, 1, 1, 2]))
            statements.append({"Effect": "Deny", "Principal": listed, **conditions})
        return statements

    def grantee(self) -> str:
        """An account, user, role, session or federated user."""
        return self._named("Principal")

    def constraints(self) -> dict[str, Any] | None:
        """The constraints of a grant."""
        return self._random.choice(CONSTRAINTS)[0]

    def _about(self, kinds: list[tuple[list[str], list[str], list[str], int]], number: int) -> dict[str, Any]:
        """Actions, the key, and a number of conditions."""
        condition: dict[str, dict[str, Any]] = {}
        for _ in range(number):
            operators, keys, values, most = self._random.choice(kinds)
            chosen = self._random.sample(values, self._random.randint(1, min(most, len(values))))
            condition.setdefault(self._random.choice(operators), {})[self._random.choice(keys)] = chosen
        return {**self._random.choice(ACTIONS), "Resource": "*", "Condition": condition}

    def _statement(self) -> dict[str, Any]:
        effect = self._random.choice(["Allow", "Allow", "Deny"])
        element = self._random.choice(["Principal", "NotPrincipal"]) if effect == "Deny" else "Principal"
        listed: Any = {"AWS": [self._named(element) for _ in range(self._random.randint(1, 3))]}
        if element == "Principal" and self._random.random() < 0.6:
            listed = "*"
        return {
            "Effect": effect,
            element: listed,
            **self._about(self._conditions, self._random.choice([0, 1, 1, 2, 3])),
        }

    def _named(self, element: str) -> str:
        account = self._random.choice(KNOWN)
        if self._random.random() < 0.5:
            return self._random.choice([account, f"arn:aws:iam::{account}:root"])
        # Whether NotPrincipal exempts the sessions of a role that it lists is unknown.
        kinds = NAMED if element == "NotPrincipal" else [*NAMED, "iam::{}:role/{}", "iam::{}:role/b/a"]
        return f"arn:aws:{self._random.choice(kinds).format(account, self._random.choice(['ab', 'bb']))}"


def tiny(part: Part) -> Part:
    """The part of a text, with two digits instead of an account's twelve."""
    return replace(part, minimum=2) if part.exact else part


@pytest.fixture(scope="module", autouse=True)
def tiny_accounts() -> Iterator[None]:
    """Accounts with two digits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identities, "_ACCOUNT_LENGTH", 2)
        patch.setattr(principals, "_ACCOUNT", re.compile("[0-9]{2}"))
        patch.setattr(principals, "_IDENTITY", re.compile(r"arn:[a-z0-9-]+:(iam|sts)::([0-9]{2}):(.+)", re.DOTALL))
        patch.setattr(principals, "_MENTIONED", re.compile("(?<![0-9])[0-9]{2}(?![0-9])"))
        patch.setattr(service_sources, "ANY_ACCOUNT", "99")
        patch.setattr(service_sources, "_ACCOUNT", tuple(map(tiny, service_sources._ACCOUNT)))
        for key, form in context_values._FORMS.items():
            patch.setitem(context_values._FORMS, key, tuple(map(tiny, form)))
        principals.classify.cache_clear()
        yield
    principals.classify.cache_clear()


def is_valid(verdict: Verdict, policy: list[dict[str, Any]]) -> bool:
    """Whether the policy allows the request that the verdict names as its witness."""
    assert verdict.witness is not None
    caller, account = verdict.witness.caller, verdict.witness.account or "no account"
    policy = about(policy, verdict.witness.operation)
    context = dict(verdict.witness.context)
    if ":assumed-role/" in caller:
        context.setdefault("aws:principalarn", f"arn:aws:iam::{account}:role/{caller.split('/')[1]}")
    if ":role/" in caller:  # any session of the role
        role = caller
        context.setdefault("aws:principalarn", role)
        session = str(context.get("aws:userid", ":xx")).partition(":")[2]
        caller = f"arn:aws:sts::{account}:assumed-role/{role.rpartition('/')[2]}/{session}"
    return allows_request(policy, caller, account, context)


def check(policy: list[dict[str, Any]]) -> None:
    """Compare the engine with the oracle: who has access, and whether each witness is one."""
    verdicts = analyse_policy(policy_of(policy), FACTS, ORGANIZATION).verdicts
    assert not [verdict for verdict in verdicts if verdict.access is Access.UNKNOWN], policy
    assert all(
        is_valid(verdict, policy) for verdict in verdicts if verdict.witness and verdict.witness.caller != "*"
    ), policy
    for operation in (DECRYPT, DESCRIBE):
        found = [verdict for verdict in verdicts if operation in verdict.operations]
        check_operation(about(policy, operation), operation, found)


def contexts_of(policy: list[dict[str, Any]], operation: str) -> Iterator[Request]:
    """Every request context that the conditions of the policy distinguish; DescribeKey carries no encryption context."""
    tested = {key.lower() for statement in policy for _, key, _ in conditions(statement)} & VALUES.keys()
    values = {key: (None,) if key == CONTEXT and operation == DESCRIBE else VALUES[key] for key in sorted(tested)}
    for chosen in itertools.product(*values.values()):
        yield dict(zip(values, chosen, strict=True))


def check_operation(policy: list[dict[str, Any]], operation: str, verdicts: list[Verdict]) -> None:
    """Compare the verdicts on one operation with the oracle; the statements are those about the operation."""
    everyone = 0
    for context in contexts_of(policy, operation):
        everyone |= allowed(policy, context)
    public = any(verdict.access in {Access.PUBLIC, Access.PUBLIC_VIA_SERVICE} for verdict in verdicts)
    organization = any(verdict.access is Access.ORGANIZATION and verdict.account is None for verdict in verdicts)
    assert public or not everyone & of_accounts(STRANGERS), (policy, example(everyone & of_accounts(STRANGERS)))
    for account in KNOWN:
        found = everyone & of_accounts(frozenset({account}))
        covered = any(verdict.account == account for verdict in verdicts)
        covered |= account != OWNER and (public or (account == SISTER and organization))
        assert covered or not found, (policy, account, example(found))


def check_services(policy: list[dict[str, Any]]) -> None:
    """Compare the engine with the oracle: which AWS service has access, and for resources of which other account."""
    verdicts = analyse_policy(policy_of(policy), FACTS, ORGANIZATION).verdicts
    assert not [verdict for verdict in verdicts if verdict.access is Access.UNKNOWN], policy
    for operation in (DECRYPT, DESCRIBE):
        statements = about(policy, operation)
        served = {service: served_by(service, statements, operation) for service in (*SERVICES, "other.amazonaws.com")}
        for service in SERVICES:
            found = [each for each in verdicts if operation in each.operations and each.principal in {service, "*"}]
            direct = any(verdict.access in {Access.AWS_SERVICE, Access.PUBLIC} for verdict in found)
            assert direct or not served[service], (policy, operation, service, served)
            # What this service, or any service, can do for any account is no access of an account.
            for_any = (served[service] | served["other.amazonaws.com"]) & STRANGERS
            named = {verdict.account for verdict in found if verdict.by_service}
            public = any(verdict.access is Access.PUBLIC for verdict in found)
            outside = served[service] - {OWNER, None}
            assert for_any or public or None in named or outside <= named, (policy, operation, service, served, named)
            # A verdict on every service may exclude one.
            by_name = {verdict.account for verdict in found if verdict.by_service and verdict.principal == service}
            assert by_name - {None} <= served[service], (policy, operation, service, served, by_name)


def served_by(service: str, policy: list[dict[str, Any]], operation: str) -> set[Any]:
    """Return the accounts for whose resources the service is allowed the request; None for a request without a source."""
    requests = itertools.product(SOURCES, list(contexts_of(policy, operation)))
    return {
        source["aws:sourceaccount"]
        for source, context in requests
        if allows_service(policy, service, {**source, **context})
    }


def example(found: int) -> object:
    """The first identity of a set."""
    return universe().keys[(found & -found).bit_length() - 1]


CONSTRAINTS: list[tuple[dict[str, Any] | None, set[str | None]]] = [
    (None, {None, "a", "b", "B", "x"}),
    ({"EncryptionContextEquals": {"app": "a"}}, {"a"}),
    ({"EncryptionContextSubset": {"app": "b"}}, {"b"}),
    ({"EncryptionContextEquals": {}}, {None}),
]


CARRYING = [{"Condition": {"Null": {"kms:EncryptionContext:app": "true"}}}]
"""Makes requests carry an encryption context."""


def check_grant(
    policy: list[dict[str, Any]], grantee: str, constraints: dict[str, Any] | None, parsed: Policy | None = None
) -> None:
    """Compare a grant under the Deny statements of a policy with the oracle: whether an identity of the grantee can use it."""
    grant = Grant(
        FACTS.arn, "g", grantee_principal=grantee, operations='["Decrypt"]', constraints=json.dumps(constraints)
    )
    verdicts = analyse_grant(grant, FACTS, ORGANIZATION, parsed or policy_of(policy))
    denies = [statement for statement in policy if statement["Effect"] == "Deny"]
    granted = {"Effect": "Allow", "Principal": {"AWS": grantee}}
    contexts = next(values for written, values in CONSTRAINTS if written == constraints)
    found = 0
    for context in contexts_of([*about(denies, DECRYPT), *CARRYING], DECRYPT):
        if context[CONTEXT] in contexts:
            found |= allowed([granted, *about(denies, DECRYPT)], context)
    # An account has more identities than the universe, such as roles whose path contains a colon.
    is_account = classify(Named("AWS", grantee)).type == "account"
    assert bool(verdicts) is bool(found) or (is_account and not found), (policy, grantee, constraints, verdicts)
    assert all(verdict.access is not Access.UNKNOWN for verdict in verdicts)


@pytest.mark.parametrize("seed", range(2))
def test_every_identity_with_access_has_a_verdict_and_no_other(seed: int) -> None:
    """Each identity of a tiny universe that can use the key has a verdict, and every verdict has a witness that can use it."""
    draw = Draw(seed)
    for _ in range(100):
        check(draw.policy())


def test_every_service_with_access_has_a_verdict_and_no_other_account() -> None:
    """Each service that can use the key has a verdict, and each account that it can do so for, unless it can for any account."""
    draw = Draw(0)
    for _ in range(100):
        check_services(draw.service_policy())


@pytest.mark.parametrize(("seed", "grants"), [(0, 100), pytest.param(1, 2_000, marks=pytest.mark.deep)])
def test_a_grant_is_usable_if_an_identity_of_its_grantee_can_use_it(seed: int, grants: int) -> None:
    """A grant gives access if an identity of the grantee meets its constraints and no Deny of the key policy."""
    draw = Draw(seed)
    for _ in range(grants):
        check_grant(draw.policy(), draw.grantee(), draw.constraints())


@pytest.mark.parametrize(("seed", "policies"), [(0, 20), pytest.param(1, 400, marks=pytest.mark.deep)])
def test_grants_on_keys_with_the_same_policy_do_not_affect_each_other(seed: int, policies: int) -> None:
    """Grants analyzed one after the other under the same key policy share searches, and each still gets its own answer."""
    draw = Draw(seed)
    for number in range(policies):
        policy = draw.denials() if number % 2 else draw.policy()
        parsed = policy_of(policy)
        for _ in range(8):
            check_grant(policy, draw.grantee(), draw.constraints(), parsed)


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(2, 2 + int(os.environ.get("KMSLEDGER_ORACLE_THOUSANDS", "2"))))
def test_thousands_of_policies(seed: int) -> None:
    """As above, for a thousand policies of each seed; KMSLEDGER_ORACLE_THOUSANDS sets their number."""
    draw = Draw(seed)
    for _ in range(1_000):
        check(draw.policy())
        check_services(draw.service_policy())

"""The engine, compared with trying every identity of a tiny universe."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Iterator
from typing import Any

import pytest

from reports.access.engine import identities, policy_analysis, principals
from reports.access.engine.grant_analysis import analyse_grant
from reports.access.engine.model import Access, Grant, KeyFacts, Organization, Verdict
from reports.access.engine.policy_analysis import analyse_policy
from reports.access.engine.policy_parser import Named
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
    allowed,
    allows_request,
    of_accounts,
    universe,
)

FACTS = KeyFacts(f"arn:aws:kms:eu-west-1:{OWNER}:key/1", OWNER, "CUSTOMER")
ORGANIZATION = Organization(OURS, frozenset({OWNER, SISTER}))
STRANGERS = frozenset(ACCOUNTS) - {*KNOWN}
MFA, CONTEXT = "aws:multifactorauthpresent", "kms:encryptioncontext:app"
CONTEXTS: list[Request] = [
    {MFA: mfa, CONTEXT: context} for mfa in (None, "true", "false") for context in (None, "a", "b", "x")
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
        ]

    def policy(self) -> list[dict[str, Any]]:
        """One to four statements."""
        return [self._statement() for _ in range(self._random.randint(1, 4))]

    def grantee(self) -> str:
        """An account, user, role, session or federated user."""
        return self._named("Principal")

    def constraints(self) -> dict[str, Any] | None:
        """The constraints of a grant."""
        return self._random.choice(CONSTRAINTS)[0]

    def _statement(self) -> dict[str, Any]:
        condition: dict[str, dict[str, Any]] = {}
        for _ in range(self._random.choice([0, 1, 1, 2, 3])):
            operators, keys, values, most = self._random.choice(self._conditions)
            chosen = self._random.sample(values, self._random.randint(1, min(most, len(values))))
            condition.setdefault(self._random.choice(operators), {})[self._random.choice(keys)] = chosen
        effect = self._random.choice(["Allow", "Allow", "Deny"])
        element = self._random.choice(["Principal", "NotPrincipal"]) if effect == "Deny" else "Principal"
        listed: Any = {"AWS": [self._named(element) for _ in range(self._random.randint(1, 3))]}
        if element == "Principal" and self._random.random() < 0.6:
            listed = "*"
        return {"Effect": effect, element: listed, "Action": "kms:Decrypt", "Resource": "*", "Condition": condition}

    def _named(self, element: str) -> str:
        account = self._random.choice(KNOWN)
        if self._random.random() < 0.5:
            return self._random.choice([account, f"arn:aws:iam::{account}:root"])
        # Whether NotPrincipal exempts the sessions of a role that it lists is unknown.
        kinds = NAMED if element == "NotPrincipal" else [*NAMED, "iam::{}:role/{}", "iam::{}:role/b/a"]
        return f"arn:aws:{self._random.choice(kinds).format(account, self._random.choice(['ab', 'bb']))}"


@pytest.fixture(scope="module", autouse=True)
def tiny_accounts() -> Iterator[None]:
    """Accounts with two digits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identities, "_ACCOUNT_LENGTH", 2)
        patch.setattr(principals, "_ACCOUNT", re.compile("[0-9]{2}"))
        patch.setattr(principals, "_IDENTITY", re.compile(r"arn:[a-z0-9-]+:(iam|sts)::([0-9]{2}):(.+)", re.DOTALL))
        patch.setattr(policy_analysis, "_DIGITS", re.compile("(?<![0-9])[0-9]{2}(?![0-9])"))
        yield


def is_valid(verdict: Verdict, policy: list[dict[str, Any]]) -> bool:
    """Whether the policy allows the request that the verdict names as its witness."""
    assert verdict.witness is not None
    caller, account = verdict.witness.caller, verdict.witness.account or "no account"
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
    everyone = 0
    for context in CONTEXTS:
        everyone |= allowed(policy, context)
    public = any(verdict.access is Access.PUBLIC for verdict in verdicts)
    organization = any(verdict.access is Access.ORGANIZATION and verdict.account is None for verdict in verdicts)
    assert public or not everyone & of_accounts(STRANGERS), (policy, example(everyone & of_accounts(STRANGERS)))
    for account in KNOWN:
        found = everyone & of_accounts(frozenset({account}))
        covered = any(verdict.account == account for verdict in verdicts)
        covered |= account != OWNER and (public or (account == SISTER and organization))
        assert covered or not found, (policy, account, example(found))


def example(found: int) -> object:
    """The first identity of a set."""
    return universe().keys[(found & -found).bit_length() - 1]


CONSTRAINTS: list[tuple[dict[str, Any] | None, set[str | None]]] = [
    (None, {None, "a", "b", "x"}),
    ({"EncryptionContextEquals": {"app": "a"}}, {"a"}),
    ({"EncryptionContextSubset": {"app": "b"}}, {"b"}),
    ({"EncryptionContextEquals": {}}, {None}),
]


def check_grant(policy: list[dict[str, Any]], grantee: str, constraints: dict[str, Any] | None) -> None:
    """Compare a grant under the Deny statements of a policy with the oracle: whether an identity of the grantee can use it."""
    grant = Grant(
        FACTS.arn, "g", grantee_principal=grantee, operations='["Decrypt"]', constraints=json.dumps(constraints)
    )
    verdicts = analyse_grant(grant, FACTS, ORGANIZATION, policy_of(policy))
    denies = [statement for statement in policy if statement["Effect"] == "Deny"]
    granted = {"Effect": "Allow", "Principal": {"AWS": grantee}}
    contexts = next(values for written, values in CONSTRAINTS if written == constraints)
    found = 0
    for context in CONTEXTS:
        if context[CONTEXT] in contexts:
            found |= allowed([granted, *denies], context)
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


@pytest.mark.parametrize(("seed", "grants"), [(0, 100), pytest.param(1, 2_000, marks=pytest.mark.deep)])
def test_a_grant_is_usable_if_an_identity_of_its_grantee_can_use_it(seed: int, grants: int) -> None:
    """A grant gives access if an identity of the grantee meets its constraints and no Deny of the key policy."""
    draw = Draw(seed)
    for _ in range(grants):
        check_grant(draw.policy(), draw.grantee(), draw.constraints())


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(2, 2 + int(os.environ.get("KMSLEDGER_ORACLE_THOUSANDS", "4"))))
def test_thousands_of_policies(seed: int) -> None:
    """As above, for a thousand policies of each seed; KMSLEDGER_ORACLE_THOUSANDS sets their number."""
    draw = Draw(seed)
    for _ in range(1_000):
        check(draw.policy())

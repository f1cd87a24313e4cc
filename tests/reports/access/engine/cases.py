"""The format of test cases: a policy or a grant, the AWS rule behind it, and exactly the access that it gives.

An expectation is one line: class, principal, account (``-`` for none), then checks on the operations: ``=A,B`` exactly
these, ``+A,B`` at least these, ``-A`` none of these, ``#12`` their number, ``@Sid`` through this statement; after a bar, a
part of the conditions (``nothing``: no conditions). A case lists all access: any other verdict fails the test.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from reports.access.engine.model import Grant, KeyFacts, Organization, Verdict
from reports.access.engine.policy_parser import Policy, parse

OWNER, SISTER, OUTSIDER, CHECKMARX, CERBY = (
    "111122223333",
    "222233334444",
    "555566667777",
    "754581900792",
    "749452252575",
)
ORGANIZATION_ID = "o-ours000000"
KEY = f"arn:aws:kms:eu-west-1:{OWNER}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
FACTS = KeyFacts(KEY, OWNER, "CUSTOMER")
ORGANIZATION = Organization(
    ORGANIZATION_ID,
    frozenset({OWNER, SISTER}),
    {CHECKMARX: "Checkmarx", CERBY: "Cerby"},
    {OWNER: f"{ORGANIZATION_ID}/r-ab12/ou-prod/", SISTER: f"{ORGANIZATION_ID}/r-ab12/ou-test/"},
)
ADMIN, APP = f"arn:aws:iam::{OWNER}:role/admin", f"arn:aws:iam::{OWNER}:role/app"


def root(account: str = OWNER) -> str:
    return f"arn:aws:iam::{account}:root"


def statement(effect: str, principal: Any, action: Any = "kms:*", when: Any = None, **more: Any) -> dict[str, Any]:
    result: dict[str, Any] = {"Effect": effect, "Principal": principal, "Action": action, "Resource": "*"}
    if when is not None:
        result["Condition"] = when
    result |= more
    return {key: value for key, value in result.items() if value is not None}


def allow(principal: Any = "*", action: Any = "kms:Decrypt", when: Any = None, **more: Any) -> dict[str, Any]:
    return statement("Allow", principal, action, when, **more)


def deny(principal: Any = "*", action: Any = "kms:*", when: Any = None, **more: Any) -> dict[str, Any]:
    return statement("Deny", principal, action, when, **more)


def aws(*names: str) -> dict[str, Any]:
    return {"AWS": list(names)}


def service(*names: str) -> dict[str, Any]:
    return {"Service": list(names)}


def policy_of(statements: Any, version: str | None = "2012-10-17") -> Policy:
    document = {"Statement": statements} if version is None else {"Version": version, "Statement": statements}
    return parse(orjson.dumps(document).decode())


@dataclass(frozen=True)
class Case:
    """A key policy and the access that it gives."""

    id: str
    rule: str
    statements: Any
    expect: Sequence[str]
    lint_findings: frozenset[str] = frozenset()
    """Codes that must be among the lint findings."""
    silent: frozenset[str] = frozenset()
    """Codes that must not be among the lint findings."""
    facts: KeyFacts = FACTS
    organization: Organization = ORGANIZATION
    version: str | None = "2012-10-17"


@dataclass(frozen=True)
class GrantCase:
    """A grant, optionally with a key policy, and the access that it gives."""

    id: str
    rule: str
    grant: dict[str, Any]
    expect: Sequence[str]
    statements: Any = None
    facts: KeyFacts = FACTS
    organization: Organization = field(default=ORGANIZATION)


def grant_of(values: dict[str, Any]) -> Grant:
    filled = {"key_arn": KEY, "grant_id": "g-1", "issuing_account": root(), "operations": ["Decrypt"]} | values
    for name in ("operations", "constraints"):
        if not isinstance(filled.get(name), (str, type(None))):
            filled[name] = orjson.dumps(filled[name]).decode()
    return Grant(**filled)


def check(verdicts: Iterable[Verdict], expect: Sequence[str]) -> None:
    """Assert that the verdicts are exactly those expected."""
    remaining = list(verdicts)
    actual = "\n".join(
        f"{verdict.access} {verdict.principal} {verdict.account or '-'} {[name[4:] for name in verdict.operations]} "
        f"@{verdict.source_id} | {verdict.conditions} {verdict.reason}"
        for verdict in remaining
    )
    wanted = [line.split(" | ")[0].split() for line in expect]
    heads = sorted((verdict.access.value, verdict.principal, verdict.account or "-") for verdict in remaining)
    assert heads == sorted((parts[0], parts[1], parts[2]) for parts in wanted), actual
    for line, parts in zip(expect, wanted, strict=True):
        matching = [verdict for verdict in remaining if _matches(verdict, parts, line.partition(" | ")[2])]
        assert matching, f"no verdict matches {line!r} among\n{actual}"
        remaining.remove(matching[0])


def _matches(verdict: Verdict, parts: list[str], conditions: str) -> bool:
    if (verdict.access.value, verdict.principal, verdict.account or "-") != (parts[0], parts[1], parts[2]):
        return False
    operations = {name[4:] for name in verdict.operations}
    for check_ in parts[3:]:
        kind, names = check_[0], set(check_[1:].split(","))
        passed = {
            "=": operations == names,
            "+": names <= operations,
            "-": not names & operations,
            "#": check_[1:] == str(len(operations)),
            "@": check_[1:] == verdict.source_id,
        }[kind]
        if not passed:
            return False
    if conditions == "nothing":
        return not verdict.conditions
    return conditions in verdict.conditions

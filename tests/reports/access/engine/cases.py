"""How cases are written: a policy or a grant, the rule that it rests on, and exactly the access that it gives.

An expectation is one line: class, principal, account (``-`` for none), then what to check of the operations:
``=A,B`` exactly these, ``+A,B`` these and maybe others, ``-A`` not these, ``#12`` so many, ``@Sid`` through this statement,
and after a bar what the scope says. The classes, principals and accounts of a case are all there are: no line, no access.
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
    made: dict[str, Any] = {"Effect": effect, "Principal": principal, "Action": action, "Resource": "*"}
    if when is not None:
        made["Condition"] = when
    made |= more
    return {key: value for key, value in made.items() if value is not None}


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
    """A key policy and what it gives."""

    id: str
    rule: str
    statements: Any
    expect: Sequence[str]
    lint_findings: frozenset[str] = frozenset()
    """Codes that must be among what is said."""
    silent: frozenset[str] = frozenset()
    """Codes that must not."""
    facts: KeyFacts = FACTS
    organization: Organization = ORGANIZATION
    version: str | None = "2012-10-17"


@dataclass(frozen=True)
class GrantCase:
    """A grant, perhaps under a key policy, and what it gives."""

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
    found = list(verdicts)
    shown = [
        f"{one.access} {one.principal} {one.account or '-'} {[name[4:] for name in one.operations]} "
        f"@{one.source_id} | {one.conditions} {one.reason}"
        for one in found
    ]
    wanted = [line.split(" | ")[0].split() for line in expect]
    heads = sorted((one.access.value, one.principal, one.account or "-") for one in found)
    assert heads == sorted((parts[0], parts[1], parts[2]) for parts in wanted), "\n".join(shown)
    left = found[:]
    for line, parts in zip(expect, wanted, strict=True):
        fits = [one for one in left if _fits(one, parts, line.partition(" | ")[2])]
        assert fits, f"nothing fits {line!r} among\n" + "\n".join(shown)
        left.remove(fits[0])


def _fits(one: Verdict, parts: list[str], scope: str) -> bool:
    if (one.access.value, one.principal, one.account or "-") != (parts[0], parts[1], parts[2]):
        return False
    operations = {name[4:] for name in one.operations}
    for check_ in parts[3:]:
        kind, names = check_[0], set(check_[1:].split(","))
        good = {
            "=": operations == names,
            "+": names <= operations,
            "-": not names & operations,
            "#": check_[1:] == str(len(operations)),
            "@": check_[1:] == one.source_id,
        }[kind]
        if not good:
            return False
    if scope == "nothing":
        return not one.conditions
    return scope in one.conditions

"""A brute-force oracle: every identity of a tiny universe, and a plain evaluation of every request.

Accounts have two digits, names at most three letters out of three. Nothing here is shared with the engine: patterns are
regular expressions, sets of identities are numbers with a bit for each identity.
"""

from __future__ import annotations

import fnmatch
import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, reduce
from operator import or_
from typing import Any

OWNER, SISTER, OUTSIDER, OTHER = "11", "12", "21", "22"
OURS, FOREIGN = "o-ours000000", "o-xxxx"
ACCOUNTS = ["".join(digits) for digits in itertools.product("129", repeat=2)]
KNOWN = (OWNER, SISTER, OUTSIDER, OTHER)
"""The accounts that are callers of their own; all others are strangers."""
NAMES = ["".join(letters) for length in (1, 2, 3) for letters in itertools.product("abx", repeat=length)]
PATHS = ["".join(letters) for letters in itertools.product("abx", "/", ["a", "b", "x", "ab", "bb"])]
SESSIONS = ["aa", "bb", "xx"]
Request = Mapping[str, str | tuple[str, ...] | None]


@dataclass(frozen=True)
class Universe:
    """All identities: their ARNs as Principal elements have them, accounts, and condition keys."""

    arns: tuple[str, ...]
    accounts: tuple[str, ...]
    keys: tuple[Request, ...]


@cache
def universe() -> Universe:
    """Every identity."""
    arns, accounts, keys = [], [], []
    for account in ACCOUNTS:
        for organization in (OURS,) if account in {OWNER, SISTER} else (None, FOREIGN):
            rows: list[tuple[str, str, str, str, str | None]] = []
            root = f"arn:aws:iam::{account}:root"
            rows.append((root, "Account", root, account, None))
            for name in NAMES + PATHS:
                user, role = f"arn:aws:iam::{account}:user/{name}", f"arn:aws:iam::{account}:role/{name}"
                rows.append((user, "User", user, "AIDAXXXXXXXXXXXX", name.rpartition("/")[2]))
                for session in SESSIONS:
                    # A session's ARN does not contain the path of its role.
                    arn = f"arn:aws:sts::{account}:assumed-role/{name.rpartition('/')[2]}/{session}"
                    rows.append((arn, "AssumedRole", role, f"AROAXXXXXXXXXXXX:{session}", None))
            for name in NAMES[3:]:
                arn = f"arn:aws:sts::{account}:federated-user/{name}"
                rows.append((arn, "FederatedUser", arn, f"{account}:{name}", None))
            for arn, kind, principal_arn, user_id, user_name in rows:
                arns.append(arn)
                accounts.append(account)
                keys.append(
                    {
                        "aws:principaltype": kind,
                        "aws:principalaccount": account,
                        "kms:calleraccount": account,
                        "aws:principalarn": principal_arn,
                        "aws:userid": user_id,
                        "aws:username": user_name,
                        "aws:principalorgid": organization,
                        "aws:principalisawsservice": "false",
                    }
                )
    return Universe(tuple(arns), tuple(accounts), tuple(keys))


def _glob(pattern: str, piece: str = ".") -> str:
    return "".join({"*": f"{piece}*", "?": piece}.get(character, re.escape(character)) for character in pattern)


@cache
def _pattern(operator: str, value: str) -> re.Pattern[str]:
    if operator.startswith("Arn"):
        parts = value.split(":", 5)
        text = ":".join([*(_glob(part, "[^:]") for part in parts[:-1]), _glob(parts[-1])])
        return re.compile(text if len(parts) == 6 else "(?!)", re.DOTALL)
    text = _glob(value) if operator.endswith("Like") else re.escape(value)
    return re.compile(text, re.DOTALL | (re.IGNORECASE if "IgnoreCase" in operator else 0))


def holds(operator: str, key: str, values: list[str], request: Request) -> bool:
    """Whether one condition holds for a request."""
    value = request.get(key.lower())
    if operator == "Null":
        return (value is None) is (values == ["true"])
    name = operator.removesuffix("IfExists")
    negated = "Not" in name
    if value is None:
        return negated or name != operator
    positive = name.replace("Not", "").replace("Bool", "StringEqualsIgnoreCase")
    return any(_pattern(positive, item).fullmatch(str(value)) for item in values) is not negated


def _listed(principal: Any) -> list[str]:
    return ["*"] if principal == "*" else [principal["AWS"]] if isinstance(principal["AWS"], str) else principal["AWS"]


def _is(listed: str, arn: str, account: str, role: str) -> bool:
    """Whether a listed principal is the account, the identity, or the role of the session."""
    if listed in {account, f"arn:aws:iam::{account}:root"}:
        return True
    return listed == arn or (":assumed-role/" in arn and listed == role)


def applies(statement: Mapping[str, Any], arn: str, account: str, role: str) -> bool:
    """Whether the statement's Principal or NotPrincipal includes an identity."""
    if "Principal" in statement:
        return any(listed == "*" or _is(listed, arn, account, role) for listed in _listed(statement["Principal"]))
    listed = _listed(statement["NotPrincipal"])
    root = f"arn:aws:iam::{account}:root"
    # Deny: the account has to be listed, and the identity; the root user is the account.
    return not ({account, root} & {*listed} and (arn == root or arn in listed))


@cache
def _value_mask(operator: str, key: str, value: str) -> int:
    matching = (mask for actual, mask in _identities_by(key).items() if holds(operator, key, [value], {key: actual}))
    return reduce(or_, matching, 0)


@cache
def _identities_by(key: str) -> dict[str | None, int]:
    """Return the identities with each value of a condition key."""
    identities: dict[Any, int] = {}
    for position, keys in enumerate(universe().keys):
        identities[keys[key]] = identities.get(keys[key], 0) | 1 << position
    return identities


def _mask(operator: str, key: str, values: list[str]) -> int:
    if operator == "Null" or operator.endswith("IfExists"):
        return reduce(or_, (_value_mask(operator, key, value) for value in values))
    # Several values are joined by OR, also those of a negated operator before its negation.
    positive = reduce(or_, (_value_mask(operator.replace("Not", ""), key, value) for value in values))
    return _all() & ~positive if "Not" in operator else positive


@cache
def _all() -> int:
    return (1 << len(universe().keys)) - 1


@cache
def _listed_mask(listed: str) -> int:
    everyone = universe()
    return _bits(
        listed == "*" or _is(listed, arn, account, str(keys["aws:principalarn"]))
        for arn, account, keys in zip(everyone.arns, everyone.accounts, everyone.keys, strict=True)
    )


def _exempt(listed: list[str]) -> int:
    """Return the identities that NotPrincipal exempts: the root user of a listed account, and its listed identities."""
    roots = {f"arn:aws:iam::{account}:root": account for account in ACCOUNTS}
    accounts = {root: account for root, account in roots.items() if {root, account} & {*listed}}
    exempt = reduce(or_, (_by_arn().get(arn, 0) for arn in (*listed, *accounts)), 0)
    return exempt & of_accounts(frozenset(accounts.values()))


@cache
def _by_arn() -> dict[str, int]:
    identities: dict[str, int] = {}
    for position, arn in enumerate(universe().arns):
        identities[arn] = identities.get(arn, 0) | 1 << position
    return identities


def _audience(statement: Mapping[str, Any]) -> int:
    if "NotPrincipal" in statement:
        return _all() & ~_exempt(_listed(statement["NotPrincipal"]))
    return reduce(or_, map(_listed_mask, _listed(statement["Principal"])))


@cache
def of_accounts(accounts: frozenset[str]) -> int:
    """Return the identities of some accounts."""
    return _bits(account in accounts for account in universe().accounts)


def _bits(results: Iterable[bool]) -> int:
    return int("".join("1" if result else "0" for result in results)[::-1], 2)


def conditions(statement: Mapping[str, Any]) -> list[tuple[str, str, list[str]]]:
    """Return the conditions of a statement as operator, key and values."""
    return [
        (operator, key, [value] if isinstance(value, str) else value)
        for operator, block in statement.get("Condition", {}).items()
        for key, value in block.items()
    ]


def _impossible(policy: list[dict[str, Any]]) -> int:
    """Return the sessions whose role would have the name of a listed role in its account, and another path."""
    impossible = 0
    for statement in policy:
        for listed in _listed(statement.get("Principal") or statement["NotPrincipal"]):
            if ":role/" in listed:
                impossible |= _sessions_of_other_paths(listed)
    return impossible


@cache
def _sessions_of_other_paths(role: str) -> int:
    account, name = role.split(":")[4], role.rpartition("/")[2]
    roles = _identities_by("aws:principalarn")
    same_name = (arn for arn in roles if arn and f":{account}:role/" in arn and arn.rpartition("/")[2] == name)
    return reduce(or_, (roles[arn] for arn in same_name if arn != role), 0)


def about(policy: list[dict[str, Any]], operation: str) -> list[dict[str, Any]]:
    """Return the statements whose Action or NotAction includes an operation."""
    return [
        statement
        for statement in policy
        if fnmatch.fnmatchcase(operation, statement.get("Action") or statement["NotAction"]) is ("Action" in statement)
    ]


def allowed(policy: list[dict[str, Any]], context: Request) -> int:
    """Return the identities that the policy allows a request with this context, besides their own keys."""
    allows = denies = 0
    for statement in policy:
        mask = _audience(statement)
        for operator, key, values in conditions(statement):
            if key.lower() in universe().keys[0]:
                mask &= _mask(operator, key.lower(), values)
            elif not holds(operator, key, values, context):
                mask = 0
        if statement["Effect"] == "Allow":
            allows |= mask
        else:
            denies |= mask
    return allows & ~denies & ~_impossible(policy)


def allows_service(policy: list[dict[str, Any]], service: str, request: Request) -> bool:
    """Whether the policy allows a request of an AWS service."""
    effects = set()
    for statement in policy:
        principal = statement.get("Principal", "*")
        if (principal == "*" or service in principal.get("Service", ())) and all(
            holds(operator, key, values, request) for operator, key, values in conditions(statement)
        ):
            effects.add(statement["Effect"])
    return effects == {"Allow"}


def allows_request(policy: list[dict[str, Any]], arn: str, account: str, request: Request) -> bool:
    """Whether the policy allows one request."""
    role = str(request.get("aws:principalarn") or arn)
    effects = {
        statement["Effect"]
        for statement in policy
        if applies(statement, arn, account, role)
        and all(holds(operator, key, values, request) for operator, key, values in conditions(statement))
    }
    return effects == {"Allow"}

"""The principals that a policy or grant names: their type, their account, and whether it belongs to a known party.

Naming is not access: whether a named principal can use the key depends on conditions, Deny statements and IAM policies.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import yaml

from reports.access.engine.model import Access, Organization, relation
from reports.access.engine.policy_parser import Named, Statement
from reports.access.engine.wildcards import has_wildcard

_ACCOUNT = re.compile(r"[0-9]{12}")
_MENTIONED = re.compile(r"(?<![0-9])[0-9]{12}(?![0-9])")
_IDENTITY = re.compile(r"arn:[a-z0-9-]+:(iam|sts)::([0-9]{12}):(.+)", re.DOTALL)
_RESOURCE = re.compile(r"(root$|[a-z-]+/)[^*?]*\Z", re.DOTALL)
# IAM replaces the ARN of a deleted user, role or group with its unique id.
_UNIQUE_ID = re.compile(r"A(?:ID|RO|GP|IP|NP|3T)A[A-Z0-9]{12,124}")
_SERVICE = re.compile(
    r"[a-z0-9.-]+\.(?:amazonaws\.com(?:\.cn)?|amazonaws\.eu|aws\.internal|amazon\.com|aws\.amazon\.com)"
)
_TYPES = {
    "root": "account",
    "role/": "role",
    "user/": "user",
    "assumed-role/": "session",
    "federated-user/": "session",
    "saml-provider/": "federated",
    "oidc-provider/": "federated",
}


@dataclass(frozen=True, slots=True)
class Principal:
    """A named principal. ``organization`` is set where the statement restricts everyone to one organization."""

    written: str
    type: str
    """account, role, user, session, federated, service, public, deleted, canonical or unknown."""
    account: str | None = None
    organization: str | None = None


@lru_cache(maxsize=65_536)
def classify(named: Named) -> Principal:
    """Classify a named principal. A bare account id equals the account's root; a wildcard inside a name is unknown."""
    value = named.value
    if named.kind == "Service":
        return Principal(value, "unknown" if "*" in value or not value else "service")
    if named.kind == "CanonicalUser":
        return Principal(value, "canonical")
    identity = _IDENTITY.fullmatch(value)
    account = identity[2] if identity else None
    if named.kind == "Federated":
        return Principal(value, "unknown" if "*" in value or not value else "federated", account)
    if named.kind != "AWS":
        return Principal(value, "unknown", account)
    if value == "*":
        return Principal(value, "public")
    if _ACCOUNT.fullmatch(value):
        return Principal(value, "account", value)
    if _UNIQUE_ID.fullmatch(value):
        return Principal(value, "deleted")
    if identity and (resource := _RESOURCE.fullmatch(identity[3])):
        return Principal(value, _TYPES.get(resource[1], "unknown"), account)
    if _SERVICE.fullmatch(value):  # grants name services and identities in the same field
        return Principal(value, "service")
    return Principal(value, "unknown", account)


def relation_of(principal: Principal, owner: str, organization: Organization) -> tuple[Access, str | None]:
    """Return the relation of a principal to the key's owner, and the name of its party."""
    if principal.type == "service":
        return Access.AWS_SERVICE, None
    if principal.type == "deleted":
        return Access.DELETED, None
    if principal.type in {"unknown", "public"}:
        return Access.UNKNOWN, None
    if principal.type == "account" and principal.account == owner:
        return Access.OWNER_DELEGATED, None
    return relation(principal.account, owner, organization)


def mentioned_accounts(text: str) -> list[str]:
    """Return the account ids in a text."""
    return _MENTIONED.findall(text)


def role_of(arn: str) -> str:
    """Return the ARN of a session's role, assuming that the role has no path: a session ARN does not contain it.

    Other ARNs are returned unchanged.
    """
    head, separator, rest = arn.partition(":assumed-role/")
    return f"{head.replace(':sts:', ':iam:')}:role/{rest.partition('/')[0]}" if separator else arn


def named(statement: Statement) -> tuple[Principal, ...]:
    """Return the principals that a statement names.

    NotPrincipal names everyone except the listed principals. ``*`` becomes the account or the organization where a plain
    equality on the caller restricts it, the notation that AWS documents.
    """
    if statement.principal_kind == "NotPrincipal":
        return (Principal("*", "public"),)
    principals: list[Principal] = []
    for principal in map(classify, statement.principals):
        if principal.type == "public":
            principals += _restricted(principal, statement.conditions)
        else:
            principals.append(principal)
    return tuple(dict.fromkeys(principals))


def known_parties(configured: Iterable[tuple[str, Iterable[str]]] = ()) -> dict[str, str]:
    """Return account id to party name; configured parties override the published ones."""
    text = resources.files("reports.access.engine").joinpath("parties.yaml").read_text(encoding="utf-8")
    published = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - BaseLoader only creates strings, lists and mappings
    parties = {account: entry["name"] for entry in published for account in entry["accounts"]}
    return parties | {account: name for name, accounts in configured for account in accounts}


def _restricted(everyone: Principal, conditions: Mapping[str, Any]) -> list[Principal]:
    accounts, organizations = set(), set()
    for operator, block in conditions.items():
        if operator.lower() not in {"stringequals", "stringlike"} or not isinstance(block, Mapping):
            continue
        for key, value in block.items():
            values = value if isinstance(value, list) else [value]
            if not values or not all(isinstance(item, str) for item in values):
                continue
            if key.lower() in {"kms:calleraccount", "aws:principalaccount"} and all(map(_ACCOUNT.fullmatch, values)):
                accounts.update(values)
            if key.lower() == "aws:principalorgid" and not any(map(has_wildcard, values)):
                organizations.update(values)
    if accounts:
        return [Principal(everyone.written, "account", account) for account in sorted(accounts)]
    if organizations:
        return [Principal(everyone.written, "public", organization=item) for item in sorted(organizations)]
    return [everyone]

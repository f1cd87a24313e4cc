"""Reads from the mart what queries need: keys, grants, identities and their policies, the organization."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb

from reports.access.engine.model import Grant, KeyFacts, Organization
from reports.access.engine.policy_parser import Policy, parse
from reports.answers.policy_documents import Document, document
from reports.mart.as_of import RunRef, moments, resolve_as_of
from reports.mart.mart_reader import open_mart
from reports.mart.rows import rows


@dataclass(frozen=True, slots=True)
class Key:
    """A key, its policy (None: unknown, with the reason) and its grants."""

    facts: KeyFacts
    name: str
    """Its alias, or its ID."""
    region: str
    state: str | None
    policy: Policy | None
    reason: str
    grants: tuple[Grant, ...]
    grants_reason: str
    """Why there may be more grants."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A user or role with its tags, policies and permissions boundary."""

    arn: str
    account: str
    type: str
    """role, user, session, root, account (all principals of an account) or everyone."""
    unique_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    chooses_tags: bool = False
    """Whether a caller that assumes the role can set session tags."""
    policies: tuple[Document, ...] = ()
    boundary: Document | None = None
    collected: bool = True
    """Whether its policies were collected."""


@dataclass(slots=True)
class Facts:
    """The mart as of a run. Identities are cached, because one query reads them many times."""

    duck: duckdb.DuckDBPyConnection
    run: RunRef
    organization: Organization
    account_names: dict[str, str | None]
    """Account ID to name."""
    iam: dict[str, tuple[str, str | None]]
    """Account ID to the freshness of its IAM (see view iam_accounts) and the reason if it is not current."""
    _identities: dict[str, tuple[Identity, ...]] = field(default_factory=dict)

    def known_iam(self, account: str | None) -> bool:
        """Whether any users and roles of the account are known."""
        return account is not None and self.iam.get(account, ("none", None))[0] != "none"

    def complete_iam(self, account: str) -> bool:
        """Whether all users and roles of the account and their policies are known."""
        return self.iam.get(account, ("none", None))[0] == "current"

    def why_no_iam(self, account: str) -> str:
        """Why the IAM policies of the account are unknown, as a clause."""
        if account not in self.account_names:
            return "the account is outside the organization"
        freshness, reason = self.iam.get(account, ("none", None))
        reason = reason or "its collection is disabled"
        return f"IAM was {'not collected' if freshness == 'none' else 'collected only in part'}: {reason}"

    def identities(self, account: str) -> tuple[Identity, ...]:
        """The users and roles of an account."""
        identities = self._identities.get(account)
        if identities is None:
            identities = self._identities[account] = tuple(_identities(self.duck, account))
        return identities

    def key(self, key_arn: str) -> Key | None:
        """The key with this ARN; None if the ledger does not have it."""
        return next(iter(self.keys([key_arn])), None)

    def keys(self, key_arns: Sequence[str]) -> Iterator[Key]:
        """The keys with these ARNs that the ledger has."""
        remaining = iter(sorted(set(key_arns)))
        while chunk := list(islice(remaining, _CHUNK)):
            values = {"keys": chunk}
            grants: dict[str, list[Grant]] = {}
            for grant in rows(self.duck, _GRANTS, values):
                grants.setdefault(grant["key_arn"], []).append(Grant(**grant))
            for row in rows(self.duck, _KEY, values):
                yield self._key(row, tuple(grants.get(row["key_arn"], ())))

    def _key(self, row: dict[str, Any], grants: tuple[Grant, ...]) -> Key:
        arn, grants_denied = row["key_arn"], "kms:ListGrants" in (row["denied_actions"] or [])
        policy = parse(row["policy"]) if row["policy"] is not None else None
        causes = self._denial_causes(arn) if policy is None or grants_denied else {}
        not_collected = row["manager"] == "AWS" and policy is None
        no_policy = "AWS managed key: its policy was not collected" if not_collected else "its policy was not read"
        no_grants = causes.get("kms:ListGrants", "they could not be read") if grants_denied else ""
        return Key(
            KeyFacts(
                arn,
                row["account_id"],
                aliases=tuple(row["aliases"]),
                **{name: row[name] for name in ("manager", "tags", "key_spec", "key_usage", "origin")},
            ),
            row["alias"] or row["key_id"],
            row["region"],
            row["state"],
            policy,
            "" if policy else causes.get("kms:GetKeyPolicy", no_policy),
            grants,
            "AWS managed key: its grants were not collected" if not_collected else no_grants,
        )

    def _denial_causes(self, subject: str) -> dict[str, str]:
        query = "SELECT action, min(cause_text) AS cause_text FROM coverage WHERE subject = $subject GROUP BY action"
        return {
            row["action"]: row["cause_text"]
            for row in rows(self.duck, query, {"subject": subject})
            if row["cause_text"]
        }


_CHUNK = 1_000
_KEY = """
SELECT k.key_arn, k.key_id, k.account_id, k.region, k.alias, k.aliases, k.manager, k.state, k.tags, k.key_spec,
  k.key_usage, k.origin, k.denied_actions, p.received AS policy
FROM keys k LEFT JOIN key_policies p ON p.key_arn = k.key_arn
WHERE k.key_arn IN (SELECT unnest($keys))
ORDER BY k.key_arn
"""
_GRANTS = """
SELECT g.key_arn, g.grant_id, g.name, g.grantee_principal, g.grantee_service_principal, g.retiring_principal,
  g.retiring_service_principal, g.issuing_account, CAST(to_json(g.operations) AS VARCHAR) AS operations, g.constraints,
  g.created_at
FROM grants g WHERE g.key_arn IN (SELECT unnest($keys)) ORDER BY g.key_arn, g.grant_id
"""
_PRINCIPALS = """
SELECT arn, account_id, type, unique_id, tags, trust_policy, permissions_boundary_arn
FROM iam_principals WHERE account_id = $account ORDER BY arn
"""
_POLICIES = """
SELECT principal_arn, source, group_arn, policy_arn, policy_name, received
FROM iam_policies WHERE account_id = $account
ORDER BY principal_arn, source, group_arn NULLS FIRST, policy_arn, policy_name
"""


@contextmanager
def opened(path: Path, as_of: str | None = None) -> Iterator[Facts]:
    """The facts of a mart as of a run or date (default: the last finished run). Raises MartError or QueryError."""
    duck, run = open_mart(path, as_of)
    with duck:
        yield read(duck, run or resolve_as_of(moments(duck)))


def read(duck: duckdb.DuckDBPyConnection, run: RunRef) -> Facts:
    """The facts of an open mart."""
    accounts = rows(duck, "SELECT account_id, name, ou_ids, state FROM accounts")
    query = "SELECT organization_id FROM internal.run WHERE run_id = $run"
    organization_id = rows(duck, query, {"run": run.run_id})[0]["organization_id"]
    paths = {row["account_id"]: f"{organization_id}/{row['ou_ids'].strip('/')}/" for row in accounts if row["ou_ids"]}
    parties = rows(duck, "SELECT account_id, name FROM internal.known_party")
    organization = Organization(
        organization_id,
        frozenset(row["account_id"] for row in accounts if row["state"] != "LEFT"),
        {row["account_id"]: row["name"] for row in parties},
        paths if organization_id else {},
        run.started_at.replace(tzinfo=dt.UTC),
    )
    iam_accounts = rows(duck, "SELECT account_id, freshness, reason FROM iam_accounts")
    iam = {row["account_id"]: (row["freshness"], row["reason"]) for row in iam_accounts}
    return Facts(duck, run, organization, {row["account_id"]: row["name"] for row in accounts}, iam)


def _identities(duck: duckdb.DuckDBPyConnection, account: str) -> Iterator[Identity]:
    values = {"account": account}
    policies: dict[str, list[Document]] = {}
    boundaries: dict[str, Document] = {}
    for row in rows(duck, _POLICIES, values):
        policy = document(_policy_name(row), row["received"])
        if row["source"] == "boundary":
            boundaries[row["principal_arn"]] = policy
        else:
            policies.setdefault(row["principal_arn"], []).append(policy)
    for row in rows(duck, _PRINCIPALS, values):
        boundary_arn = row["permissions_boundary_arn"]
        yield Identity(
            row["arn"],
            row["account_id"],
            row["type"],
            row["unique_id"],
            row["tags"] or {},
            row["type"] == "role" and _allows_session_tags(row["trust_policy"]),
            tuple(policies.get(row["arn"], ())),
            boundaries.get(row["arn"], Document(boundary_arn, None)) if boundary_arn else None,
        )


def _policy_name(row: dict[str, Any]) -> str:
    group = f" of group {row['group_arn'].rpartition('/')[2]}" if row["group_arn"] else ""
    kind = {"inline": "inline policy ", "boundary": "permissions boundary "}.get(row["source"], "policy ")
    return f"{kind}{row['policy_name']}{group}"


def _allows_session_tags(trust_policy: str | None) -> bool:
    """Whether a trust policy can allow session tags; an unknown policy can."""
    if trust_policy is None:
        return True
    policy = parse(trust_policy)
    allowed = [statement for statement in policy.statements if statement.effect == "Allow"]
    actions = [action.lower() for statement in allowed for action in statement.actions]
    return not policy.readable or any("tagsession" in action or "*" in action for action in actions)

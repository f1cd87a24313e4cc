"""The few facts that a question needs, out of the mart: keys, grants, identities and their policies, the organization."""

from __future__ import annotations

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
from reports.answers.version_diff import rows
from reports.mart import as_of_connection
from reports.mart.as_of import Moment, moments, resolve
from reports.mart.connection import connect


@dataclass(frozen=True, slots=True)
class Key:
    """A key, its policy (None: not known, with the reason) and its grants."""

    facts: KeyFacts
    name: str
    """Its alias, or its id."""
    region: str
    state: str | None
    policy: Policy | None
    reason: str
    grants: tuple[Grant, ...]
    grants_reason: str
    """Why there may be more grants."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A user or role, with all that its account says of what it may do."""

    arn: str
    account: str
    type: str
    """role, user, session; root; account for all of an account's principals; everyone."""
    unique_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    chooses_tags: bool = False
    """Whether whoever assumes the role may give the session tags of their choice."""
    policies: tuple[Document, ...] = ()
    boundary: Document | None = None
    collected: bool = True
    """Whether its policies are known; those of an account whose IAM was not collected are not."""


@dataclass(slots=True)
class Facts:
    """The mart as of a moment. What is read is kept, as one question asks for it often."""

    duck: duckdb.DuckDBPyConnection
    moment: Moment
    organization: Organization
    names: dict[str, str | None]
    """Account id to name."""
    iam: dict[str, tuple[str, str | None]]
    """Account id to how far its IAM is known (see view iam_accounts), and why no further."""
    _identities: dict[str, tuple[Identity, ...]] = field(default_factory=dict)

    def known_iam(self, account: str | None) -> bool:
        """Whether anything is known of the account's users and roles."""
        return account is not None and self.iam.get(account, ("none", None))[0] != "none"

    def why_no_iam(self, account: str) -> str:
        """Why it is not known who in the account its IAM policies allow, as a clause."""
        if account not in self.names:
            return "the account is not ours"
        known, reason = self.iam.get(account, ("none", None))
        reason = reason or "it was not asked"
        return f"IAM was {'not collected' if known == 'none' else 'collected only in part'}: {reason}"

    def identities(self, account: str) -> tuple[Identity, ...]:
        """The users and roles of an account."""
        found = self._identities.get(account)
        if found is None:
            found = self._identities[account] = tuple(_identities(self.duck, account))
        return found

    def key(self, key_arn: str) -> Key | None:
        """A key of the ledger; None when there is none."""
        return next(iter(self.keys([key_arn])), None)

    def keys(self, key_arns: Sequence[str]) -> Iterator[Key]:
        """Those of the keys that are in the ledger."""
        wanted = iter(sorted(set(key_arns)))
        while chunk := list(islice(wanted, _CHUNK)):
            values = {"keys": chunk}
            grants: dict[str, list[Grant]] = {}
            for grant in rows(self.duck, _GRANTS, values):
                grants.setdefault(grant["key_arn"], []).append(Grant(**grant))
            for row in rows(self.duck, _KEY, values):
                yield self._key(row, tuple(grants.get(row["key_arn"], ())))

    def _key(self, row: dict[str, Any], grants: tuple[Grant, ...]) -> Key:
        arn, unread = row["key_arn"], "kms:ListGrants" in (row["denied_actions"] or [])
        policy = parse(row["policy"]) if row["policy"] is not None else None
        why = self._refusals(arn) if policy is None or unread else {}
        not_asked = row["manager"] == "AWS" and policy is None
        no_policy = "AWS managed key: its policy was not asked" if not_asked else "its policy was not read"
        no_grants = why.get("kms:ListGrants", "they could not be read") if unread else ""
        return Key(
            KeyFacts(
                arn=arn,
                account=row["account_id"],
                manager=row["manager"],
                tags=row["tags"],
                aliases=tuple(row["aliases"]),
                key_spec=row["key_spec"],
                key_usage=row["key_usage"],
                origin=row["origin"],
            ),
            row["alias"] or row["key_id"],
            row["region"],
            row["state"],
            policy,
            "" if policy else why.get("kms:GetKeyPolicy", no_policy),
            grants,
            "AWS managed key: its grants were not asked" if not_asked else no_grants,
        )

    def _refusals(self, subject: str) -> dict[str, str]:
        query = "SELECT action, any_value(cause_text) AS why FROM coverage WHERE subject = $subject GROUP BY action"
        return {row["action"]: row["why"] for row in rows(self.duck, query, {"subject": subject}) if row["why"]}


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
    """The facts of a mart as of a moment (default: its last run that ended). Raises MartError or QueryError."""
    if as_of is None:
        duck = connect(path)
        moment = resolve(moments(duck))
    else:
        duck, moment = as_of_connection.connect(path, as_of)
    with duck:
        yield read(duck, moment)


def read(duck: duckdb.DuckDBPyConnection, moment: Moment) -> Facts:
    """The facts of an open mart."""
    accounts = rows(duck, "SELECT account_id, name, ou_ids, state FROM accounts", {})
    organization = rows(duck, "SELECT organization_id FROM internal.run WHERE run_id = $run", {"run": moment.run_id})[
        0
    ]["organization_id"]
    paths = {row["account_id"]: f"{organization}/{row['ou_ids'].strip('/')}/" for row in accounts if row["ou_ids"]}
    organization = Organization(
        organization_id=organization,
        accounts=frozenset(row["account_id"] for row in accounts if row["state"] != "LEFT"),
        parties={
            row["account_id"]: row["name"]
            for row in rows(duck, "SELECT account_id, name FROM internal.known_party", {})
        },
        organization_paths=paths if organization else {},
    )
    iam = {
        row["account_id"]: (row["freshness"], row["reason"])
        for row in rows(duck, "SELECT account_id, freshness, reason FROM iam_accounts", {})
    }
    return Facts(duck, moment, organization, {row["account_id"]: row["name"] for row in accounts}, iam)


def _identities(duck: duckdb.DuckDBPyConnection, account: str) -> Iterator[Identity]:
    values = {"account": account}
    own: dict[str, list[Document]] = {}
    boundaries: dict[str, Document] = {}
    for row in rows(duck, _POLICIES, values):
        one = document(_policy_name(row), row["received"])
        if row["source"] == "boundary":
            boundaries[row["principal_arn"]] = one
        else:
            own.setdefault(row["principal_arn"], []).append(one)
    for row in rows(duck, _PRINCIPALS, values):
        bound = row["permissions_boundary_arn"]
        yield Identity(
            row["arn"],
            row["account_id"],
            row["type"],
            row["unique_id"],
            row["tags"] or {},
            row["type"] == "role" and _lets_tag(row["trust_policy"]),
            tuple(own.get(row["arn"], ())),
            boundaries.get(row["arn"], Document(bound, None)) if bound else None,
        )


def _policy_name(row: dict[str, Any]) -> str:
    group = f" of group {row['group_arn'].rpartition('/')[2]}" if row["group_arn"] else ""
    kind = {"inline": "inline policy ", "boundary": "permissions boundary "}.get(row["source"], "policy ")
    return f"{kind}{row['policy_name']}{group}"


def _lets_tag(trust: str | None) -> bool:
    """Whether a trust policy could let a session bring tags of its own; one that is not known could."""
    if trust is None:
        return True
    policy = parse(trust)
    actions = [action.lower() for one in policy.statements if one.effect == "Allow" for action in one.actions]
    return not policy.readable or any("tagsession" in one or one in {"*", "sts:*"} or "*" in one for one in actions)

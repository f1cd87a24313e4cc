"""Queries of the vendor checks against the mart, as of its run. Each is a file of the folder `sql`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Any

import duckdb

from reports.access.engine.model import Organization
from reports.access.engine.policy_parser import Policy, parse
from reports.mart.rows import QueryFiles, Row


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key of the ledger; None means unknown."""

    key_arn: str
    key_id: str
    account_id: str
    account_name: str | None
    region: str
    alias: str | None
    aliases: list[str]
    state: str | None
    key_spec: str | None
    key_usage: str | None
    origin: str | None
    deletion_date: dt.datetime | None
    tags: dict[str, str] | None
    freshness: str
    policy_hash: str | None
    policy_since: dt.datetime | None

    @property
    def partition(self) -> str:
        """The AWS partition, as in the ARN."""
        return self.key_arn.split(":")[1]


@dataclass(frozen=True, slots=True)
class RoleRow:
    """A role of the ledger with the texts of its policies; None means unknown."""

    arn: str
    account_id: str
    account_name: str | None
    name: str
    tags: dict[str, str]
    trust: str | None
    policies: list[str | None]
    """Its identity policies."""
    boundary: list[str | None]
    """Its permissions boundary, if it has one."""
    unread: list[str]
    """The names of the identity policies that are unknown."""


class Facts(QueryFiles):
    """The facts of one run in the mart."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, run_id: int) -> None:
        super().__init__(connection, "reports.vendors", "sql")
        self._run = run_id
        self.policy = lru_cache(maxsize=50_000)(self._policy)
        self.roles = cache(self._roles)
        run = next(self.rows("run"))
        self.started_at: dt.datetime = run["started_at"]
        now = self.started_at.replace(tzinfo=dt.UTC)
        self.organization = Organization(
            run["organization_id"], frozenset(run["accounts"] or ()), run["parties"], now=now
        )
        """The organization, as input of the access engine."""

    def rows(self, query: str, **parameters: Any) -> Iterator[Row]:
        """The rows of a query; `$run` is bound to the run."""
        return super().rows(query, run=self._run, **parameters)

    def keys(self, arns: list[str] | None, accounts: list[str]) -> Iterator[KeyRow]:
        """Yield customer managed keys: those with these ARNs, or if that is None, all of these accounts."""
        return (KeyRow(**row) for row in self.rows("keys", arns=arns, accounts=accounts))

    def _roles(self, name: str, trusting: str) -> dict[str, list[RoleRow]]:
        """By account the roles with a name, or else whose trust policy names a principal of an account."""
        by_account: dict[str, list[RoleRow]] = {}
        for row in self.rows("roles", name=name, trusting=trusting):
            by_account.setdefault(row["account_id"], []).append(RoleRow(**row))
        return by_account

    def _policy(self, policy_hash: str) -> Policy:
        return parse(next(self.rows("policy", policy_hash=policy_hash))["received"])

    def gap_reason(self, subject: str, action: str) -> str:
        """Why facts about a subject are missing, as a clause."""
        return next(self.rows("gap_reason", subject=subject, action=action), {"reason": "it was not read"})["reason"]

    @cached_property
    def _iam_accounts(self) -> dict[str, tuple[bool, str]]:
        return {row["account_id"]: (row["known"], row["reason"]) for row in self.rows("iam_accounts")}

    def iam(self, account: str) -> tuple[bool, str]:
        """Whether the IAM of an account was read completely, and the reason if not."""
        return self._iam_accounts.get(account, (False, "the account is not in the ledger"))

    def iam_read(self) -> str:
        """In how many accounts IAM was read, as a text."""
        known = [known for known, _ in self._iam_accounts.values()]
        return f"IAM was read in {sum(known)} of {len(known)} accounts"

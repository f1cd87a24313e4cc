"""Queries of the vendor checks against the mart, as of its run: keys, policies with history, roles, dependents."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import duckdb

from reports.access.engine.model import Grant, Organization
from reports.access.engine.policy_parser import Policy, parse
from reports.connections import new_cursor

_BATCH = 2_000
_KEYS = """
SELECT k.key_arn, k.key_id, k.account_id, k.account_name, k.region, k.alias, k.aliases, k.state, k.key_spec, k.key_usage,
  k.origin, k.multi_region, k.multi_region_type, k.primary_arn, k.replica_arns, k.deletion_date, k.tags, k.freshness,
  k.denied_actions, p.policy_hash, r.started_at AS policy_since
FROM keys k
LEFT JOIN internal.key_policy p ON p.key_arn = k.key_arn AND internal.known(p.valid_from, p.valid_to, $run)
LEFT JOIN internal.run r ON r.run_id = p.valid_from
WHERE k.manager IS DISTINCT FROM 'AWS'
"""


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
    multi_region: bool | None
    multi_region_type: str | None
    primary_arn: str | None
    replica_arns: list[str]
    deletion_date: dt.datetime | None
    tags: dict[str, str] | None
    freshness: str
    denied_actions: list[str]
    policy_hash: str | None
    policy_since: dt.datetime | None

    @property
    def name(self) -> str:
        """The alias, or else the ID."""
        return self.alias or self.key_id


@dataclass(frozen=True, slots=True)
class DeletedKey:
    """A key of the ledger that no longer exists."""

    key_arn: str
    account_id: str
    region: str
    alias: str | None
    since: dt.datetime | None
    """The start of the first run without it."""
    last_hash: str | None
    """The hash of its last policy."""


@dataclass(frozen=True, slots=True)
class RoleRow:
    """A role of the ledger with its identity policies and boundary."""

    arn: str
    account_id: str
    account_name: str | None
    name: str
    tags: dict[str, str]
    trust: str | None
    policies: tuple[tuple[str, str, str | None], ...] = field(default=())
    """Source (inline, attached, boundary), name and text; the text is None if unknown."""


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """An earlier policy of a key; ``ended_at`` is the start of the run that first saw another one."""

    policy_hash: str
    ended_at: dt.datetime | None


class Facts:
    """Runs queries against the mart of one run. The caller owns the connection."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, run_id: int) -> None:
        self._connection = connection
        self._run = run_id
        self._assignment = ".".join(
            f'"{name}"' for name in connection.execute("SELECT current_catalog(), current_schema()").fetchone() or ()
        )
        self.policy = lru_cache(maxsize=50_000)(self._policy)
        self.iam = lru_cache(maxsize=None)(self._iam)

    def rows(self, query: str, **values: Any) -> Iterator[dict[str, Any]]:
        """Yield the rows of a query; ``$run`` is bound to the run."""
        cursor = new_cursor(self._connection)
        try:
            cursor.execute(f"USE {self._assignment}")
            cursor.execute(query, {"run": self._run, **values} if "$run" in query else values)
            names = [column[0] for column in cursor.description or ()]
            while batch := cursor.fetchmany(_BATCH):
                for row in batch:
                    yield dict(zip(names, row, strict=True))
        finally:
            cursor.close()

    @cached_property
    def started_at(self) -> dt.datetime:
        """The start of the run."""
        run = next(self.rows("SELECT started_at FROM internal.run WHERE run_id = $run"))
        started_at: dt.datetime = run["started_at"]
        return started_at

    @cached_property
    def organization(self) -> Organization:
        """The organization, as input of the access engine."""
        run = next(self.rows("SELECT organization_id FROM internal.run WHERE run_id = $run"))
        accounts = frozenset(row["account_id"] for row in self.rows("SELECT account_id FROM accounts"))
        parties = {
            row["account_id"]: row["name"] for row in self.rows("SELECT account_id, name FROM internal.known_party")
        }
        return Organization(run["organization_id"], accounts, parties, now=self.started_at.replace(tzinfo=dt.UTC))

    def keys(self, *, arns: Sequence[str] | None = None, accounts: Sequence[str] | None = None) -> Iterator[KeyRow]:
        """Yield customer managed keys: those with these ARNs, or all of these accounts."""
        if arns is not None:
            query, values = f"{_KEYS} AND k.key_arn IN (SELECT unnest($arns))", {"arns": list(arns)}
        else:
            query, values = (
                f"{_KEYS} AND k.account_id IN (SELECT unnest($accounts))",
                {"accounts": list(accounts or ())},
            )
        for row in self.rows(f"{query} ORDER BY k.account_id, k.region, k.alias, k.key_arn", **values):
            yield KeyRow(**row)

    def find_keys(self, names: Sequence[str], accounts: Sequence[str]) -> dict[str, list[str]]:
        """The ARNs of the matching keys by name (alias, ARN or ID)."""
        query = """
            SELECT n.name, k.key_arn FROM (SELECT unnest($names) AS name) n
            JOIN keys k ON k.key_arn = n.name OR k.key_id = n.name OR list_contains(k.aliases, n.name)
            WHERE (len($accounts) = 0 OR list_contains($accounts, k.account_id)) AND k.manager IS DISTINCT FROM 'AWS'
        """
        arns_by_name: dict[str, list[str]] = {name: [] for name in names}
        for row in self.rows(query, names=list(names), accounts=list(accounts)):
            arns_by_name[row["name"]].append(row["key_arn"])
        return arns_by_name

    def related(self, arns: Sequence[str]) -> list[str]:
        """The keys and their related multi-Region keys, which have the same ID and account."""
        query = """
            SELECT DISTINCT b.key_arn FROM keys a
            JOIN keys b ON b.account_id = a.account_id AND b.key_id = a.key_id
            WHERE a.key_arn IN (SELECT unnest($arns))
        """
        return [row["key_arn"] for row in self.rows(query, arns=list(arns))] if arns else []

    def ever_shared_with(self, account: str, accounts: Sequence[str]) -> list[str]:
        """Keys, including deleted ones, whose current or an earlier policy allowed an account anything."""
        query = """
            SELECT DISTINCT p.key_arn FROM internal.key_policy p
            JOIN internal.policy_principal n ON n.policy_hash = p.policy_hash
            JOIN internal.policy_statement s ON s.policy_hash = n.policy_hash AND s.statement_index = n.statement_index
            WHERE n.account = $account AND s.effect = 'Allow' AND p.valid_from <= $run
              AND (len($accounts) = 0 OR list_contains($accounts, split_part(p.key_arn, ':', 5)))
        """
        return [row["key_arn"] for row in self.rows(query, account=account, accounts=list(accounts))]

    def deleted(self, names: Sequence[str]) -> list[DeletedKey]:
        """Deleted keys by ARN, ID or former alias."""
        query = """
            WITH closed AS (
              SELECT key_arn, key_id, account_id, region, max(valid_to) AS run_id FROM internal.key
              WHERE valid_from <= $run GROUP BY ALL HAVING bool_and(valid_to IS NOT NULL AND valid_to <= $run)
            ), aliased AS (
              SELECT target_key_arn AS key_arn, alias_name, valid_from FROM internal.alias
              WHERE valid_from <= $run AND target_key_arn IS NOT NULL
            )
            SELECT c.key_arn, c.account_id, c.region, arg_max(a.alias_name, a.valid_from) AS alias,
              any_value(r.started_at) AS since,
              (SELECT arg_max(p.policy_hash, p.valid_from) FROM internal.key_policy p WHERE p.key_arn = c.key_arn) AS last_hash
            FROM closed c
            LEFT JOIN aliased a ON a.key_arn = c.key_arn
            LEFT JOIN internal.run r ON r.run_id = c.run_id
            GROUP BY c.key_arn, c.key_id, c.account_id, c.region
            HAVING list_contains($names, c.key_arn) OR list_contains($names, c.key_id)
              OR list_has_any($names, coalesce(list(a.alias_name), []))
        """
        return [DeletedKey(**row) for row in self.rows(query, names=list(names))] if names else []

    def _policy(self, policy_hash: str) -> Policy:
        query = "SELECT received FROM internal.policy_document WHERE policy_hash = $digest"
        return parse(next(self.rows(query, digest=policy_hash))["received"])

    def earlier_policies(self, key_arn: str) -> list[PolicyVersion]:
        """The earlier policies of a key, latest first."""
        query = """
            SELECT p.policy_hash, r.started_at AS ended_at FROM internal.key_policy p
            LEFT JOIN internal.run r ON r.run_id = p.valid_to
            WHERE p.key_arn = $key_arn AND p.valid_to IS NOT NULL AND p.valid_to <= $run ORDER BY p.valid_from DESC
        """
        return [PolicyVersion(**row) for row in self.rows(query, key_arn=key_arn)]

    def state_since(self, key_arn: str, state: str) -> tuple[dt.datetime | None, bool]:
        """The start of the first run with the current state, and whether an earlier run saw another state."""
        query = """
            SELECT m.state, r.started_at FROM internal.key_metadata m LEFT JOIN internal.run r ON r.run_id = m.valid_from
            WHERE m.key_arn = $key_arn AND m.valid_from <= $run ORDER BY m.valid_from DESC
        """
        since = None
        for row in self.rows(query, key_arn=key_arn):
            if row["state"] != state:
                return since, True
            since = row["started_at"]
        return since, False

    def dependents(self, key_arn: str) -> list[dict[str, Any]]:
        """The resources that use a key: service, name, status and ARN."""
        query = """
            SELECT DISTINCT u.service, u.resource_name AS name, s.status, u.resource_arn
            FROM resource_keys u LEFT JOIN resources s ON s.resource_arn = u.resource_arn
            WHERE u.key_arn = $key_arn ORDER BY u.service, name, u.resource_arn
        """
        return list(self.rows(query, key_arn=key_arn))

    def gap_reason(self, subject: str, *actions: str) -> str:
        """Why facts about a subject are missing, as a clause."""
        query = """
            SELECT action, coalesce(cause_text, cause) AS why FROM coverage
            WHERE outcome = 'gap' AND subject = $subject ORDER BY action
        """
        gaps = [row for row in self.rows(query, subject=subject) if not actions or row["action"] in actions]
        return f"{gaps[0]['action']} failed: {gaps[0]['why']}" if gaps else "it was not read"

    def grants(self, key_arn: str) -> list[Grant]:
        """The grants on a key."""
        query = """
            SELECT key_arn, grant_id, name, grantee_principal, grantee_service_principal, issuing_account, operations
            FROM internal.key_grant g WHERE key_arn = $key_arn AND internal.known(g.valid_from, g.valid_to, $run)
        """
        return [Grant(**row) for row in self.rows(query, key_arn=key_arn)]

    def _iam(self, account: str) -> tuple[bool, str]:
        """Whether the IAM of an account was read completely, and the reason if not."""
        query = "SELECT freshness, reason FROM iam_accounts WHERE account_id = $account"
        row = next(self.rows(query, account=account), None)
        if row is None:
            return False, "the account is not in the ledger"
        return row["freshness"] in {"current", "stale"}, row["reason"] or "it was not read"

    def roles(self, *, name: str = "", trusting: str = "", accounts: Sequence[str] = ()) -> list[RoleRow]:
        """Roles with a name, or else whose trust policy names a principal of an account; in these accounts, or all."""
        query = """
            SELECT arn, account_id, account_name, name, tags, trust_policy AS trust FROM iam_principals
            WHERE type = 'role' AND (len($accounts) = 0 OR list_contains($accounts, account_id))
              AND (($name <> '' AND name = $name)
                OR ($name = '' AND $trusting <> '' AND contains(array_to_string(trusted_principals, ' '), $trusting)))
            ORDER BY account_id, arn
        """
        roles = [RoleRow(**row) for row in self.rows(query, name=name, trusting=trusting, accounts=list(accounts))]
        policies: dict[str, list[tuple[str, str, str | None]]] = {role.arn: [] for role in roles}
        query = """
            SELECT principal_arn, source, policy_name, received FROM iam_policies
            WHERE principal_arn IN (SELECT unnest($arns)) ORDER BY source, policy_name
        """
        for row in self.rows(query, arns=list(policies)):
            policies[row["principal_arn"]].append((row["source"], row["policy_name"], row["received"]))
        return [
            RoleRow(
                role.arn,
                role.account_id,
                role.account_name,
                role.name,
                role.tags,
                role.trust,
                tuple(policies[role.arn]),
            )
            for role in roles
        ]

    def alias_moves(self, names: Sequence[str], arns: Sequence[str]) -> list[dict[str, Any]]:
        """Aliases with these names, or of these keys, that now point to another key: from, to, since."""
        query = """
            WITH past AS (
              SELECT a.alias_arn, a.alias_name, a.target_key_arn AS from_arn, max(a.valid_to) AS run_id FROM internal.alias a
              WHERE a.valid_from <= $run AND a.valid_to <= $run AND a.target_key_arn IS NOT NULL GROUP BY ALL
            )
            SELECT p.alias_name, p.from_arn, n.target_key_arn AS to_arn, r.started_at AS since
            FROM past p
            JOIN aliases n ON n.alias_arn = p.alias_arn AND n.target_key_arn <> p.from_arn
            LEFT JOIN internal.run r ON r.run_id = p.run_id
            WHERE list_contains($names, p.alias_name) OR list_contains($arns, p.from_arn)
              OR list_contains($arns, n.target_key_arn)
        """
        return list(self.rows(query, names=list(names), arns=list(arns)))

    def changes(self, key_arn: str, days: int) -> list[dict[str, Any]]:
        """The changes of a key in the last days before the run."""
        query = """
            SELECT occurred_at AS since, event_type, message, before, after FROM changes
            WHERE key_arn = $key_arn AND resource_arn IS NULL AND occurred_at >= $earliest ORDER BY run_id DESC, event_type
        """
        return list(self.rows(query, key_arn=key_arn, earliest=self.started_at - dt.timedelta(days=days)))

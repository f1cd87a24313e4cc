"""Limits a report to an account or an owner: a catalog in which every view has only what concerns it.

The queries of the reports name views without a catalog, so they run unchanged in the restricted catalog. It has the views that
are declared here, and nothing else.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import duckdb

from reports.answers.identifier_lookup import find_accounts
from reports.mart import view_loader
from reports.mart.connection import CATALOG, fetch_one, quoted
from reports.mart.errors import QueryError
from reports.mart.internal_schema import create_schema
from reports.mart.result_writers import printable

_CATALOG: Final = "memory"
"""The catalog in memory that each connection has."""
_WHOLE: Final = f"{CATALOG}.main."
_OWN: Final = f"{_CATALOG}.main."

_VIEWS: Final = (
    *("owners", "keys", "key_policies", "key_policy_statements", "key_tags", "key_principals", "grants", "aliases", "resources"),
    *("resource_keys", "accounts", "coverage", "changes", "findings", "findings_history", "finding_lifecycle", "rule_results"),
    *("rule_results_history", "vendor_checks", "situation_findings"),
)  # fmt: skip
_DERIVED: Final = {
    "rules": f"FROM {_WHOLE}rules",
    # The status of the run, its calls and its message are about all accounts.
    "runs": f"""
        SELECT * REPLACE (
          CASE status WHEN 'partial' THEN 'complete' ELSE status END AS status,
          CASE WHEN status NOT IN ('complete', 'partial') THEN message END AS message,
          CAST(NULL AS VARCHAR) AS management_account_id, CAST(NULL AS VARCHAR) AS caller_arn, CAST(NULL AS INTEGER) AS accounts,
          CAST(NULL AS INTEGER) AS scopes, CAST(NULL AS INTEGER) AS calls, CAST(NULL AS INTEGER) AS gaps)
        FROM {_WHOLE}runs
        """,
    "internal.run": f"SELECT run_id, started_at, finished_at, status FROM {CATALOG}.internal.run",
    "internal.rule_result": f"SELECT valid_from, valid_to FROM {CATALOG}.internal.rule_result",
    "internal.finding": f"FROM {CATALOG}.internal.finding SEMI JOIN {_OWN}findings USING (rule_id, resource_arn)",
    "internal.named_keys": f"""
        SELECT * REPLACE (CASE WHEN key_arn IN (SELECT key_arn FROM {_OWN}keys) THEN grants END AS grants)
        FROM {_WHOLE}keys
        WHERE key_arn IN (SELECT key_arn FROM {_OWN}keys UNION SELECT key_arn FROM {_OWN}resource_keys)
        """,
    "internal.pending_deletions": f"FROM {CATALOG}.internal.pending_deletions SEMI JOIN {_OWN}keys USING (key_arn)",
}
_STORED: Final = frozenset({"internal.any_owner", "owners", "coverage", "findings", "situation_findings"})
"""The views that many queries read and that cost more than a filter."""


@dataclass(frozen=True)
class Subject:
    """What a report is about. ``selects`` returns the SELECT of each view in ``_VIEWS``, from a mart with a prefix."""

    kind: str
    name: str
    """The name for titles."""
    slug: str
    """The name for files: the same for the same subject, without characters that have a meaning in a path."""
    selects: Callable[[str], Mapping[str, str]]
    counts_passes: bool = True
    """Whether passes are counted for it; otherwise only problems are known."""

    def restrict(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Create the restricted catalog on a connection to a mart, and use it."""
        (run_id,) = fetch_one(connection, "SELECT internal.view_run()")
        connection.execute(f"USE {_CATALOG}")
        create_schema(connection)
        connection.execute(f"CREATE MACRO internal.view_run() AS {run_id:d}")
        # The mart's own views find each other only while its catalog is in use.
        connection.execute(f"USE {CATALOG}")
        for name, select in {**self.selects(_WHOLE), **_DERIVED}.items():
            qualified = f"{_CATALOG}.{name}" if "." in name else _OWN + name
            connection.execute(f"CREATE {'TABLE' if name in _STORED else 'VIEW'} {qualified} AS {select}")
        connection.execute(f"USE {_CATALOG}")
        situations = next(view.select for view in view_loader.views() if view.name == "situations")
        connection.execute(f"CREATE TABLE situations AS {view_loader.fixed(situations, run_id)}")

    def limited(self, sql: str) -> str:
        """A query of the mart's public views, limited to the subject, for a user of the mart."""
        selects = self.selects("")
        return re.sub(
            r"\b(FROM|JOIN) (\w+)",
            lambda match: f"{match[1]} ({selects[match[2]]})" if match[2] in selects else match[0],
            sql,
        )


def account(account_id: str, name: str | None) -> Subject:
    """An account: its keys and resources, the resources that use its keys, and what is known about both."""
    value = quoted(account_id)
    mine = f"account_id = {value}"
    conditions = {
        "resource_keys": f"{mine} OR key_account_id = {value}",
        "changes": f"{mine} OR split_part(key_arn, ':', 5) = {value}",
        "situation_findings": f"{mine} OR (kind = 'key' AND split_part(cause, ':', 5) = {value})",
    }

    def selects(whole: str) -> dict[str, str]:
        lifecycle = (
            f"(rule_id, resource_arn) IN (SELECT (rule_id, resource_arn) FROM {whole}findings_history WHERE {mine})"
        )
        where = {**dict.fromkeys(_VIEWS, mine), **conditions, "finding_lifecycle": lifecycle}
        return {view: f"SELECT * FROM {whole}{view} WHERE {where[view]}" for view in _VIEWS}

    return Subject("account", f"{name} ({account_id})" if name else account_id, account_id, selects)


def owner(name: str, earlier_run: int | None) -> Subject:
    """An owner: what the view ``owners`` assigns to it, the resources that use its keys, and what is known about both.

    A finding, change or gap belongs to the owner of the resource, else of the key, else of the account. What no longer exists
    belongs to its owner as of ``earlier_run``.
    """
    value = quoted(name)

    def selects(whole: str) -> dict[str, str]:
        every = f"SELECT resource_arn, owner FROM {whole}owners"
        if earlier_run is not None:
            every += (
                f" UNION ALL SELECT resource_arn, owner FROM {whole}owners_as_of({earlier_run:d}) "
                f"WHERE resource_arn NOT IN (SELECT resource_arn FROM {whole}owners)"
            )
        source = f"{_CATALOG}.internal.any_owner" if whole else f"({every})"

        def owned(*columns: str) -> str:
            owners = (
                f"(SELECT any_value(o.owner) FROM {source} o WHERE o.resource_arn = v.{name})" for name in columns
            )
            return f"coalesce({', '.join(owners)}) = {value}"

        owned_here = f"{_OWN}owners" if whole else f"owners WHERE owner = {value}"
        mine = f"(SELECT resource_arn FROM {owned_here})"
        accounts = f"v.account_id IN {mine.replace('resource_arn', 'account_id')}"
        problems = f"FROM {whole}findings_history v WHERE {owned('resource_arn', 'key_arn', 'account_id')}"
        lifecycle = f"(v.rule_id, v.resource_arn) IN (SELECT (v.rule_id, v.resource_arn) {problems})"
        where = {
            **dict.fromkeys(_VIEWS, f"v.key_arn IN {mine}"),
            "owners": f"v.owner = {value}",
            "aliases": f"v.target_key_arn IN {mine}",
            "resources": f"v.resource_arn IN {mine}",
            "resource_keys": f"v.resource_arn IN {mine} OR v.key_arn IN {mine}",
            "accounts": accounts,
            "coverage": f"{accounts} AND (coalesce(v.subject, '') = '' OR {owned('subject', 'account_id')})",
            "changes": f"v.key_arn IN {mine} OR {owned('resource_arn', 'key_arn', 'account_id')}",
            "findings": f"v.owner = {value}",
            "findings_history": owned("resource_arn", "key_arn", "account_id"),
            "finding_lifecycle": lifecycle,
            "vendor_checks": owned("subject", "key_arn", "account_id"),
            "situation_findings": f"v.owner = {value} OR v.cause IN {mine}",
        }
        # Passes are counted by account and region, not by resource.
        counted = ", ".join(
            f"count(*) FILTER (status = '{status}') AS {column}"
            for column, status in (("failed", "fail"), ("unknown", "unknown"), ("waived", "waived"))
        )
        passes = "CAST(NULL AS BIGINT) AS passed, CAST(NULL AS BIGINT) AS not_applicable"
        return (
            ({"internal.any_owner": every} if whole else {})
            | {view: f"SELECT * FROM {whole}{view} v WHERE {where[view]}" for view in _VIEWS}
            | {
                "rule_results": f"SELECT rule_id, title, severity, family, account_id, account_name, region, {counted}, {passes} "
                f"FROM {whole}findings v WHERE {where['findings']} GROUP BY ALL",
                "rule_results_history": f"SELECT rule_id, account_id, region, {counted}, {passes}, valid_from, valid_to "
                f"{problems} GROUP BY ALL",
            }
        )

    return Subject("owner", name, slug(name), selects, counts_passes=False)


def slug(name: str) -> str:
    """A name for files: readable, and different for different names."""
    readable = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
    return f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:8]}".lstrip("-")


def find_account(connection: duckdb.DuckDBPyConnection, text: str) -> Subject:
    """The account with an ID or name. Raises QueryError with close names if the mart's run knows none, or several."""
    accounts = find_accounts(connection, text)
    if len(accounts) > 1:
        raise QueryError(f"there are {len(accounts)} accounts {text!r}: specify the ID: {', '.join(accounts)}")
    known = connection.execute("SELECT name FROM accounts WHERE account_id = ?", accounts).fetchall()
    if not known:
        raise QueryError(f"account {accounts[0]} is not an account of this run: use --as-of with a run that has it")
    return account(accounts[0], known[0][0])


def find_owner(connection: duckdb.DuckDBPyConnection, text: str) -> Subject:
    """The owner with a name. Raises QueryError with close names if the mart's run has none."""
    query = "SELECT DISTINCT owner FROM owners ORDER BY owner"
    name = matching("owner", text, [name for (name,) in connection.execute(query).fetchall()], query)
    earlier = "SELECT max(run_id) FROM runs WHERE status IN ('complete', 'partial') AND run_id < internal.view_run()"
    return owner(name, fetch_one(connection, earlier)[0])


def matching(noun: str, text: str, names: Sequence[str], query: str) -> str:
    """The name that is equal, or else the only one that differs in case only. Raises QueryError with close names."""
    equal = [name for name in names if name == text] or [name for name in names if name.casefold() == text.casefold()]
    if len(equal) == 1:
        return equal[0]
    close = equal or difflib.get_close_matches(text, names)
    hint = f"did you mean {' or '.join(map(printable, close))}?" if close else f'`kmsledger sql "{query}"` lists them'
    raise QueryError(f"there is no {noun} {text!r} in the ledger: {hint}")

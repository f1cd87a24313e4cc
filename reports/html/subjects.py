"""Limits a report to accounts, an owner, a vendor or a key: a catalog in which every view has only what concerns it.

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

from models.safe_text import printable
from reports.answers.identifier_lookup import find_accounts
from reports.answers.key_history import find_one
from reports.mart import view_loader
from reports.mart.connection import CATALOG, fetch_one, quoted
from reports.mart.errors import QueryError
from reports.mart.internal_schema import create_schema

_OWN_CATALOG: Final = "memory"
"""The catalog in memory that each connection has."""
_WHOLE: Final = f"{CATALOG}.main."
_OWN: Final = f"{_OWN_CATALOG}.main."

_VIEWS: Final = (
    *("owners", "keys", "key_policies", "key_policy_statements", "key_tags", "key_principals", "grants", "aliases", "resources"),
    *("resource_keys", "accounts", "coverage", "changes", "findings", "findings_history", "finding_lifecycle", "rule_results"),
    *("rule_results_history", "vendor_checks", "situation_findings", "vendors", "effective_access"),
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
    "internal.run": f"SELECT run_id, started_at, finished_at, status, organization_id FROM {CATALOG}.internal.run",
    "internal.rule_result": f"SELECT valid_from, valid_to FROM {CATALOG}.internal.rule_result",
    "internal.finding": f"FROM {CATALOG}.internal.finding SEMI JOIN {_OWN}findings USING (rule_id, resource_arn)",
    "internal.named_keys": f"""
        SELECT * REPLACE (CASE WHEN key_arn IN (SELECT key_arn FROM {_OWN}keys) THEN grants END AS grants)
        FROM {_WHOLE}keys
        WHERE key_arn IN (SELECT key_arn FROM {_OWN}keys UNION SELECT key_arn FROM {_OWN}resource_keys)
        """,
    "internal.unknown_access": f"SELECT DISTINCT key_arn FROM {CATALOG}.internal.access_paths WHERE access = 'unknown'",
    "internal.access_paths": f"SELECT key_arn, access FROM {CATALOG}.internal.access_paths SEMI JOIN {_OWN}keys USING (key_arn)",
    "internal.key_unknowns": f"FROM {CATALOG}.internal.key_unknowns SEMI JOIN {_OWN}keys USING (key_arn)",
    "internal.pending_deletions": f"FROM {CATALOG}.internal.pending_deletions SEMI JOIN {_OWN}keys USING (key_arn)",
    **{
        f"internal.{fact}": f"FROM {CATALOG}.internal.{fact} SEMI JOIN {_OWN}keys USING (key_arn)"
        for fact in ("key", "key_policy", "key_grant")
    },
    **{
        f"internal.{part}": f"FROM {CATALOG}.internal.{part} SEMI JOIN {_OWN_CATALOG}.internal.key_policy USING (policy_hash)"
        for part in ("policy", "policy_principal", "policy_statement")
    },
    "internal.principal_dim": f"""
        FROM {CATALOG}.internal.principal_dim
        WHERE principal IN (SELECT grantee_principal FROM {_OWN_CATALOG}.internal.key_grant)
        """,
    **{
        f"internal.{names}": f"""
        FROM {CATALOG}.internal.{names}
        WHERE account_id IN (SELECT account FROM {_OWN_CATALOG}.internal.policy_principal
          UNION SELECT account FROM {_OWN_CATALOG}.internal.principal_dim)
        """
        for names in ("account", "known_party")
    },
}
_COMPUTED: Final = frozenset(
    {"internal.account_names", "internal.principal_uses", "internal.situation_details", "situations"}
)
"""The views of the mart that are computed from the views and facts of the restricted catalog."""
_STORED: Final = frozenset(
    {"internal.any_owner", "internal.subject_key", "owners", "coverage", "findings", "situation_findings"}
)
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
        connection.execute(f"USE {_OWN_CATALOG}")
        create_schema(connection)
        connection.execute(f"CREATE MACRO internal.view_run() AS {run_id:d}")
        # The mart's own views find each other only while its catalog is in use.
        connection.execute(f"USE {CATALOG}")
        for name, select in {**self.selects(_WHOLE), **_DERIVED}.items():
            qualified = f"{_OWN_CATALOG}.{name}" if "." in name else _OWN + name
            connection.execute(f"CREATE {'TABLE' if name in _STORED else 'VIEW'} {qualified} AS {select}")
        connection.execute(f"USE {_OWN_CATALOG}")
        for view in view_loader.views():
            if view.qualified in _COMPUTED:
                connection.execute(f"CREATE TABLE {view.qualified} AS {view_loader.fixed(view.select, run_id)}")

    def limited(self, sql: str) -> str:
        """A query of the mart's public views, limited to the subject, for a user of the mart."""
        selects = self.selects("")
        return re.sub(
            r"\b(FROM|JOIN) (\w+)",
            lambda match: f"{match[1]} ({selects[match[2]]})" if match[2] in selects else match[0],
            sql,
        )


def about_keys(whole: str, keys: str, **conditions: str) -> dict[str, str]:
    """The SELECTs about some keys, which ``keys`` selects; ``conditions`` on a view ``v`` replace those about keys.

    Passes are counted by account and region, so the results of rules are the problems.
    """
    where = {
        **dict.fromkeys(_VIEWS, f"v.key_arn IN {keys}"),
        "aliases": f"v.target_key_arn IN {keys}",
        "owners": f"v.resource_arn IN {keys}",
        "resources": f"v.resource_arn IN (SELECT resource_arn FROM {whole}resource_keys WHERE key_arn IN {keys})",
        "accounts": f"v.account_id IN (SELECT account_id FROM {whole}keys WHERE key_arn IN {keys})",
        "situation_findings": f"v.key_arn IN {keys} OR v.cause IN {keys}",
        "finding_lifecycle": f"(v.rule_id, v.resource_arn) IN (SELECT (v.rule_id, v.resource_arn) FROM {whole}findings_history v "
        f"WHERE {conditions.get('findings_history', f'v.key_arn IN {keys}')})",
        **conditions,
    }
    counted = ", ".join(
        f"count(*) FILTER (status = '{status}') AS {column}"
        for column, status in (("failed", "fail"), ("unknown", "unknown"), ("waived", "waived"))
    )
    counted += ", CAST(NULL AS BIGINT) AS passed, CAST(NULL AS BIGINT) AS not_applicable"
    results = "SELECT rule_id, account_id, region, " + counted
    return {view: f"SELECT * FROM {whole}{view} v WHERE {where[view]}" for view in _VIEWS} | {
        "rule_results": f"{results}, title, severity, family, account_name FROM {whole}findings v "
        f"WHERE {where['findings']} GROUP BY ALL",
        "rule_results_history": f"{results}, valid_from, valid_to FROM {whole}findings_history v "
        f"WHERE {where['findings_history']} GROUP BY ALL",
    }


def slug(name: str) -> str:
    """A name for files: readable, and different for different names."""
    readable = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
    return f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:8]}".lstrip("-")


def matching(noun: str, text: str, names: Sequence[str], query: str) -> str:
    """The name that is equal, or else the only one that differs in case only. Raises QueryError with close names."""
    equal = [name for name in names if name == text] or [name for name in names if name.casefold() == text.casefold()]
    if len(equal) == 1:
        return equal[0]
    close = equal or difflib.get_close_matches(text, names)
    hint = f"did you mean {' or '.join(map(printable, close))}?" if close else f'`kmsledger sql "{query}"` lists them'
    raise QueryError(f"there is no {noun} {text!r} in the ledger: {hint}")


def find_account(connection: duckdb.DuckDBPyConnection, text: str) -> Subject:
    """The account with an ID or name. Raises QueryError with close names if the mart's run knows none, or several."""
    accounts = find_accounts(connection, text)
    if len(accounts) > 1:
        raise QueryError(f"there are {len(accounts)} accounts {text!r}: specify the ID: {', '.join(accounts)}")
    known = connection.execute("SELECT name FROM accounts WHERE account_id = ?", accounts).fetchall()
    if not known:
        raise QueryError(f"account {accounts[0]} is not an account of this run: use --as-of with a run that has it")
    return account(accounts[0], known[0][0])


def find_ou(connection: duckdb.DuckDBPyConnection, text: str) -> Subject:
    """The organizational unit with a path of names from the root down, or an ID. Raises QueryError with close names."""
    names: dict[str, list[str]] = {}
    query = "SELECT account_id, ou_path, ou_ids FROM accounts WHERE ou_path IS NOT NULL ORDER BY account_id"
    for account_id, path, ids in connection.execute(query).fetchall():
        parts = path.strip("/").split("/")
        units = {"/" + "/".join(parts[:length]) for length in range(len(parts) + 1)} | set((ids or "").split("/"))
        for unit in units - {""}:
            names.setdefault(unit, []).append(account_id)
    name = matching("organizational unit", text, sorted(names), "SELECT DISTINCT ou_path FROM accounts")
    return _of_accounts("organizational unit", name, slug(name), names[name])


def account(account_id: str, name: str | None) -> Subject:
    """An account: its keys and resources, the resources that use its keys, and what is known about both."""
    return _of_accounts("account", f"{name} ({account_id})" if name else account_id, account_id, [account_id])


def _of_accounts(kind: str, name: str, slug: str, account_ids: Sequence[str]) -> Subject:
    values = f"({', '.join(map(quoted, account_ids))})"
    mine = f"account_id IN {values}"
    conditions = {
        "resource_keys": f"{mine} OR key_account_id IN {values}",
        "changes": f"{mine} OR split_part(key_arn, ':', 5) IN {values}",
        "situation_findings": f"{mine} OR (kind = 'key' AND split_part(cause, ':', 5) IN {values})",
    }

    def selects(whole: str) -> dict[str, str]:
        lifecycle = (
            f"(rule_id, resource_arn) IN (SELECT (rule_id, resource_arn) FROM {whole}findings_history WHERE {mine})"
        )
        where = {**dict.fromkeys(_VIEWS, mine), **conditions, "finding_lifecycle": lifecycle}
        return {view: f"SELECT * FROM {whole}{view} WHERE {where[view]}" for view in _VIEWS}

    return Subject(kind, name, slug, selects)


def find_owner(connection: duckdb.DuckDBPyConnection, text: str) -> Subject:
    """The owner with a name. Raises QueryError with close names if the mart's run has none."""
    query = "SELECT DISTINCT owner FROM owners ORDER BY owner"
    name = matching("owner", text, [name for (name,) in connection.execute(query).fetchall()], query)
    earlier = "SELECT max(run_id) FROM runs WHERE status IN ('complete', 'partial') AND run_id < internal.view_run()"
    return owner(name, fetch_one(connection, earlier)[0])


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
        source = f"{_OWN_CATALOG}.internal.any_owner" if whole else f"({every})"

        def owned(*columns: str) -> str:
            owners = (
                f"(SELECT any_value(o.owner) FROM {source} o WHERE o.resource_arn = v.{column})" for column in columns
            )
            return f"coalesce({', '.join(owners)}) = {value}"

        owned_here = f"{_OWN}owners" if whole else f"owners WHERE owner = {value}"
        mine = f"(SELECT resource_arn FROM {owned_here})"
        accounts = f"v.account_id IN (SELECT account_id FROM {owned_here})"
        stored = {"internal.any_owner": every} if whole else {}
        return stored | about_keys(
            whole,
            mine,
            owners=f"v.owner = {value}",
            resources=f"v.resource_arn IN {mine}",
            resource_keys=f"v.resource_arn IN {mine} OR v.key_arn IN {mine}",
            accounts=accounts,
            coverage=f"{accounts} AND (coalesce(v.subject, '') = '' OR {owned('subject', 'account_id')})",
            changes=f"v.key_arn IN {mine} OR {owned('resource_arn', 'key_arn', 'account_id')}",
            findings=f"v.owner = {value}",
            findings_history=owned("resource_arn", "key_arn", "account_id"),
            vendor_checks=owned("subject", "key_arn", "account_id"),
            situation_findings=f"v.owner = {value} OR v.cause IN {mine}",
        )

    return Subject("owner", name, slug(name), selects, counts_passes=False)


_NAMES = """
SELECT vendor, profile FROM vendor_checks WHERE vendor IS NOT NULL
UNION SELECT party, party FROM vendors
UNION SELECT name, name FROM internal.known_party
"""


def find_vendor(connection: duckdb.DuckDBPyConnection, text: str) -> Subject:
    """The vendor with a name, or with a profile of this name: a known party, or any other party that can use a key.

    Raises QueryError with close names if there is none.
    """
    vendors = {name: vendor for vendor, profile in connection.execute(_NAMES).fetchall() for name in (profile, vendor)}
    query = "SELECT party FROM vendors UNION SELECT vendor FROM vendor_checks"
    return vendor(vendors[matching("vendor", text, sorted(vendors), query)])


def vendor(name: str) -> Subject:
    """A vendor: the keys that it can use or that its profiles select, and what is known about them."""
    value = quoted(name)

    def selects(whole: str) -> dict[str, str]:
        every = (
            f"SELECT key_arn FROM {whole}vendors WHERE party = {value} "
            f"UNION SELECT key_arn FROM {whole}vendor_checks WHERE vendor = {value} AND key_arn IS NOT NULL"
        )
        keys = f"(FROM {_OWN_CATALOG}.internal.subject_key)" if whole else f"({every})"
        return ({"internal.subject_key": every} if whole else {}) | about_keys(
            whole,
            keys,
            vendors=f"v.party = {value}",
            effective_access=f"v.party = {value} AND v.access IN ('vendor', 'external')",
            vendor_checks=f"v.vendor = {value}",
            # Where nothing could be read, the vendor may have access too.
            coverage="true",
            accounts="true",
        )

    return Subject("vendor", name, slug(name), selects, counts_passes=False)


def find_key(connection: duckdb.DuckDBPyConnection, text: str) -> Subject:
    """The key with an ARN or ID, or the current target of an alias, which can be deleted by now.

    Raises QueryError with close names if nothing or several match.
    """
    match = find_one(connection, text)
    if not match.alias_arns:
        return key(match.key_arns[0])
    query = "SELECT target_key_arn FROM aliases WHERE alias_arn = ? AND target_key_arn IS NOT NULL"
    targets = connection.execute(query, match.alias_arns).fetchall()
    if not targets:
        raise QueryError(f"alias {text!r} no longer exists: specify the ARN of a key: {', '.join(match.key_arns)}")
    return key(targets[0][0])


def key(arn: str) -> Subject:
    """A key, its dependents, and what is known about both."""
    _, _, _, region, account_id, resource = arn.split(":", 5)
    value = quoted(arn)

    def selects(whole: str) -> dict[str, str]:
        here = f"v.account_id = {quoted(account_id)} AND v.region IN ({quoted(region)}, '*')"
        return about_keys(
            whole,
            f"({value})",
            coverage=f"v.key_arn = {value} OR ({here} AND coalesce(v.subject, '') = '')",
            accounts="true",
        )

    file = re.sub(r"[^A-Za-z0-9-]+", "-", f"{account_id}-{region}-{resource.removeprefix('key/')}")
    return Subject("key", arn, file, selects, counts_passes=False)

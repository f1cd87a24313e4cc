"""An account, or the accounts of an organizational unit, as the subject of a report."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from reports.answers.identifier_lookup import find_accounts
from reports.html.subjects.subject import VIEWS, Subject, matching, slug
from reports.mart.connection import quoted
from reports.mart.errors import QueryError


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
        where = {**dict.fromkeys(VIEWS, mine), **conditions, "finding_lifecycle": lifecycle}
        return {view: f"SELECT * FROM {whole}{view} WHERE {where[view]}" for view in VIEWS}

    return Subject(kind, name, slug, selects)

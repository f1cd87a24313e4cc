"""An account as the subject of a report."""

from __future__ import annotations

import duckdb

from reports.answers.identifier_lookup import find_accounts
from reports.html.subjects.subject import VIEWS, Subject
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
        where = {**dict.fromkeys(VIEWS, mine), **conditions, "finding_lifecycle": lifecycle}
        return {view: f"SELECT * FROM {whole}{view} WHERE {where[view]}" for view in VIEWS}

    return Subject("account", f"{name} ({account_id})" if name else account_id, account_id, selects)

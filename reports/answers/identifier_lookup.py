"""Finds keys and accounts by ARN, ID, alias or name, in all runs of the ledger."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from models.safe_text import printable
from reports.mart.errors import QueryError

_MIN_SIMILARITY = 0.8


@dataclass(frozen=True, slots=True)
class Match:
    """The keys that an identifier matches, and the ARNs of the aliases that led to them (empty for a key ARN or ID)."""

    key_arns: tuple[str, ...]
    alias_arns: tuple[str, ...] = ()


def find_keys(duck: duckdb.DuckDBPyConnection, text: str, accounts: tuple[str, ...] | None = None) -> Match:
    """The keys that a key ARN, key ID, alias name or alias ARN identifies now or did in the past, in these accounts.

    Reads schema ``internal`` of the catalog in use. Raises QueryError (exit code 2) with a suggestion if there are none.
    """
    text = text.strip()
    account_filter = "" if accounts is None else " AND list_contains($accounts, account_id)"
    values = {"text": text} | ({} if accounts is None else {"accounts": list(accounts)})
    key_arns = duck.execute(
        "SELECT DISTINCT key_arn FROM internal.key WHERE (key_arn = $text OR key_id = $text OR "
        f"'key/' || key_id = $text){account_filter} ORDER BY key_arn",
        values,
    ).fetchall()
    if key_arns:
        return Match(tuple(arn for (arn,) in key_arns))
    aliases = duck.execute(
        "SELECT alias_arn, list_sort(list(DISTINCT target_key_arn) FILTER (target_key_arn IS NOT NULL)) FROM internal.alias "
        f"WHERE (alias_arn = $text OR alias_name = $text OR alias_name = 'alias/' || $text){account_filter} "
        "GROUP BY alias_arn ORDER BY alias_arn",
        values,
    ).fetchall()
    targets = sorted({target for _, alias_targets in aliases for target in alias_targets or ()})
    if targets:
        return Match(tuple(targets), tuple(arn for arn, alias_targets in aliases if alias_targets))
    if aliases:
        raise QueryError(f"{aliases[0][0]} is an alias that AWS predefines; it never pointed at a key")
    raise QueryError(f"there is no key or alias {text!r} in the ledger{_hint(duck, text)}")


def find_accounts(duck: duckdb.DuckDBPyConnection, text: str) -> tuple[str, ...]:
    """The account with this ID, or every account that has or had this name. Raises QueryError if there is none."""
    account_ids = duck.execute(
        "SELECT DISTINCT account_id FROM internal.account WHERE account_id = $text OR lower(name) = lower($text) ORDER BY 1",
        {"text": text.strip()},
    ).fetchall()
    if account_ids:
        return tuple(account_id for (account_id,) in account_ids)
    names = "SELECT DISTINCT name || ' (' || account_id || ')' AS name, name AS bare FROM internal.account WHERE name IS NOT NULL"
    hint = (
        _suggestion(duck, names, text.strip()) or ': `kmsledger sql "SELECT account_id, name FROM accounts"` lists them'
    )
    raise QueryError(f"there is no account {text!r} in the ledger{hint}")


def _hint(duck: duckdb.DuckDBPyConnection, text: str) -> str:
    bare = text.rpartition(":")[2].removeprefix("alias/").removeprefix("key/")
    names = """
    SELECT DISTINCT alias_name AS name, substr(alias_name, 7) AS bare FROM internal.alias WHERE target_key_arn IS NOT NULL
    UNION SELECT DISTINCT key_id, key_id FROM internal.key
    """
    suggestion = _suggestion(duck, names, bare) if bare else ""
    return suggestion or ': `kmsledger sql "SELECT alias, key_arn FROM keys"` lists the keys'


def _suggestion(duck: duckdb.DuckDBPyConnection, names: str, text: str) -> str:
    """The names that are most similar to a text, as a question; ``names`` is a query for name and bare, which is compared."""
    near = duck.execute(
        f"""
        SELECT name FROM ({names})
        WHERE jaro_winkler_similarity(lower(bare), lower($text)) >= {_MIN_SIMILARITY} OR contains(lower(bare), lower($text))
        ORDER BY jaro_winkler_similarity(lower(bare), lower($text)) DESC, name
        LIMIT 3
        """,
        {"text": text},
    ).fetchall()
    return f": did you mean {' or '.join(printable(name) for (name,) in near)}?" if near else ""

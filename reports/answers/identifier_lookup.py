"""Which key or account is meant: by ARN, id, alias or name, at any time of the ledger."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from reports.mart.errors import QueryError
from reports.mart.result_writers import printable

_NEAR = 0.8


@dataclass(frozen=True, slots=True)
class Chosen:
    """Keys that are meant, and the aliases that meant them (every ARN; empty when the keys were named themselves)."""

    key_arns: tuple[str, ...]
    alias_arns: tuple[str, ...] = ()


def keys(duck: duckdb.DuckDBPyConnection, text: str, accounts: tuple[str, ...] | None = None) -> Chosen:
    """The keys that a key ARN, key id, alias name or alias ARN means or ever meant, in these accounts.

    Reads schema ``ledger`` of the catalog in use. Raises QueryError (exit code 2) with a suggestion when there are none.
    """
    text = text.strip()
    narrowed = "" if accounts is None else " AND list_contains($accounts, account_id)"
    values = {"text": text} | ({} if accounts is None else {"accounts": list(accounts)})
    found = duck.execute(
        "SELECT DISTINCT key_arn FROM internal.key WHERE (key_arn = $text OR key_id = $text OR "
        f"'key/' || key_id = $text){narrowed} ORDER BY key_arn",
        values,
    ).fetchall()
    if found:
        return Chosen(tuple(arn for (arn,) in found))
    aliases = duck.execute(
        "SELECT alias_arn, list_sort(list(DISTINCT target_key_arn) FILTER (target_key_arn IS NOT NULL)) FROM internal.alias "
        f"WHERE (alias_arn = $text OR alias_name = $text OR alias_name = 'alias/' || $text){narrowed} "
        "GROUP BY alias_arn ORDER BY alias_arn",
        values,
    ).fetchall()
    targets = sorted({target for _, pointed in aliases for target in pointed or ()})
    if targets:
        return Chosen(tuple(targets), tuple(arn for arn, pointed in aliases if pointed))
    if aliases:
        raise QueryError(f"{aliases[0][0]} is an alias that AWS predefines and that never pointed at a key")
    raise QueryError(f"there is no key or alias {text!r} in the ledger{_hint(duck, text)}")


def accounts(duck: duckdb.DuckDBPyConnection, text: str) -> tuple[str, ...]:
    """The account with this id, or every account that has or had this name. Raises QueryError when there is none."""
    found = duck.execute(
        "SELECT DISTINCT account_id FROM internal.account WHERE account_id = $text OR lower(name) = lower($text) ORDER BY 1",
        {"text": text.strip()},
    ).fetchall()
    if found:
        return tuple(account_id for (account_id,) in found)
    near = duck.execute(
        "SELECT name || ' (' || account_id || ')' FROM internal.account WHERE name IS NOT NULL GROUP BY ALL "
        f"HAVING jaro_winkler_similarity(lower(name), lower($text)) >= {_NEAR} OR contains(lower(name), lower($text)) "
        "ORDER BY max(jaro_winkler_similarity(lower(name), lower($text))) DESC LIMIT 3",
        {"text": text.strip()},
    ).fetchall()
    hint = f": did you mean {_listed(near)}?" if near else ""
    raise QueryError(
        f"there is no account {text!r} in the ledger"
        + (hint or ': `kmsledger sql "SELECT account_id, name FROM accounts"` lists them')
    )


def _hint(duck: duckdb.DuckDBPyConnection, text: str) -> str:
    bare = text.rpartition(":")[2].removeprefix("alias/").removeprefix("key/")
    near = duck.execute(
        f"""
        SELECT name FROM (
          SELECT DISTINCT alias_name AS name, substr(alias_name, 7) AS bare FROM internal.alias WHERE target_key_arn IS NOT NULL
          UNION
          SELECT DISTINCT key_id, key_id FROM internal.key
        )
        WHERE jaro_winkler_similarity(lower(bare), lower($bare)) >= {_NEAR} OR contains(lower(bare), lower($bare))
        ORDER BY jaro_winkler_similarity(lower(bare), lower($bare)) DESC, name
        LIMIT 3
        """,
        {"bare": bare},
    ).fetchall()
    if bare and near:
        return f": did you mean {_listed(near)}?"
    return ': `kmsledger sql "SELECT alias, key_arn FROM keys"` lists what there is'


def _listed(names: list[tuple[str]]) -> str:
    return " or ".join(printable(name) for (name,) in names)

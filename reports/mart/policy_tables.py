"""What SQL cannot compute: policies as statements, principals as kinds, the texts of causes; each distinct input once."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import duckdb
import orjson

from models.hashing import canonical_json
from models.store.policy_canonical import canonical_policy
from models.tables.runs import Cause
from reports.access.engine.identity_policies import read_identity
from reports.access.engine.kms_actions import names
from reports.access.engine.policy_parser import Named, Statement, parse
from reports.access.engine.principals import classify, known_parties, named

_FETCH = 20_000

_TABLES = {
    "policy": "policy_hash VARCHAR, readable BOOLEAN, statements INTEGER",
    "policy_statement": (
        "policy_hash VARCHAR, statement_index INTEGER, sid VARCHAR, name VARCHAR, effect VARCHAR, principal_kind VARCHAR, "
        "principals VARCHAR[], actions VARCHAR[], not_actions BOOLEAN, resources VARCHAR[], has_resource BOOLEAN, "
        "conditions VARCHAR, condition_keys VARCHAR[], canonical VARCHAR, readable BOOLEAN"
    ),
    "policy_principal": (
        "policy_hash VARCHAR, statement_index INTEGER, principal VARCHAR, type VARCHAR, account VARCHAR, organization VARCHAR"
    ),
    "principal_dim": "principal VARCHAR, type VARCHAR, account VARCHAR",
    "known_party": "account_id VARCHAR, name VARCHAR",
    "gap_cause": "cause VARCHAR, text VARCHAR",
    "identity_statement": (
        "policy_hash VARCHAR, statement_index INTEGER, allow BOOLEAN, operations VARCHAR[], patterns VARCHAR[], not_resource BOOLEAN, "
        "reason VARCHAR, resources VARCHAR[], condition_keys VARCHAR[], parse_error VARCHAR"
    ),
    "rule": (
        "rule_id VARCHAR, title VARCHAR, severity VARCHAR, family VARCHAR, frameworks VARCHAR[], why VARCHAR, fix VARCHAR, "
        "console VARCHAR, cli VARCHAR, terraform VARCHAR, parameters VARCHAR"
    ),
}


def derive(
    duck: duckdb.DuckDBPyConnection, parties: Iterable[tuple[str, Iterable[str]]], rules: Iterable[dict[str, Any]]
) -> None:
    """Fill the derived tables of schema ``ledger``.

    ``parties`` are the configured ones (name and account ids); ``rules`` are rows for the table ``rule``.
    """
    with tempfile.TemporaryDirectory(prefix="kmsledger-") as directory:
        folder = Path(directory)
        _given(duck, folder, parties, rules)
        fill(duck, folder, "principal_dim", _TABLES["principal_dim"], _grantees(duck, "internal.key_grant"))
        _policies(duck, folder, "internal.policy_document", more=False)
        rows = _identity_statements(duck, _IDENTITY)
        fill(duck, folder, "identity_statement", _TABLES["identity_statement"], rows)


def extend(
    duck: duckdb.DuckDBPyConnection,
    parties: Iterable[tuple[str, Iterable[str]]],
    rules: Iterable[dict[str, Any]],
    came: Callable[[str], str],
    taken_back: AbstractSet[str],
) -> None:
    """Bring the derived tables up to date with the ledger's copy, where that has become longer.

    ``came`` names the table of the rows that came to one of the ledger's; ``taken_back`` are those that lost some.
    """
    with tempfile.TemporaryDirectory(prefix="kmsledger-") as directory:
        folder = Path(directory)
        _given(duck, folder, parties, rules)
        if "key_grant" in taken_back:
            used = "SELECT grantee_principal FROM internal.key_grant WHERE grantee_principal IS NOT NULL"
            duck.execute(f"DELETE FROM internal.principal_dim WHERE principal NOT IN ({used})")
        grantees = _grantees(
            duck, f"{came('key_grant')} WHERE grantee_principal NOT IN (SELECT principal FROM internal.principal_dim)"
        )
        fill(duck, folder, "principal_dim", _TABLES["principal_dim"], grantees, more=True)
        for name in ("policy", "policy_statement", "policy_principal"):
            known = "SELECT policy_hash FROM internal.policy_document"
            duck.execute(f"DELETE FROM internal.{name} WHERE policy_hash NOT IN ({known})")
        _policies(duck, folder, came("policy_document"), more=True)
        # Most policies say nothing about keys and have no rows: those that came to IAM are read, again if need be.
        if taken_back & {"iam_managed_policy", "iam_inline_policy", "policy_document"}:
            duck.execute("DELETE FROM internal.identity_statement")
            hashes = _IDENTITY
        else:
            hashes = " UNION ".join(
                f"SELECT policy_hash FROM {came(name)}" for name in ("iam_managed_policy", "iam_inline_policy")
            )
            duck.execute(f"DELETE FROM internal.identity_statement WHERE policy_hash IN ({hashes})")
        rows = _identity_statements(duck, hashes)
        fill(duck, folder, "identity_statement", _TABLES["identity_statement"], rows, more=True)


_IDENTITY = (
    "SELECT policy_hash FROM internal.iam_managed_policy UNION SELECT policy_hash FROM internal.iam_inline_policy"
)


def _given(
    duck: duckdb.DuckDBPyConnection,
    folder: Path,
    parties: Iterable[tuple[str, Iterable[str]]],
    rules: Iterable[dict[str, Any]],
) -> None:
    """What does not come from the ledger."""
    fill(duck, folder, "gap_cause", _TABLES["gap_cause"], ({"cause": one.value, "text": one.text} for one in Cause))
    known = known_parties(parties).items()
    fill(
        duck, folder, "known_party", _TABLES["known_party"], ({"account_id": one, "name": name} for one, name in known)
    )
    fill(duck, folder, "rule", _TABLES["rule"], rules)


def fill(
    duck: duckdb.DuckDBPyConnection,
    folder: Path,
    table: str,
    columns: str,
    rows: Iterable[dict[str, Any]],
    *,
    more: bool = False,
) -> None:
    """Create a table of schema ``ledger`` from rows, or with ``more`` add them, through a file of JSON lines.

    With its own text reader DuckDB takes rows some four times faster than as bound lists, and a thousand times faster
    than row by row.
    """
    path = folder / f"{table}.jsonl"
    with path.open("wb") as file:
        file.writelines(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)
    _read(duck, path, table, columns, more=more)


def _read(duck: duckdb.DuckDBPyConnection, path: Path, table: str, columns: str, *, more: bool) -> None:
    if not more:
        duck.execute(f"CREATE OR REPLACE TABLE internal.{table} ({columns})")
    if path.stat().st_size == 0:
        path.unlink()
        return
    types = ", ".join("{}: '{}'".format(*column.split(" ", 1)) for column in columns.split(", "))
    duck.execute(
        f"INSERT INTO internal.{table} SELECT * FROM read_json($path, format = 'newline_delimited', columns = {{{types}}}, "
        "maximum_object_size = 67108864)",
        {"path": str(path)},
    )
    path.unlink()


def _rows(duck: duckdb.DuckDBPyConnection, query: str) -> Iterator[tuple[Any, ...]]:
    cursor = duck.cursor()
    cursor.execute("USE mart")
    cursor.execute(query)
    while rows := cursor.fetchmany(_FETCH):
        yield from rows
    cursor.close()


def _grantees(duck: duckdb.DuckDBPyConnection, source: str) -> Iterator[dict[str, Any]]:
    query = f"SELECT DISTINCT grantee_principal FROM (SELECT grantee_principal FROM {source}) WHERE grantee_principal IS NOT NULL"
    for (written,) in _rows(duck, query):
        found = classify(Named("AWS", written))
        yield {"principal": written, "type": found.type, "account": found.account}


def _identity_statements(duck: duckdb.DuckDBPyConnection, hashes: str) -> Iterator[dict[str, Any]]:
    """What IAM policies say about keys; conditions are not judged here, for they depend on who calls how."""
    query = f"SELECT policy_hash, received FROM internal.policy_document WHERE policy_hash IN ({hashes})"
    for digest, received in _rows(duck, query):
        for position, one in enumerate(read_identity(received)):
            keys = list(dict.fromkeys(element.written for element in one.elements))
            yield {
                "policy_hash": digest,
                "statement_index": position,
                "allow": one.allow,
                "operations": names(one.operations),
                "patterns": [_pattern(resource) for resource in one.resources],
                "not_resource": one.inverted,
                "reason": one.reason or (f"its conditions on {', '.join(keys)} are not judged" if keys else None),
                "resources": one.resources,
                "condition_keys": keys,
                "parse_error": one.reason or None,
            }


def _pattern(resource: str) -> str:
    """A resource of a policy as a regular expression."""
    return re.escape(resource).replace(r"\*", ".*").replace(r"\?", ".")


def _policies(duck: duckdb.DuckDBPyConnection, folder: Path, source: str, *, more: bool) -> None:
    names = ("policy", "policy_statement", "policy_principal")
    paths = {name: folder / f"{name}.jsonl" for name in names}
    with (
        paths["policy"].open("wb") as policies,
        paths["policy_statement"].open("wb") as statements,
        paths["policy_principal"].open("wb") as principals,
    ):
        for digest, received in _rows(duck, f"SELECT policy_hash, received FROM {source}"):
            policy = parse(received)
            canonical = _canonical_statements(received)
            row = {"policy_hash": digest, "readable": policy.readable, "statements": len(policy.statements)}
            policies.write(_line(row))
            for statement in policy.statements:
                statements.write(_line(_statement_row(digest, statement, canonical[statement.position])))
                for one in named(statement):
                    principals.write(
                        _line(
                            {
                                "policy_hash": digest,
                                "statement_index": statement.position,
                                "principal": one.written,
                                "type": one.type,
                                "account": one.account,
                                "organization": one.organization,
                            }
                        )
                    )
    for name in names:
        _read(duck, paths[name], name, _TABLES[name], more=more)


def _statement_row(digest: str, statement: Statement, canonical: str) -> dict[str, Any]:
    return {
        "policy_hash": digest,
        "statement_index": statement.position,
        "sid": statement.sid,
        "name": statement.name,
        "effect": statement.effect,
        "principal_kind": statement.principal_kind,
        "principals": [one.value for one in statement.principals],
        "actions": statement.actions,
        "not_actions": statement.not_actions,
        "resources": statement.resources,
        "has_resource": statement.has_resource,
        "conditions": canonical_json(statement.conditions) if statement.conditions else None,
        "condition_keys": statement.condition_keys,
        "canonical": canonical,
        "readable": statement.readable,
    }


def _canonical_statements(received: str) -> list[str]:
    """The statements in the form in which equal ones are equal texts, by position."""
    try:
        document = orjson.loads(canonical_policy(received))
    except orjson.JSONDecodeError:
        return []
    listed = document.get("Statement") if isinstance(document, dict) else None
    return [canonical_json(statement) for statement in listed] if isinstance(listed, list) else []


def _line(row: dict[str, Any]) -> bytes:
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)

"""Tables that SQL cannot compute: parsed policies, classified principals, texts of gap causes; each distinct input once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import ExitStack
from typing import Any

import duckdb
import orjson

from models.aws_types import AWS_TYPES
from models.hashing import canonical_json
from models.store.policy_canonical import canonical_policy
from models.tables.runs import Cause
from reports.access.engine.identity_policies import read_identity
from reports.access.engine.kms_actions import names
from reports.access.engine.policy_parser import Named, Statement, parse
from reports.access.engine.principals import classify, known_parties, named
from reports.access.engine.wildcards import complete_arn
from reports.connections import new_cursor
from reports.mart.extension import RowFile, load_rows

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
    "resource_operation": "resource_type VARCHAR, listing VARCHAR, detail VARCHAR",
    "identity_statement": (
        "policy_hash VARCHAR, statement_index INTEGER, allow BOOLEAN, operations VARCHAR[], patterns VARCHAR[], "
        "not_resource BOOLEAN, "
        "reason VARCHAR, resources VARCHAR[], condition_keys VARCHAR[], parse_error VARCHAR"
    ),
}
_OF_POLICIES = ("policy", "policy_statement", "policy_principal")


def create(duck: duckdb.DuckDBPyConnection, parties: Iterable[tuple[str, Iterable[str]]]) -> None:
    """Create the derived tables of schema ``internal``; ``parties`` are the configured names with their account IDs."""
    duck.execute("; ".join(f"CREATE OR REPLACE TABLE internal.{name} ({columns})" for name, columns in _TABLES.items()))
    update(duck, parties, "internal.{}".format, frozenset())


def update(
    duck: duckdb.DuckDBPyConnection,
    parties: Iterable[tuple[str, Iterable[str]]],
    inserted_table: Callable[[str], str],
    tables_with_deletes: AbstractSet[str],
) -> None:
    """Update the derived tables after an incremental load.

    ``inserted_table`` names the table of the rows that were inserted into a ledger table.
    """
    known = known_parties(parties).items()
    _load(duck, "gap_cause", ({"cause": cause.value, "text": cause.text} for cause in Cause), append=False)
    operations = (
        {"resource_type": kind.name, "listing": kind.listing, "detail": kind.detail} for kind in AWS_TYPES.values()
    )
    _load(duck, "resource_operation", operations, append=False)
    _load(duck, "known_party", ({"account_id": account, "name": name} for account, name in known), append=False)
    if "key_grant" in tables_with_deletes:
        used = "SELECT grantee_principal FROM internal.key_grant WHERE grantee_principal IS NOT NULL"
        duck.execute(f"DELETE FROM internal.principal_dim WHERE principal NOT IN ({used})")
    grantees = _grantees(
        duck,
        f"{inserted_table('key_grant')} WHERE grantee_principal NOT IN (SELECT principal FROM internal.principal_dim)",
    )
    _load(duck, "principal_dim", grantees)
    for name in _OF_POLICIES:
        stored = "SELECT policy_hash FROM internal.policy_document"
        duck.execute(f"DELETE FROM internal.{name} WHERE policy_hash NOT IN ({stored})")
    _load_policies(duck, inserted_table("policy_document"))
    # Most policies do not mention keys and have no rows, so all inserted IAM policies are parsed, some of them again.
    if tables_with_deletes & {"iam_managed_policy", "iam_inline_policy", "policy_document"}:
        inserted_table = "internal.{}".format
        duck.execute("DELETE FROM internal.identity_statement")
    hashes = " UNION ".join(
        f"SELECT policy_hash FROM {inserted_table(name)}" for name in ("iam_managed_policy", "iam_inline_policy")
    )
    duck.execute(f"DELETE FROM internal.identity_statement WHERE policy_hash IN ({hashes})")
    _load(duck, "identity_statement", _identity_statements(duck, hashes))


def _load(duck: duckdb.DuckDBPyConnection, table: str, rows: Iterable[dict[str, Any]], *, append: bool = True) -> None:
    load_rows(duck, table, _TABLES[table], rows, append=append)


def _rows(duck: duckdb.DuckDBPyConnection, query: str) -> Iterator[tuple[Any, ...]]:
    cursor = new_cursor(duck)
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
    """The statements of IAM policies on keys, without evaluating conditions, which depend on the request."""
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
                "reason": one.reason or (f"its conditions on {', '.join(keys)} are not evaluated" if keys else None),
                "resources": one.resources,
                "condition_keys": keys,
                "parse_error": one.reason or None,
            }


def _pattern(resource: str) -> str:
    """A resource of a policy as a regular expression."""
    return re.escape(complete_arn(resource)).replace(r"\*", ".*").replace(r"\?", ".")


def _load_policies(duck: duckdb.DuckDBPyConnection, source: str) -> None:
    """Parse each policy once, into the rows of three tables."""
    with ExitStack() as stack:
        files = {name: stack.enter_context(RowFile(name, _TABLES[name])) for name in _OF_POLICIES}
        for digest, received in _rows(duck, f"SELECT policy_hash, received FROM {source}"):
            policy = parse(received)
            canonical = _canonical_statements(received)
            row = {"policy_hash": digest, "readable": policy.readable, "statements": len(policy.statements)}
            files["policy"].add(row)
            for statement in policy.statements:
                files["policy_statement"].add(_statement_row(digest, statement, canonical[statement.position]))
                for one in named(statement):
                    files["policy_principal"].add(
                        {
                            "policy_hash": digest,
                            "statement_index": statement.position,
                            "principal": one.written,
                            "type": one.type,
                            "account": one.account,
                            "organization": one.organization,
                        }
                    )
        for file in files.values():
            file.load(duck, append=True)


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
    """The statements in canonical form, in which equal statements are equal texts, by position."""
    try:
        document = orjson.loads(canonical_policy(received))
    except orjson.JSONDecodeError:
        return []
    listed = document.get("Statement") if isinstance(document, dict) else None
    return [canonical_json(statement) for statement in listed] if isinstance(listed, list) else []

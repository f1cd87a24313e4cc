"""Deduplicate grants into distinct shapes, in DuckDB, so that the engine analyzes each shape once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
from sqlalchemy import Connection

from models.hashing import content_hash
from models.tables import AccessAnalysis, AccessPolicy, KeyAnalysis, KeyGrant, KeyMetadata
from reports.access.analysis.dedup_policies import attributes, key_facts
from reports.access.analysis.runner import AnalysisRequest
from reports.access.engine.model import Grant, Organization
from reports.access.grant_macros import MACROS
from reports.connections import new_connection
from reports.ledger_reader import TableSlice, copy_slices

_FETCHED_ROWS = 2_000
_GRANT = (
    "key_arn",
    "grantee_principal",
    "grantee_service_principal",
    "retiring_principal",
    "retiring_service_principal",
    "issuing_account",
    "operations",
    "constraints",
    "valid_from",
    "valid_to",
)
_SHAPES = """
CREATE TABLE shape AS
SELECT split_part(g.key_arn, ':', 5) AS account, m.key_spec, m.key_usage, coalesce(p.deny_scope, '') AS deny_scope,
  CASE WHEN coalesce(p.deny_scope, '') <> '' THEN k.analysis_id END AS policy_analysis,
  CASE WHEN coalesce(p.deny_scope, '') <> '' AND contains(p.context_inputs, 'organization') THEN getvariable('organization')
    ELSE '' END AS organization,
  CASE WHEN p.deny_scope = 'each' THEN g.grantee_principal ELSE internal.mask_session(g.grantee_principal) END
    AS grantee_principal,
  g.grantee_service_principal,
  CASE WHEN p.deny_scope = 'each' THEN g.retiring_principal ELSE internal.mask_session(g.retiring_principal) END
    AS retiring_principal,
  g.retiring_service_principal, g.issuing_account, g.operations,
  CASE WHEN p.deny_scope = 'each' THEN g.constraints ELSE internal.mask_values(g.constraints) END AS constraints,
  any_value(g.key_arn) AS key_arn, any_value(x.policy_hash) AS policy_hash
FROM internal.key_grant g
LEFT JOIN internal.key_metadata m ON m.key_arn = g.key_arn
LEFT JOIN internal.key_analysis k ON k.key_arn = g.key_arn AND k.valid_from < coalesce(g.valid_to, 2147483647)
  AND g.valid_from < coalesce(k.valid_to, 2147483647)
LEFT JOIN internal.access_analysis x ON x.analysis_id = k.analysis_id
LEFT JOIN internal.access_policy p ON p.policy_hash = x.policy_hash
GROUP BY ALL
"""
_NEW = """
CREATE TABLE pending AS
WITH identified AS (
  SELECT *, internal.grant_shape(account, key_spec, key_usage, deny_scope, policy_analysis, organization,
    grantee_principal, grantee_service_principal, retiring_principal, retiring_service_principal, issuing_account, operations,
    constraints) AS analysis_id
  FROM shape
)
SELECT any_value(COLUMNS(* EXCLUDE (analysis_id))), analysis_id FROM identified
WHERE analysis_id NOT IN (SELECT analysis_id FROM internal.access_analysis)
GROUP BY analysis_id
"""


@dataclass(frozen=True, slots=True)
class PendingGrants:
    """The grant shapes without an analysis, in DuckDB."""

    duck: duckdb.DuckDBPyConnection

    def requests(self, connection: Connection) -> Iterator[AnalysisRequest]:
        """Yield their analyses, while rows are fetched: all at once need too much memory. ``connection`` reads the ledger."""
        denied = {
            arn
            for (arn,) in self.duck.execute("SELECT DISTINCT key_arn FROM pending WHERE deny_scope <> ''").fetchall()
        }
        tags, aliases = attributes(connection, denied)
        # Keys with the same policy analysis are equivalent. Ordered by it, the engine parses each policy once.
        representatives: dict[str, str] = {}
        for row in _rows(self.duck, "FROM pending ORDER BY policy_analysis NULLS FIRST"):
            arn = row["key_arn"]
            digest = policy_analysis = None
            if row["deny_scope"]:
                arn = representatives.setdefault(row["policy_analysis"], arn)
                digest, policy_analysis = (bytes.fromhex(row[name]) for name in ("policy_hash", "policy_analysis"))
            facts = key_facts(arn, row, tags.get(arn), aliases.get(arn))
            grant = Grant("", "", **{name: row[name] for name in _GRANT[1:-2]})
            yield AnalysisRequest(bytes.fromhex(row["analysis_id"]), facts, digest, grant, policy_analysis)


@contextmanager
def find_pending_grants(engine_url: str, organization: str, after: int, after_analysis: int) -> Iterator[PendingGrants]:
    """Find the grant shapes without an analysis.

    Considers grants newer than version ``after``, and grants on keys whose policy analysis is newer than version
    ``after_analysis``. ``organization`` is the digest of the organization. No connection to the ledger may be open: the
    driver that copies it has its own SQLite, and two copies of SQLite in one process do not see each other's file locks.
    """
    with new_connection() as duck:
        duck.execute("SET memory_limit = '2GB'")
        duck.execute("SET preserve_insertion_order = false")
        duck.execute("CREATE SCHEMA internal")
        for macro in MACROS:
            duck.execute(macro)
        copy_slices(duck, engine_url, _slices(after, after_analysis))
        duck.execute(f"SET VARIABLE organization = '{organization}'")
        duck.execute(_SHAPES)
        duck.execute("DROP TABLE internal.key_grant")
        duck.execute(_NEW)
        duck.execute("DROP TABLE shape")
        yield PendingGrants(duck)


def _slices(after: int, after_analysis: int) -> list[TableSlice]:
    grants = analyses = "true"
    keys = ""
    if after:
        reanalyzed = f"SELECT key_arn FROM key_analysis WHERE version_id > {after_analysis:d}"
        grants = f"(version_id > {after:d} OR (valid_to IS NULL AND key_arn IN ({reanalyzed})))"
        analyses = f"(valid_to IS NULL OR version_id > {after_analysis:d})"
        keys = f" AND key_arn IN (SELECT key_arn FROM key_grant WHERE {grants})"
    return [
        TableSlice(KeyGrant.table(), _GRANT, grants),
        TableSlice(KeyMetadata.table(), ("key_arn", "key_spec", "key_usage"), f"valid_to IS NULL{keys}"),
        TableSlice(KeyAnalysis.table(), ("key_arn", "analysis_id", "valid_from", "valid_to"), f"{analyses}{keys}"),
        TableSlice(AccessAnalysis.table(), ("analysis_id", "policy_hash")),
        TableSlice(AccessPolicy.table(), ("policy_hash", "context_inputs", "deny_scope")),
    ]


def organization_digest(organization: Organization) -> str:
    """Return a digest of the organization's id, accounts and paths."""
    paths = sorted(organization.organization_paths.items())
    return content_hash([organization.organization_id, sorted(organization.accounts), paths]).hex()


def _rows(duck: duckdb.DuckDBPyConnection, query: str) -> Iterator[dict[str, Any]]:
    cursor = duck.execute(query)
    names = [column[0] for column in cursor.description or ()]
    while batch := cursor.fetchmany(_FETCHED_ROWS):
        yield from (dict(zip(names, row, strict=True)) for row in batch)

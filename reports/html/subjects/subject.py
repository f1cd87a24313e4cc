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
from reports.mart import view_loader
from reports.mart.connection import CATALOG, fetch_one
from reports.mart.errors import QueryError
from reports.mart.internal_schema import create_schema

OWN_CATALOG: Final = "memory"
"""The catalog in memory that each connection has."""
_WHOLE: Final = f"{CATALOG}.main."
OWN: Final = f"{OWN_CATALOG}.main."

VIEWS: Final = (
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
    "internal.finding": f"FROM {CATALOG}.internal.finding SEMI JOIN {OWN}findings USING (rule_id, resource_arn)",
    "internal.named_keys": f"""
        SELECT * REPLACE (CASE WHEN key_arn IN (SELECT key_arn FROM {OWN}keys) THEN grants END AS grants)
        FROM {_WHOLE}keys
        WHERE key_arn IN (SELECT key_arn FROM {OWN}keys UNION SELECT key_arn FROM {OWN}resource_keys)
        """,
    "internal.unknown_access": f"SELECT DISTINCT key_arn FROM {CATALOG}.internal.access_paths WHERE access = 'unknown'",
    "internal.access_paths": f"SELECT key_arn, access FROM {CATALOG}.internal.access_paths SEMI JOIN {OWN}keys USING (key_arn)",
    "internal.key_unknowns": f"FROM {CATALOG}.internal.key_unknowns SEMI JOIN {OWN}keys USING (key_arn)",
    "internal.pending_deletions": f"FROM {CATALOG}.internal.pending_deletions SEMI JOIN {OWN}keys USING (key_arn)",
    **{
        f"internal.{fact}": f"FROM {CATALOG}.internal.{fact} SEMI JOIN {OWN}keys USING (key_arn)"
        for fact in ("key", "key_policy", "key_grant")
    },
    **{
        f"internal.{part}": f"FROM {CATALOG}.internal.{part} SEMI JOIN {OWN_CATALOG}.internal.key_policy USING (policy_hash)"
        for part in ("policy", "policy_principal", "policy_statement")
    },
    "internal.principal_dim": f"""
        FROM {CATALOG}.internal.principal_dim
        WHERE principal IN (SELECT grantee_principal FROM {OWN_CATALOG}.internal.key_grant)
        """,
    **{
        f"internal.{names}": f"""
        FROM {CATALOG}.internal.{names}
        WHERE account_id IN (SELECT account FROM {OWN_CATALOG}.internal.policy_principal
          UNION SELECT account FROM {OWN_CATALOG}.internal.principal_dim)
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
    """What a report is about. ``selects`` returns the SELECT of each view in ``VIEWS``, from a mart with a prefix."""

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
        connection.execute(f"USE {OWN_CATALOG}")
        create_schema(connection)
        connection.execute(f"CREATE MACRO internal.view_run() AS {run_id:d}")
        # The mart's own views find each other only while its catalog is in use.
        connection.execute(f"USE {CATALOG}")
        for name, select in {**self.selects(_WHOLE), **_DERIVED}.items():
            qualified = f"{OWN_CATALOG}.{name}" if "." in name else OWN + name
            connection.execute(f"CREATE {'TABLE' if name in _STORED else 'VIEW'} {qualified} AS {select}")
        connection.execute(f"USE {OWN_CATALOG}")
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
        **dict.fromkeys(VIEWS, f"v.key_arn IN {keys}"),
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
    return {view: f"SELECT * FROM {whole}{view} v WHERE {where[view]}" for view in VIEWS} | {
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

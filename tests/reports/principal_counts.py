"""Compares the number of keys of each principal: counted by policy, and counted from rows by key."""

from __future__ import annotations

import duckdb

_PRINCIPAL = "party, party_name, principal_account, principal, principal_type, effect"
_COUNTS = f"""
    SELECT {_PRINCIPAL}, CAST(sum(keys) AS BIGINT), min(since)
    FROM (
        SELECT DISTINCT policy_hash, account_id, {_PRINCIPAL}, keys, since
        FROM internal.principal_uses_as_of($run) WHERE source = 'policy'
        UNION ALL
        SELECT policy_hash, account_id, {_PRINCIPAL}, keys, since
        FROM internal.principal_uses_as_of($run) WHERE source = 'grant'
    )
    GROUP BY ALL
"""
_ROWS = f"SELECT {_PRINCIPAL}, count(DISTINCT key_arn), min(since) FROM key_principals_as_of($run) GROUP BY ALL"


def different_counts(mart: duckdb.DuckDBPyConnection) -> list[tuple[object, ...]]:
    """The principals, as of each run, of which the two counts differ."""
    runs = [run for (run,) in mart.execute("SELECT run_id FROM runs").fetchall()]
    different: list[tuple[object, ...]] = []
    for run in runs:
        for one, other in ((_COUNTS, _ROWS), (_ROWS, _COUNTS)):
            different += mart.execute(f"({one}) EXCEPT ({other})", {"run": run}).fetchall()
    return different

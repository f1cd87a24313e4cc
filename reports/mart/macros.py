"""Macros of schema ``internal`` that the views and the change queries call; every catalog with that schema has them."""

from __future__ import annotations

import duckdb

from reports.access import grant_macros

MACROS = (
    "CREATE MACRO internal.known(since, until, run) AS since <= run AND (until IS NULL OR until > run)",
    """
    CREATE MACRO internal.party_of(type, account, organization, own_account, own_organization, in_organization, is_party) AS
    CASE
      WHEN type = 'service' THEN 'aws_service'
      WHEN type = 'deleted' THEN 'deleted_principal'
      WHEN type = 'public' AND organization IS NULL THEN 'public'
      WHEN organization = own_organization THEN 'own_organization'
      WHEN organization IS NOT NULL THEN 'external_account'
      WHEN type IN ('unknown', 'canonical') OR account IS NULL THEN 'unknown'
      WHEN account = own_account THEN 'own_account'
      WHEN in_organization THEN 'own_organization'
      WHEN is_party THEN 'known_party'
      ELSE 'external_account'
    END
    """,
    *grant_macros.MACROS,
)
"""In order of creation: later macros use earlier ones."""


def create_schema(duck: duckdb.DuckDBPyConnection) -> None:
    """Create schema ``internal`` with the macros in the catalog in use."""
    duck.execute("CREATE SCHEMA internal")
    for macro in MACROS:
        duck.execute(macro)

"""Macros of schema ``internal`` that the views and the change queries call; every catalog with that schema has them."""

from __future__ import annotations

from reports.access import grant_macros

MACROS = (
    "CREATE MACRO internal.known(since, until, run) AS since <= run AND (until IS NULL OR until > run)",
    """
    CREATE MACRO internal.party_of(type, account, organization, own_account, own_organization, in_organization, is_party) AS
    CASE
      WHEN type = 'service' THEN 'aws service'
      WHEN type = 'deleted' THEN 'deleted principal'
      WHEN type = 'public' AND organization IS NULL THEN 'public'
      WHEN organization = own_organization THEN 'own organization'
      WHEN organization IS NOT NULL THEN 'outside account'
      WHEN type IN ('unknown', 'canonical') OR account IS NULL THEN 'unknown'
      WHEN account = own_account THEN 'own account'
      WHEN in_organization THEN 'own organization'
      WHEN is_party THEN 'known party'
      ELSE 'outside account'
    END
    """,
    *grant_macros.MACROS,
)
"""In order of creation: later macros use earlier ones."""

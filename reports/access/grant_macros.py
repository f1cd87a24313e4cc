"""Grants that are alike: macros that turn a grant into the id of its analysis, and an analysis back into a grant's words.

The id is made of what makes a difference to who gets in: not the grant's id, its name and date, the name of a session and
the values of its constraints. A Deny in the key policy could tell those apart, so where one does they stay.
"""

from __future__ import annotations

from reports.access.engine.analysis_key import ENGINE

_TEXT = r"""'":"(?:[^"\\]|\\.)+"'"""

MACROS = (
    # The name of a session stands behind the last slash.
    r"""
    CREATE MACRO internal.sessionless(principal) AS
    CASE WHEN contains(principal, ':assumed-role/') THEN regexp_replace(principal, '/[^/]*$', '/-') ELSE principal END
    """,
    # The ledger keeps canonical JSON; an escaped character could hide where a text ends, such constraints stay as they are.
    rf"""
    CREATE MACRO internal.valueless(constraints) AS
    CASE WHEN contains(constraints, '\') THEN constraints
      ELSE regexp_replace(constraints, {_TEXT}, '":"-"', 'g') END
    """,
    """
    CREATE MACRO internal.account_of(principal) AS
    CASE WHEN regexp_full_match(principal, '[0-9]{12}') THEN principal
      ELSE regexp_extract(principal, '^arn:[^:]*:(?:iam|sts)::([0-9]{12}):', 1) END
    """,
    f"""
    CREATE MACRO internal.grant_shape(account, key_spec, key_usage, deny_scope, policy_analysis, organization, grantee, grantee_service,
      retiring, retiring_service, issuing, operations, constraints) AS
    md5(concat_ws('|', '{ENGINE}', account, coalesce(key_spec, '-'), coalesce(key_usage, '-'),
      CASE WHEN coalesce(deny_scope, '') <> '' THEN policy_analysis || ':' || organization ELSE '-' END,
      coalesce(CASE WHEN deny_scope = 'each' THEN grantee ELSE internal.sessionless(grantee) END, '-'),
      coalesce(grantee_service, '-'),
      coalesce(CASE WHEN deny_scope = 'each' THEN retiring ELSE internal.sessionless(retiring) END, '-'),
      coalesce(retiring_service, '-'), coalesce(issuing, '-'), operations,
      coalesce(CASE WHEN deny_scope = 'each' THEN constraints ELSE internal.valueless(constraints) END, '-')))
    """,
    """
    CREATE MACRO internal.context_of(constraints, name) AS
    array_to_string(list_transform(map_entries(CAST(json_extract(CAST(constraints AS JSON), name) AS MAP(VARCHAR, VARCHAR))),
      lambda pair: pair.key || '=' || pair.value), ', ')
    """,
    """
    CREATE MACRO internal.grant_scope(constraints) AS
    concat_ws('; ', 'only encryption context ' || internal.context_of(constraints, 'EncryptionContextEquals'),
      'encryption context ' || internal.context_of(constraints, 'EncryptionContextSubset'),
      'only for ' || json_extract_string(CAST(constraints AS JSON), 'SourceArn'))
    """,
    """
    CREATE MACRO internal.standing(access, account, is_own, is_party) AS
    CASE WHEN access <> 'external' OR account IS NULL THEN access WHEN is_own THEN 'organization'
      WHEN is_party THEN 'vendor' ELSE 'external' END
    """,
)
"""The first ones are used by those after them."""

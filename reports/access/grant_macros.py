"""SQL macros that compute the analysis id of a grant, and fill the templates of its analysis.

The id covers only what affects access: not the grant's id, name and date, nor session names and constraint values. Where a
Deny in the key policy can distinguish the latter, they are part of the id.
"""

from __future__ import annotations

from reports.access.engine.analysis_key import ENGINE

_TEXT = r"""'":"(?:[^"\\]|\\.)+"'"""

MACROS = (
    # The session name follows the last slash.
    r"""
    CREATE MACRO internal.mask_session(principal) AS
    CASE WHEN contains(principal, ':assumed-role/') THEN regexp_replace(principal, '/[^/]*$', '/-') ELSE principal END
    """,
    # The ledger stores canonical JSON. Constraints with escaped characters stay unmasked, as a regular
    # expression could misread them.
    rf"""
    CREATE MACRO internal.mask_values(constraints) AS
    CASE WHEN contains(constraints, '\') THEN constraints
      ELSE regexp_replace(constraints, {_TEXT}, '":"-"', 'g') END
    """,
    """
    CREATE MACRO internal.account_of(principal) AS
    CASE WHEN regexp_full_match(principal, '[0-9]{12}') THEN principal
      ELSE regexp_extract(principal, '^arn:[^:]*:(?:iam|sts)::([0-9]{12}):', 1) END
    """,
    f"""
    CREATE MACRO internal.grant_shape(account, key_spec, key_usage, deny_scope, policy_analysis, organization, grantee,
      grantee_service, retiring, retiring_service, issuing, operations, constraints) AS
    md5(concat_ws('|', '{ENGINE}', account, coalesce(key_spec, '-'), coalesce(key_usage, '-'),
      CASE WHEN coalesce(deny_scope, '') <> '' THEN policy_analysis || ':' || organization ELSE '-' END,
      coalesce(CASE WHEN deny_scope = 'each' THEN grantee ELSE internal.mask_session(grantee) END, '-'),
      coalesce(grantee_service, '-'),
      coalesce(CASE WHEN deny_scope = 'each' THEN retiring ELSE internal.mask_session(retiring) END, '-'),
      coalesce(retiring_service, '-'), coalesce(issuing, '-'), operations,
      coalesce(CASE WHEN deny_scope = 'each' THEN constraints ELSE internal.mask_values(constraints) END, '-')))
    """,
    """
    CREATE MACRO internal.context_pairs(constraints, name) AS
    array_to_string(list_transform(map_entries(CAST(json_extract(CAST(constraints AS JSON), name) AS MAP(VARCHAR, VARCHAR))),
      lambda pair: pair.key || '=' || pair.value), ', ')
    """,
    """
    CREATE MACRO internal.grant_conditions(constraints) AS
    concat_ws('; ', 'only encryption context ' || internal.context_pairs(constraints, 'EncryptionContextEquals'),
      'encryption context ' || internal.context_pairs(constraints, 'EncryptionContextSubset'),
      'only for ' || json_extract_string(CAST(constraints AS JSON), 'SourceArn'))
    """,
    """
    CREATE MACRO internal.standing(access, account, is_own, is_party) AS
    CASE WHEN access <> 'external' OR account IS NULL THEN access WHEN is_own THEN 'organization'
      WHEN is_party THEN 'vendor' ELSE 'external' END
    """,
)
"""In order of creation: later macros use earlier ones."""

-- id: grant-external
-- title: No grant allows an unknown account
-- severity: high
-- family: grants
-- why: >-
--   A grant gives access to a key without appearing in its policy, so policy reviews miss it. This grant is held by an
--   account that is neither in the organization nor a known party.
-- fix: >-
--   Find out who created the grant (CreateGrant in CloudTrail). If the account belongs to a vendor or partner, add it
--   to known_external_parties in the settings. Otherwise revoke the grant; running resources of the grantee, such as
--   attached volumes, keep working until they next call KMS. Then review who may create grants on the key.
-- console: >-
--   The KMS console does not show grants; use the CLI.
-- cli: aws kms revoke-grant --key-id KEY_ARN --grant-id GRANT_ID
-- terraform: >-
--   Remove or change the aws_kms_grant resource. Terraform does not manage grants created by applications; revoke those
--   with the CLI.

WITH flagged_path AS (
  SELECT key_arn, source_id, bool_or(access = 'external') AS external,
    min(principal_account) FILTER (access = 'external') AS account,
    min(reason) FILTER (access = 'unknown') AS reason
  FROM internal.access_paths
  WHERE path = 'grant' AND source_id <> '' AND access IN ('external', 'unknown')
  GROUP BY key_arn, source_id
), unanalyzed_grant AS (
  -- An anti join returns almost no rows; a join would return one row per grant.
  SELECT g.resource_arn
  FROM internal.customer_grants g
  ANTI JOIN (SELECT key_arn, source_id FROM internal.access_paths WHERE path = 'grant') a ON a.source_id = g.grant_id
    AND a.key_arn = g.key_arn
), external_grant AS (
  -- A list makes DuckDB estimate few rows, so that it looks them up in the grants and not the other way round.
  SELECT unnest(list({'key_arn': key_arn, 'grant_id': source_id}), recursive := true) FROM flagged_path WHERE external
), external_grant_row AS (
  -- Reads the history table, which avoids resolving the grantees of millions of grants.
  SELECT h.key_arn, k.account_id, k.region, h.grant_id, h.key_arn || '#grant/' || h.grant_id AS resource_arn,
    coalesce(h.grantee_service_principal, h.grantee_principal) AS grantee,
    CAST(CAST(h.operations AS JSON) AS VARCHAR[]) AS operations
  FROM external_grant s
  JOIN grants_history h ON h.grant_id = s.grant_id AND h.key_arn = s.key_arn
  JOIN keys k ON k.key_arn = h.key_arn
  CROSS JOIN internal.latest_run n
  WHERE h.valid_from <= n.run_id AND (h.valid_to IS NULL OR h.valid_to > n.run_id)
), candidate AS (
  SELECT key_arn, account_id, region, grant_id, resource_arn, grantee, operations
  FROM internal.customer_grants
  UNION ALL
  SELECT s.*
  FROM external_grant_row s
  ANTI JOIN internal.customer_grants c ON c.resource_arn = s.resource_arn
)
SELECT g.resource_arn, g.account_id, g.region, g.key_arn,
  CASE
    WHEN o.external THEN fail(coalesce(g.grantee, 'an unnamed grantee') || ' of account ' || o.account
      || ', which is neither in the organization nor a known party, may use the key ('
      || array_to_string(g.operations, ', ') || ').')
    WHEN o.key_arn IS NULL AND u.resource_arn IS NULL
      THEN pass(coalesce(g.grantee, 'an unnamed grantee') || ' is in the organization or a known party.')
    ELSE unknown('Could not determine the grantee: ' || coalesce(o.reason, 'the grant was not analyzed') || '.')
  END AS verdict
FROM candidate g
LEFT JOIN flagged_path o ON o.key_arn = g.key_arn AND o.source_id = g.grant_id
LEFT JOIN unanalyzed_grant u ON u.resource_arn = g.resource_arn
UNION ALL
FROM internal.unread_grants

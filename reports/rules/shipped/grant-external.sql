-- id: grant-external
-- title: No grant lets in an account that nobody knows
-- severity: high
-- family: grants
-- why: >-
--   A grant gives use of a key without a trace in its policy, and reviewers of policies never see it. Here it is held
--   by an account that is neither in the organization nor a known party.
-- fix: >-
--   Find out who made the grant (CreateGrant in CloudTrail). If the account is a vendor or partner, enter it in the
--   settings under known_external_parties. Otherwise revoke the grant: running resources of the holder, such as attached volumes, go
--   on until they ask KMS again. Then look who may create grants on the key.
-- console: The KMS console shows no grants; use the command line.
-- cli: aws kms revoke-grant --key-id KEY_ARN --grant-id GRANT_ID
-- terraform: >-
--   Remove or change the aws_kms_grant resource; grants made by programs are not known to Terraform and have to be
--   revoked by command.

-- A row is a grant: its key's ARN, #grant/ and its id. Grants for AWS services are left out: services make them for
-- their resources and retire them. A key whose grants could not be read is a row of its own.
WITH odd AS (
  SELECT key_arn, via, bool_or(access = 'external') AS external,
    any_value(principal_account) FILTER (access = 'external') AS account,
    min(reason) FILTER (access = 'unknown') AS reason
  FROM access_paths
  WHERE path = 'grant' AND via <> '' AND access IN ('external', 'unknown')
  GROUP BY key_arn, via
), untold AS (
  -- Asked for what is not there: that is next to nothing, where asking what is there would be a row for each grant.
  SELECT g.resource_arn
  FROM customer_grants g
  ANTI JOIN (SELECT key_arn, via FROM access_paths WHERE path = 'grant') a ON a.via = g.grant_id AND a.key_arn = g.key_arn
), stranger AS (
  -- As a list, since DuckDB then takes them to be few, and looks for them in the grants instead of the other way round.
  SELECT unnest(list({'key_arn': key_arn, 'grant_id': via}), recursive := true) FROM odd WHERE external
), service AS (
  -- From the history: it need not work out of millions of grants whose they are.
  SELECT h.key_arn, k.account_id, k.region, h.grant_id, h.key_arn || '#grant/' || h.grant_id AS resource_arn,
    coalesce(h.grantee_service_principal, h.grantee_principal) AS grantee,
    CAST(CAST(h.operations AS JSON) AS VARCHAR[]) AS operations
  FROM stranger s
  JOIN grants_history h ON h.grant_id = s.grant_id AND h.key_arn = s.key_arn
  JOIN keys k ON k.key_arn = h.key_arn
  CROSS JOIN (SELECT max(run_id) AS run_id FROM runs) n
  WHERE h.valid_from <= n.run_id AND (h.valid_to IS NULL OR h.valid_to > n.run_id)
), held AS (
  SELECT key_arn, account_id, region, grant_id, resource_arn, grantee, operations
  FROM customer_grants
  UNION ALL
  SELECT s.*
  FROM service s
  ANTI JOIN customer_grants c ON c.resource_arn = s.resource_arn
)
SELECT g.resource_arn, g.account_id, g.region, g.key_arn,
  CASE
    WHEN u.resource_arn IS NOT NULL OR (o.key_arn IS NOT NULL AND NOT o.external) THEN 'unknown'
    WHEN o.external THEN 'fail'
    WHEN u.resource_arn IS NULL AND o.key_arn IS NULL THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN o.external THEN coalesce(g.grantee, 'a grantee that is not named') || ' of account ' || o.account
      || ', which nobody knows, may use the key (' || array_to_string(g.operations, ', ') || ').'
    WHEN u.resource_arn IS NOT NULL OR o.key_arn IS NOT NULL THEN 'It is not known who holds the grant: '
      || coalesce(o.reason, 'it was not analysed') || '.'
    ELSE coalesce(g.grantee, 'a grantee that is not named') || ' is no stranger.'
  END AS reason
FROM held g
LEFT JOIN odd o ON o.key_arn = g.key_arn AND o.via = g.grant_id
LEFT JOIN untold u ON u.resource_arn = g.resource_arn
UNION ALL
SELECT k.key_arn, k.account_id, k.region, k.key_arn, 'unknown', 'The grants of the key could not be read.'
FROM keys k
WHERE k.manager IS DISTINCT FROM 'AWS' AND k.grants IS NULL

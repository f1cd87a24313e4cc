-- id: grant-external
-- title: No grant lets in an account that nobody knows
-- severity: high
-- family: grants
-- why: >-
--   A grant gives use of a key without a trace in its policy, and reviewers of policies never see it. Here it is held
--   by an account that is neither in the organization nor a known party.
-- fix: >-
--   Find out who made the grant (CreateGrant in CloudTrail). If the account is a vendor or partner, enter it in the
--   settings under parties. Otherwise revoke the grant: running resources of the holder, such as attached volumes, go
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
), held AS (
  SELECT g.*,
    EXISTS (FROM access_paths a WHERE a.path = 'grant' AND a.via = g.grant_id AND a.key_arn = g.key_arn) AS analysed
  FROM grants g
)
SELECT g.key_arn || '#grant/' || g.grant_id AS resource_arn, g.account_id, g.region, g.key_arn,
  CASE
    WHEN NOT g.analysed OR (o.key_arn IS NOT NULL AND NOT o.external) THEN 'unknown'
    WHEN o.external THEN 'fail'
    WHEN g.analysed AND o.key_arn IS NULL THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN o.external THEN coalesce(g.grantee, 'a grantee that is not named') || ' of account ' || o.account
      || ', which nobody knows, may use the key (' || array_to_string(g.operations, ', ') || ').'
    WHEN NOT g.analysed OR o.key_arn IS NOT NULL THEN 'It is not known who holds the grant: ' || coalesce(o.reason,
      'it was not analysed') || '.'
    ELSE coalesce(g.grantee, 'a grantee that is not named') || ' is no stranger.'
  END AS reason
FROM held g
LEFT JOIN odd o ON o.key_arn = g.key_arn AND o.via = g.grant_id
WHERE NOT g.for_service OR o.external
UNION ALL
SELECT k.key_arn, k.account_id, k.region, k.key_arn, 'unknown', 'The grants of the key could not be read.'
FROM keys k
WHERE k.manager IS DISTINCT FROM 'AWS' AND k.grants IS NULL

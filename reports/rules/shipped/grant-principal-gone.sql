-- id: grant-principal-gone
-- title: The grantees of all grants exist
-- severity: low
-- family: grants
-- why: >-
--   A grant whose role or user was deleted gives no access, counts towards the grant limit, and clutters the list of
--   grants. If the role was re-created under the same name, its application silently lost access.
-- fix: >-
--   The grantee was deleted. If it was re-created, create the grant again for it; then revoke this one.
-- console: >-
--   The KMS console does not show grants; use the CLI.
-- cli: aws kms revoke-grant --key-id KEY_ARN --grant-id GRANT_ID
-- terraform: >-
--   Remove or change the aws_kms_grant resource. Terraform does not manage grants created by applications; revoke those
--   with the CLI.

WITH typed_grant AS (
  SELECT *,
    regexp_extract(grantee, '^arn:[a-z-]+:(?:iam|sts)::([0-9]{12}):', 1) AS grantee_account,
    CASE
      WHEN grantee IS NULL THEN 'other'
      WHEN regexp_full_match(grantee, 'A(ID|RO|GP|IP|NP|3T)A[A-Z0-9]{12,}') THEN 'deleted'
      WHEN regexp_full_match(grantee, '[0-9]{12}|arn:[a-z-]+:iam::[0-9]{12}:root') THEN 'account'
      WHEN regexp_matches(grantee, '^arn:[a-z-]+:iam::[0-9]{12}:(role|user)/') THEN 'identity'
      WHEN regexp_matches(grantee, '^arn:[a-z-]+:sts::[0-9]{12}:assumed-role/') THEN 'session'
      ELSE 'other'
    END AS grantee_type
  FROM internal.customer_grants
), resolved_grant AS (
  SELECT * EXCLUDE (grantee_account),
    CASE WHEN regexp_full_match(grantee, '[0-9]{12}') THEN grantee ELSE nullif(grantee_account, '') END AS account,
    -- The ARN of a session contains the name of the role, but not its path.
    CASE WHEN grantee_type = 'session' THEN grantee_account || ' ' || regexp_extract(grantee, ':assumed-role/([^/]+)', 1)
      ELSE grantee END AS principal
  FROM typed_grant
), existing_principal AS (
  SELECT DISTINCT unnest([arn, CASE WHEN type = 'role' THEN account_id || ' ' || name END]) AS principal FROM iam_principals
)
SELECT g.resource_arn, g.account_id, g.region, g.key_arn,
  CASE
    WHEN g.grantee_type = 'account' THEN not_applicable('The grantee is the account ' || g.account || '.')
    WHEN g.grantee_type = 'deleted' THEN fail('The grantee ' || g.grantee || ' was deleted.')
    WHEN o.account_id IS NULL AND g.account IS NOT NULL
      THEN not_applicable('The grantee belongs to account ' || g.account || ', which is outside the organization.')
    WHEN g.grantee_type = 'other' THEN unknown('Could not identify ' || coalesce(g.grantee, 'an unnamed grantee') || '.')
    WHEN f.principal IS NOT NULL THEN pass('The grantee ' || g.grantee || ' exists.')
    WHEN i.freshness = 'current' THEN fail('The grantee ' || g.grantee || ' does not exist.')
    ELSE unknown('Could not determine whether ' || g.grantee || ' exists' || coalesce(': ' || i.reason, '') || '.')
  END AS verdict
FROM resolved_grant g
LEFT JOIN accounts o ON o.account_id = g.account AND o.state IS DISTINCT FROM 'LEFT'
LEFT JOIN iam_accounts i ON i.account_id = g.account
LEFT JOIN existing_principal f ON f.principal = g.principal
UNION ALL
FROM internal.unread_grants

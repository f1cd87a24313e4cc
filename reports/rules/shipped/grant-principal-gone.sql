-- id: grant-principal-gone
-- title: The holders of grants exist
-- severity: low
-- family: grants
-- why: >-
--   A grant whose role or user was deleted gives nobody access, counts against the limit of grants, and hides in long
--   lists those that matter. Where the role was made again under the same name, the program behind it lost its access
--   silently.
-- fix: The holder was deleted. If it was made again, create the grant anew for it; then revoke this one.
-- console: The KMS console shows no grants; use the command line.
-- cli: aws kms revoke-grant --key-id KEY_ARN --grant-id GRANT_ID
-- terraform: >-
--   Remove or change the aws_kms_grant resource; grants made by programs are not known to Terraform and have to be
--   revoked by command.

-- A row is a grant: its key's ARN, #grant/ and its id. Grants for AWS services are left out: services make them for
-- their resources and retire them. A key whose grants could not be read is a row of its own.
WITH holder AS (
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
), named AS (
  SELECT * EXCLUDE (grantee_account),
    CASE WHEN regexp_full_match(grantee, '[0-9]{12}') THEN grantee ELSE nullif(grantee_account, '') END AS account,
    -- The ARN of a session has the role's name, but not its path.
    CASE WHEN grantee_type = 'session' THEN grantee_account || ' ' || regexp_extract(grantee, ':assumed-role/([^/]+)', 1)
      ELSE grantee END AS who
  FROM holder
), existing AS (
  SELECT arn AS who FROM iam_principals
  UNION
  SELECT account_id || ' ' || name FROM iam_principals WHERE type = 'role'
)
SELECT g.resource_arn, g.account_id, g.region, g.key_arn,
  CASE
    WHEN g.grantee_type = 'account' OR (g.grantee_type <> 'deleted' AND o.account_id IS NULL AND g.account IS NOT NULL)
      THEN 'not_applicable'
    WHEN g.grantee_type = 'other' OR (g.grantee_type <> 'deleted' AND f.who IS NULL AND i.freshness IS DISTINCT FROM 'current') THEN 'unknown'
    WHEN g.grantee_type = 'deleted' OR (i.freshness = 'current' AND f.who IS NULL) THEN 'fail'
    WHEN f.who IS NOT NULL THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN g.grantee_type = 'account' THEN 'The grant is held by account ' || g.account || ' as a whole.'
    WHEN g.grantee_type = 'deleted' THEN 'The holder ' || g.grantee || ' was deleted.'
    WHEN o.account_id IS NULL AND g.account IS NOT NULL THEN 'The holder is of account ' || g.account
      || ', whose IAM is not ours to read.'
    WHEN f.who IS NOT NULL THEN 'The holder ' || g.grantee || ' exists.'
    WHEN g.grantee_type = 'other' THEN 'It is not known who ' || coalesce(g.grantee, 'a grantee that is not named') || ' is.'
    WHEN i.freshness IS DISTINCT FROM 'current' THEN 'Whether ' || g.grantee || ' exists is not known' || coalesce(': '
      || i.reason, '') || '.'
    ELSE 'The holder ' || g.grantee || ' does not exist.'
  END AS reason
FROM named g
LEFT JOIN accounts o ON o.account_id = g.account AND o.state IS DISTINCT FROM 'LEFT'
LEFT JOIN iam_accounts i ON i.account_id = g.account
LEFT JOIN existing f ON f.who = g.who
UNION ALL
SELECT k.key_arn, k.account_id, k.region, k.key_arn, 'unknown', 'The grants of the key could not be read.'
FROM keys k
WHERE k.manager IS DISTINCT FROM 'AWS' AND k.grants IS NULL

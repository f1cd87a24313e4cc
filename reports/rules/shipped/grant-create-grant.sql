-- id: grant-create-grant
-- title: Grants cannot be passed on
-- severity: medium
-- family: grants
-- why: >-
--   A holder with CreateGrant can hand his operations to anyone, in any account, by further grants that the owner of
--   the key did not make and does not see in the policy.
-- fix: >-
--   Create the grant anew without CreateGrant for the same holder, then revoke this one, and look through the other
--   grants of the key for those that the holder made. Programs that attach encrypted volumes need CreateGrant: give
--   it to them in an IAM or key policy with the condition kms:GrantIsForAWSResource in its place.
-- console: The KMS console shows no grants; use the command line.
-- cli: >-
--   aws kms create-grant --key-id KEY_ARN --grantee-principal PRINCIPAL_ARN --operations Decrypt GenerateDataKey; aws
--   kms revoke-grant --key-id KEY_ARN --grant-id GRANT_ID
-- terraform: Take CreateGrant out of operations in aws_kms_grant; the grant is made anew.

-- A row is a grant: its key's ARN, #grant/ and its id. Grants for AWS services are left out: services make them for
-- their resources and retire them. A key whose grants could not be read is a row of its own.
SELECT g.resource_arn, g.account_id, g.region, g.key_arn,
  CASE
    WHEN g.operations IS NULL THEN 'unknown'
    WHEN list_contains(g.operations, 'CreateGrant') THEN 'fail'
    WHEN NOT list_contains(g.operations, 'CreateGrant') THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN g.operations IS NULL THEN 'Its operations are not known.'
    WHEN list_contains(g.operations, 'CreateGrant') THEN coalesce(g.grantee, 'a grantee that is not named')
      || ' may pass the grant on (CreateGrant).'
    ELSE coalesce(g.grantee, 'a grantee that is not named') || ' cannot pass the grant on.'
  END AS reason
FROM internal.customer_grants g
UNION ALL
SELECT k.key_arn, k.account_id, k.region, k.key_arn, 'unknown', 'The grants of the key could not be read.'
FROM keys k
WHERE k.manager IS DISTINCT FROM 'AWS' AND k.grants IS NULL

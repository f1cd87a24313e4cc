-- id: grant-create-grant
-- title: Grants cannot be passed on
-- severity: medium
-- family: grants
-- why: >-
--   A grantee with CreateGrant can pass its operations on to anyone, in any account, through grants that the key owner
--   did not create and that do not appear in the key policy.
-- fix: >-
--   Create the grant again without CreateGrant for the same grantee, then revoke this one, and review the other grants
--   of the key for those created by the grantee. Applications that attach encrypted volumes need CreateGrant: allow it
--   in an IAM or key policy with the condition kms:GrantIsForAWSResource instead.
-- console: >-
--   The KMS console does not show grants; use the CLI.
-- cli: >-
--   aws kms create-grant --key-id KEY_ARN --grantee-principal PRINCIPAL_ARN --operations Decrypt GenerateDataKey; aws
--   kms revoke-grant --key-id KEY_ARN --grant-id GRANT_ID
-- terraform: >-
--   Remove CreateGrant from operations in aws_kms_grant; Terraform replaces the grant.

-- One row per grant, identified by the ARN of its key, #grant/ and the grant ID. Grants to AWS services are excluded: services
-- create and retire them for their own resources. A key whose grants could not be read has its own row.
SELECT g.resource_arn, g.account_id, g.region, g.key_arn,
  CASE
    WHEN g.operations IS NULL THEN 'unknown'
    WHEN list_contains(g.operations, 'CreateGrant') THEN 'fail'
    WHEN NOT list_contains(g.operations, 'CreateGrant') THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN g.operations IS NULL THEN 'The operations of the grant could not be determined.'
    WHEN list_contains(g.operations, 'CreateGrant') THEN coalesce(g.grantee, 'an unnamed grantee')
      || ' may pass the grant on (CreateGrant).'
    ELSE coalesce(g.grantee, 'an unnamed grantee') || ' cannot pass the grant on.'
  END AS reason
FROM internal.customer_grants g
UNION ALL
SELECT k.key_arn, k.account_id, k.region, k.key_arn, 'unknown', 'The grants of the key could not be read.'
FROM keys k
WHERE k.manager IS DISTINCT FROM 'AWS' AND k.grants IS NULL

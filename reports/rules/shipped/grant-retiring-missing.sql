-- id: grant-retiring-missing
-- title: Grants can be retired
-- severity: info
-- family: grants
-- why: >-
--   A grant that names a retiring principal, or that includes RetireGrant, can be retired by the application that used
--   it. Otherwise it remains until a principal with RevokeGrant revokes it, which usually means forever.
-- fix: >-
--   Create such grants with a retiring principal or with RetireGrant among the operations. An existing grant cannot be
--   changed: create it again, then revoke this one.
-- console: >-
--   The KMS console does not show grants; use the CLI.
-- cli: >-
--   aws kms create-grant --key-id KEY_ARN --grantee-principal PRINCIPAL_ARN --retiring-principal PRINCIPAL_ARN
--   --operations Decrypt; aws kms revoke-grant --key-id KEY_ARN --grant-id GRANT_ID
-- terraform: >-
--   Set retiring_principal in aws_kms_grant; Terraform replaces the grant.

-- One row per grant, identified by the ARN of its key, #grant/ and the grant ID. Grants to AWS services are excluded: services
-- create and retire them for their own resources. A key whose grants could not be read has its own row.
SELECT g.resource_arn, g.account_id, g.region, g.key_arn,
  CASE
    WHEN g.operations IS NULL THEN 'unknown'
    WHEN g.retiring_principal IS NULL AND NOT list_contains(g.operations, 'RetireGrant') THEN 'fail'
    WHEN g.retiring_principal IS NOT NULL OR list_contains(g.operations, 'RetireGrant') THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN g.retiring_principal IS NOT NULL THEN g.retiring_principal || ' may retire the grant to '
      || coalesce(g.grantee, 'an unnamed grantee') || '.'
    WHEN list_contains(g.operations, 'RetireGrant') THEN coalesce(g.grantee, 'an unnamed grantee')
      || ' may retire the grant.'
    WHEN g.operations IS NULL THEN 'The operations of the grant could not be determined.'
    ELSE 'No principal may retire the grant to ' || coalesce(g.grantee, 'an unnamed grantee') || '.'
  END AS reason
FROM internal.customer_grants g
UNION ALL
SELECT k.key_arn, k.account_id, k.region, k.key_arn, 'unknown', 'The grants of the key could not be read.'
FROM keys k
WHERE k.manager IS DISTINCT FROM 'AWS' AND k.grants IS NULL

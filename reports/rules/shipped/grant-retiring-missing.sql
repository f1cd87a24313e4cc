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

SELECT resource_arn, account_id, region, key_arn,
  CASE
    WHEN operations IS NULL THEN unknown('The operations of the grant could not be determined.')
    WHEN retiring_principal IS NOT NULL
      THEN pass(retiring_principal || ' may retire the grant to ' || coalesce(grantee, 'an unnamed grantee') || '.')
    WHEN list_contains(operations, 'RetireGrant')
      THEN pass(coalesce(grantee, 'an unnamed grantee') || ' may retire the grant.')
    WHEN NOT list_contains(operations, 'RetireGrant')
      THEN fail('No principal may retire the grant to ' || coalesce(grantee, 'an unnamed grantee') || '.')
  END AS verdict
FROM internal.customer_grants
UNION ALL
FROM internal.unread_grants

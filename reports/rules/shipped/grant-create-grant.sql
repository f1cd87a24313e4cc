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

SELECT resource_arn, account_id, region, key_arn,
  CASE
    WHEN operations IS NULL THEN unknown('The operations of the grant could not be determined.')
    WHEN list_contains(operations, 'CreateGrant')
      THEN fail(coalesce(grantee, 'an unnamed grantee') || ' may pass the grant on (CreateGrant).')
    WHEN NOT list_contains(operations, 'CreateGrant')
      THEN pass(coalesce(grantee, 'an unnamed grantee') || ' cannot pass the grant on.')
  END AS verdict
FROM internal.customer_grants
UNION ALL
FROM internal.unread_grants

-- id: grant-broad
-- title: Grants allow only the expected operations
-- severity: low
-- family: grants
-- why: >-
--   A grant should contain only the few operations that its grantee needs. Additional operations, such as generating
--   data key pairs or deriving shared secrets, often come from an application that requested everything.
-- fix: >-
--   The grant allows operations that are not in the parameter operations. First create a narrower grant for the same
--   grantee, then revoke this one; the grantee is not interrupted. CreateGrant is covered by grant-create-grant and
--   ignored here.
-- console: >-
--   The KMS console does not show grants; use the CLI.
-- cli: >-
--   aws kms create-grant --key-id KEY_ARN --grantee-principal PRINCIPAL_ARN --operations Decrypt GenerateDataKey; aws
--   kms revoke-grant --key-id KEY_ARN --grant-id GRANT_ID
-- terraform: >-
--   List fewer operations in aws_kms_grant; Terraform replaces the grant.
-- parameters:
--   operations:
--     default: >-
--       Decrypt, Encrypt, GenerateDataKey, GenerateDataKeyWithoutPlaintext, ReEncryptFrom, ReEncryptTo,
--       DescribeKey, GetPublicKey, Sign, Verify, GenerateMac, VerifyMac, RetireGrant
--     about: Comma-separated list of allowed operations.

SELECT resource_arn, account_id, region, key_arn,
  CASE
    WHEN operations IS NULL THEN unknown('The operations of the grant could not be determined.')
    WHEN len(excess_operations) > 0 THEN fail(coalesce(grantee, 'an unnamed grantee') || ' may perform additional operations: '
      || array_to_string(excess_operations, ', ') || '.')
    WHEN len(excess_operations) = 0
      THEN pass(coalesce(grantee, 'an unnamed grantee') || ' may only perform ' || array_to_string(operations, ', ') || '.')
  END AS verdict
FROM (
  SELECT *, list_sort(list_filter(operations, lambda operation: operation <> 'CreateGrant'
    AND NOT list_contains(string_split(replace($operations, ' ', ''), ','), operation))) AS excess_operations
  FROM internal.customer_grants
)
UNION ALL
FROM internal.unread_grants

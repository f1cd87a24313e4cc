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

-- One row per grant, identified by the ARN of its key, #grant/ and the grant ID. Grants to AWS services are excluded: services
-- create and retire them for their own resources. A key whose grants could not be read has its own row.
SELECT g.resource_arn, g.account_id, g.region, g.key_arn,
  CASE
    WHEN g.operations IS NULL THEN 'unknown'
    WHEN len(g.excess_operations) > 0 THEN 'fail'
    WHEN len(g.excess_operations) = 0 THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN g.operations IS NULL THEN 'The operations of the grant could not be determined.'
    WHEN len(g.excess_operations) > 0 THEN coalesce(g.grantee, 'an unnamed grantee') || ' may perform additional operations: '
      || array_to_string(g.excess_operations, ', ') || '.'
    ELSE coalesce(g.grantee, 'an unnamed grantee') || ' may only perform ' || array_to_string(g.operations, ', ')
      || '.'
  END AS reason
FROM (
  SELECT *, list_sort(list_filter(operations, lambda operation: operation <> 'CreateGrant'
    AND NOT list_contains(string_split(replace($operations, ' ', ''), ','), operation))) AS excess_operations
  FROM internal.customer_grants
) g
UNION ALL
SELECT k.key_arn, k.account_id, k.region, k.key_arn, 'unknown', 'The grants of the key could not be read.'
FROM keys k
WHERE k.manager IS DISTINCT FROM 'AWS' AND k.grants IS NULL

-- id: grant-broad
-- title: Grants allow only what their kind of use needs
-- severity: low
-- family: grants
-- why: >-
--   A grant should carry the few operations that the holder needs. One with further operations, such as making key
--   pairs or shared secrets, is often made by a program that asked for everything.
-- fix: >-
--   The grant allows operations beyond the list of the parameter. Create a narrower one for the same holder first,
--   then revoke this one; holders notice nothing in between. CreateGrant has a rule of its own and does not count
--   here.
-- console: The KMS console shows no grants; use the command line.
-- cli: >-
--   aws kms create-grant --key-id KEY_ARN --grantee-principal PRINCIPAL_ARN --operations Decrypt GenerateDataKey; aws
--   kms revoke-grant --key-id KEY_ARN --grant-id GRANT_ID
-- terraform: List fewer operations in aws_kms_grant; the grant is made anew.
-- parameters:
--   operations:
--     default: >-
--       Decrypt, Encrypt, GenerateDataKey, GenerateDataKeyWithoutPlaintext, ReEncryptFrom, ReEncryptTo,
--       DescribeKey, GetPublicKey, Sign, Verify, GenerateMac, VerifyMac, RetireGrant
--     about: the operations that grants may have, with commas between

-- A row is a grant: its key's ARN, #grant/ and its id. Grants for AWS services are left out: services make them for
-- their resources and retire them. A key whose grants could not be read is a row of its own.
SELECT g.resource_arn, g.account_id, g.region, g.key_arn,
  CASE
    WHEN g.operations IS NULL THEN 'unknown'
    WHEN len(g.beyond) > 0 THEN 'fail'
    WHEN len(g.beyond) = 0 THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN g.operations IS NULL THEN 'Its operations are not known.'
    WHEN len(g.beyond) > 0 THEN coalesce(g.grantee, 'a grantee that is not named') || ' may do more than is usual: '
      || array_to_string(g.beyond, ', ') || '.'
    ELSE coalesce(g.grantee, 'a grantee that is not named') || ' may do only ' || array_to_string(g.operations, ', ')
      || '.'
  END AS reason
FROM (
  SELECT *, list_sort(list_filter(operations, lambda one: one <> 'CreateGrant'
    AND NOT list_contains(string_split(replace($operations, ' ', ''), ','), one))) AS beyond
  FROM internal.customer_grants
) g
UNION ALL
SELECT k.key_arn, k.account_id, k.region, k.key_arn, 'unknown', 'The grants of the key could not be read.'
FROM keys k
WHERE k.manager IS DISTINCT FROM 'AWS' AND k.grants IS NULL

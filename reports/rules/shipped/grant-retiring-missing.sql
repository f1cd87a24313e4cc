-- id: grant-retiring-missing
-- title: Grants say who retires them
-- severity: info
-- family: grants
-- why: >-
--   A grant that names a retiring principal, or lets its holder retire it, can be ended by the program that used it.
--   Without either it stays until somebody with RevokeGrant notices it, which mostly means for ever.
-- fix: >-
--   Create such grants with a retiring principal, or with RetireGrant among the operations. An existing grant cannot
--   be changed: create it anew, then revoke this one.
-- console: The KMS console shows no grants; use the command line.
-- cli: >-
--   aws kms create-grant --key-id KEY_ARN --grantee-principal PRINCIPAL_ARN --retiring-principal PRINCIPAL_ARN
--   --operations Decrypt; aws kms revoke-grant --key-id KEY_ARN --grant-id GRANT_ID
-- terraform: Set retiring_principal in aws_kms_grant; the grant is made anew.

-- A row is a grant: its key's ARN, #grant/ and its id. Grants for AWS services are left out: services make them for
-- their resources and retire them. A key whose grants could not be read is a row of its own.
SELECT g.resource_arn, g.account_id, g.region, g.key_arn,
  CASE
    WHEN g.operations IS NULL THEN 'unknown'
    WHEN g.retiring_principal IS NULL AND NOT list_contains(g.operations, 'RetireGrant') THEN 'fail'
    WHEN g.retiring_principal IS NOT NULL OR list_contains(g.operations, 'RetireGrant') THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN g.retiring_principal IS NOT NULL THEN g.retiring_principal || ' may retire the grant to '
      || coalesce(g.grantee, 'a grantee that is not named') || '.'
    WHEN list_contains(g.operations, 'RetireGrant') THEN coalesce(g.grantee, 'a grantee that is not named')
      || ' may retire the grant.'
    WHEN g.operations IS NULL THEN 'Its operations are not known.'
    ELSE 'Nobody is named who may retire the grant to ' || coalesce(g.grantee, 'a grantee that is not named') || '.'
  END AS reason
FROM internal.customer_grants g
UNION ALL
SELECT k.key_arn, k.account_id, k.region, k.key_arn, 'unknown', 'The grants of the key could not be read.'
FROM keys k
WHERE k.manager IS DISTINCT FROM 'AWS' AND k.grants IS NULL

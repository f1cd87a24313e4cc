-- id: grant-unconstrained
-- title: Grants are constrained to an encryption context
-- severity: low
-- family: grants
-- why: >-
--   A constraint on the encryption context ties a grant to one secret, volume or record. Without it, the grantee can
--   decrypt everything under the key, whatever the purpose of the grant.
-- fix: >-
--   If the application sends an encryption context, create the grant again with EncryptionContextSubset and revoke this
--   one. If it does not, add an encryption context to the application first; data encrypted without it cannot be
--   decrypted through such a grant. Asymmetric and HMAC keys do not support an encryption context.
-- console: >-
--   The KMS console does not show grants; use the CLI.
-- cli: >-
--   aws kms create-grant --key-id KEY_ARN --grantee-principal PRINCIPAL_ARN --operations Decrypt --constraints
--   EncryptionContextSubset={KEY=VALUE}; aws kms revoke-grant --key-id KEY_ARN --grant-id GRANT_ID
-- terraform: >-
--   Set constraints { encryption_context_subset = { KEY = "VALUE" } } in aws_kms_grant; Terraform replaces the grant.

-- One row per grant, identified by the ARN of its key, #grant/ and the grant ID. Grants to AWS services are excluded: services
-- create and retire them for their own resources. A key whose grants could not be read has its own row.
SELECT g.resource_arn, g.account_id, g.region, g.key_arn,
  CASE
    WHEN NOT list_has_any(g.operations, ['Decrypt', 'Encrypt', 'GenerateDataKey', 'GenerateDataKeyWithoutPlaintext',
      'GenerateDataKeyPair', 'GenerateDataKeyPairWithoutPlaintext', 'ReEncryptFrom', 'ReEncryptTo'])
      THEN 'not_applicable'
    WHEN k.key_spec <> 'SYMMETRIC_DEFAULT' THEN 'not_applicable'
    WHEN g.operations IS NULL OR k.key_spec IS NULL THEN 'unknown'
    WHEN NOT coalesce(contains(g.constraints, '"EncryptionContext') OR contains(g.constraints, '"SourceArn"'), false)
      THEN 'fail'
    WHEN contains(g.constraints, '"EncryptionContext') OR contains(g.constraints, '"SourceArn"') THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN NOT list_has_any(g.operations, ['Decrypt', 'Encrypt', 'GenerateDataKey', 'GenerateDataKeyWithoutPlaintext',
      'GenerateDataKeyPair', 'GenerateDataKeyPairWithoutPlaintext', 'ReEncryptFrom', 'ReEncryptTo'])
      THEN 'None of its operations supports an encryption context.'
    WHEN k.key_spec <> 'SYMMETRIC_DEFAULT' THEN 'Keys with the spec ' || k.key_spec || ' do not support an encryption context.'
    WHEN g.operations IS NULL OR k.key_spec IS NULL THEN 'Could not determine whether the key supports an encryption context.'
    WHEN NOT coalesce(contains(g.constraints, '"EncryptionContext') OR contains(g.constraints, '"SourceArn"'), false)
      THEN 'No encryption context constrains the grant to ' || coalesce(g.grantee, 'an unnamed grantee') || '.'
    ELSE 'The grant to ' || coalesce(g.grantee, 'an unnamed grantee') || ' is constrained.'
  END AS reason
FROM internal.customer_grants g
LEFT JOIN keys k ON k.key_arn = g.key_arn
UNION ALL
SELECT k.key_arn, k.account_id, k.region, k.key_arn, 'unknown', 'The grants of the key could not be read.'
FROM keys k
WHERE k.manager IS DISTINCT FROM 'AWS' AND k.grants IS NULL

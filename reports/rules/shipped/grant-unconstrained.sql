-- id: grant-unconstrained
-- title: Grants are bound to an encryption context
-- severity: low
-- family: grants
-- why: >-
--   A constraint on the encryption context ties a grant to one secret, volume or record. Without it the holder can
--   decrypt everything under the key, whatever the grant was made for.
-- fix: >-
--   If the program sends an encryption context, create the grant anew with EncryptionContextSubset and revoke this
--   one. If it sends none, add one in the program first: what was encrypted without it cannot be decrypted through
--   such a grant. Asymmetric and HMAC keys have no encryption context.
-- console: The KMS console shows no grants; use the command line.
-- cli: >-
--   aws kms create-grant --key-id KEY_ARN --grantee-principal PRINCIPAL_ARN --operations Decrypt --constraints
--   EncryptionContextSubset={KEY=VALUE}; aws kms revoke-grant --key-id KEY_ARN --grant-id GRANT_ID
-- terraform: >-
--   Set constraints { encryption_context_subset = { KEY = "VALUE" } } in aws_kms_grant; the grant is made anew.

-- A row is a grant: its key's ARN, #grant/ and its id. Grants for AWS services are left out: services make them for
-- their resources and retire them. A key whose grants could not be read is a row of its own.
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
      THEN 'None of its operations takes an encryption context.'
    WHEN k.key_spec <> 'SYMMETRIC_DEFAULT' THEN 'Keys of type ' || k.key_spec || ' have no encryption context.'
    WHEN g.operations IS NULL OR k.key_spec IS NULL THEN 'Whether the key takes an encryption context is not known.'
    WHEN NOT coalesce(contains(g.constraints, '"EncryptionContext') OR contains(g.constraints, '"SourceArn"'), false)
      THEN 'No encryption context binds the grant to ' || coalesce(g.grantee, 'a grantee that is not named') || '.'
    ELSE 'The grant to ' || coalesce(g.grantee, 'a grantee that is not named') || ' is bound to what it was made for.'
  END AS reason
FROM internal.customer_grants g
LEFT JOIN keys k ON k.key_arn = g.key_arn
UNION ALL
SELECT k.key_arn, k.account_id, k.region, k.key_arn, 'unknown', 'The grants of the key could not be read.'
FROM keys k
WHERE k.manager IS DISTINCT FROM 'AWS' AND k.grants IS NULL

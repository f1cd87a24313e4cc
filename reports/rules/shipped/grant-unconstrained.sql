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

SELECT g.resource_arn, g.account_id, g.region, g.key_arn,
  CASE
    WHEN NOT list_has_any(g.operations, ['Decrypt', 'Encrypt', 'GenerateDataKey', 'GenerateDataKeyWithoutPlaintext',
      'GenerateDataKeyPair', 'GenerateDataKeyPairWithoutPlaintext', 'ReEncryptFrom', 'ReEncryptTo'])
      THEN not_applicable('None of its operations supports an encryption context.')
    WHEN k.key_spec <> 'SYMMETRIC_DEFAULT'
      THEN not_applicable('Keys with the spec ' || k.key_spec || ' do not support an encryption context.')
    WHEN g.operations IS NULL OR k.key_spec IS NULL
      THEN unknown('Could not determine whether the key supports an encryption context.')
    WHEN g.is_constrained THEN pass('The grant to ' || coalesce(g.grantee, 'an unnamed grantee') || ' is constrained.')
    WHEN NOT g.is_constrained
      THEN fail('No encryption context constrains the grant to ' || coalesce(g.grantee, 'an unnamed grantee') || '.')
  END AS verdict
FROM (
  SELECT *, coalesce(contains(constraints, '"EncryptionContext') OR contains(constraints, '"SourceArn"'), false) AS is_constrained
  FROM internal.customer_grants
) g
LEFT JOIN keys k ON k.key_arn = g.key_arn
UNION ALL
FROM internal.unread_grants

-- id: imported-material-missing
-- title: Keys for imported material have material
-- severity: medium
-- family: material
-- why: >-
--   In a list, a key without material looks like any other, but every call that needs the material fails. Either the
--   material was never imported, or it expired or was deleted; then nothing encrypted under the key can be read until
--   the identical material is imported again.
-- fix: >-
--   If the key was in use, reimport the same material: KMS accepts no other material for existing data. If it never had
--   material and is not needed, schedule its deletion.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key material and rotations", choose "Import key material".
-- cli: |-
--   aws kms get-parameters-for-import --key-id KEY_ARN --wrapping-key-spec RSA_4096 \
--     --wrapping-algorithm RSA_AES_KEY_WRAP_SHA_256
--   aws kms import-key-material --key-id KEY_ARN --import-token fileb://TOKEN \
--     --encrypted-key-material fileb://MATERIAL --expiration-model KEY_MATERIAL_DOES_NOT_EXPIRE
-- terraform: >-
--   In the aws_kms_external_key resource, set key_material_base64. This stores the material in the Terraform state, so
--   prefer the CLI.
SELECT key_arn AS resource_arn, account_id, region, key_arn, stale_note AS note,
  CASE
    WHEN state IN ('PendingDeletion', 'PendingReplicaDeletion') THEN not_applicable('The key is scheduled for deletion.')
    WHEN manager IS NULL OR origin IS NULL OR state IS NULL THEN internal.undescribed(failure_causes)
    WHEN state = 'PendingImport' THEN fail('The key has no material: ' || coalesce(
      'it expired on ' || strftime(material_expires_at, '%Y-%m-%d'), 'it was never imported, or it was deleted or expired') || '.'
      || CASE WHEN dependent_resources > 0 THEN ' '
        || internal.counted(dependent_resources, 'resource uses it.', 'resources use it.') ELSE '' END)
    WHEN state IN ('Enabled', 'Disabled', 'Updating') THEN pass('The key has imported material.')
    ELSE unknown('The key is in state ' || state || ', which does not indicate whether it has material.')
  END AS verdict
FROM internal.customer_keys
WHERE origin IS NULL OR origin = 'EXTERNAL'

-- id: imported-material-missing
-- title: Keys for imported material have their material
-- severity: medium
-- family: material
-- why: >-
--   A key without its material looks like any other in a list, but every call that needs it fails. Either the
--   material was never imported and the key waits for nothing, or it expired or was deleted, and what was encrypted
--   under it is out of reach until the identical material is imported again.
-- fix: >-
--   If the key was in use, import the same material again: KMS accepts no other for what was encrypted before. If it
--   never had material and nobody is waiting for it, schedule its deletion.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key material and rotations", choose "Import key material".
-- cli: |-
--   aws kms get-parameters-for-import --key-id KEY_ARN --wrapping-key-spec RSA_4096 \
--     --wrapping-algorithm RSA_AES_KEY_WRAP_SHA_256
--   aws kms import-key-material --key-id KEY_ARN --import-token fileb://TOKEN \
--     --encrypted-key-material fileb://MATERIAL --expiration-model KEY_MATERIAL_DOES_NOT_EXPIRE
-- terraform: >-
--   In the resource aws_kms_external_key set key_material_base64, which puts the material into the state: prefer the
--   CLI.
SELECT
  key_arn AS resource_arn, account_id, region, key_arn,
  CASE
    WHEN state IN ('PendingDeletion', 'PendingReplicaDeletion') THEN 'not_applicable'
    WHEN manager IS NULL OR origin IS NULL OR state IS NULL THEN 'unknown'
    WHEN state = 'PendingImport' THEN 'fail'
    WHEN state IN ('Enabled', 'Disabled', 'Updating') THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN state IN ('PendingDeletion', 'PendingReplicaDeletion') THEN 'The deletion of the key is scheduled.'
    WHEN manager IS NULL OR origin IS NULL OR state IS NULL THEN 'The key could not be described' || denied_note || '.'
    WHEN state = 'PendingImport' THEN 'The key has no material: ' || CASE WHEN material_expires_at IS NULL
        THEN 'none was imported, or it was deleted or expired'
        ELSE 'it expired on ' || strftime(material_expires_at, '%Y-%m-%d') END || '.'
      || CASE WHEN dependent_resources > 0 THEN ' ' || dependent_resources || ' resource(s) use it.' ELSE '' END
    WHEN state IN ('Enabled', 'Disabled', 'Updating') THEN 'The key has imported material.'
    ELSE 'The key is in state ' || state || ', which does not tell whether it has material.'
  END || stale_note AS reason
FROM internal.customer_keys
WHERE (origin IS NULL OR origin = 'EXTERNAL')

-- id: key-rotation-imported
-- title: Imported material is rotated on demand
-- severity: medium
-- family: rotation
-- why: >-
--   KMS does not rotate imported material automatically, and most reports state "rotation does not apply" for such
--   keys. Since 2025, new material can be imported into a symmetric key under the same ARN, so these keys can be
--   rotated like any other.
-- fix: >-
--   Generate new material outside AWS, import it into the key as new material (for a multi-Region key, also into each
--   replica), then rotate on demand. Keep the old material imported and stored safely; existing data still needs it.
--   AWS does not report when material was first imported, so the age of a key that was never rotated counts from its
--   creation.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key material and rotations", choose "Import new key
--   material", then "Rotate now".
-- cli: |-
--   aws kms get-parameters-for-import --key-id KEY_ARN --wrapping-key-spec RSA_4096 \
--     --wrapping-algorithm RSA_AES_KEY_WRAP_SHA_256
--   aws kms import-key-material --key-id KEY_ARN --import-type NEW_KEY_MATERIAL --import-token fileb://TOKEN \
--     --encrypted-key-material fileb://MATERIAL --expiration-model KEY_MATERIAL_DOES_NOT_EXPIRE
--   aws kms rotate-key-on-demand --key-id KEY_ARN
-- terraform: >-
--   Terraform cannot rotate imported material: key_material_base64 of aws_kms_external_key is imported once. Import and
--   rotate with the CLI.
-- parameters:
--   days: {default: "365", about: "Maximum age of imported material, in days."}
WITH candidate AS (
  SELECT *,
    rotation_status IN ('enabled', 'disabled') AND NOT list_contains(denied_actions, 'kms:ListKeyRotations') AS history_known,
    greatest(created_at, last_rotated_at) AS material_at, r.started_at - to_days(CAST($days AS INTEGER)) AS threshold
  FROM internal.customer_keys, internal.latest_run r
  WHERE origin IS NULL OR origin = 'EXTERNAL'
)
SELECT key_arn AS resource_arn, account_id, region, key_arn, rotation_note AS note,
  CASE
    WHEN key_spec <> 'SYMMETRIC_DEFAULT'
      THEN not_applicable('Imported material of keys with the spec ' || key_spec || ' cannot be rotated.')
    WHEN state <> 'Enabled' THEN not_applicable('The key is in state ' || state || ', in which it does not rotate.')
    WHEN multi_region_type = 'REPLICA'
      THEN not_applicable('The key is a replica: it rotates with its primary, which is evaluated instead.')
    WHEN manager IS NULL OR origin IS NULL OR key_spec IS NULL OR state IS NULL OR created_at IS NULL
      THEN internal.undescribed(failure_causes)
    -- Unread rotations can only make the material younger.
    WHEN material_at < threshold AND rotation_status = 'not_applicable'
      THEN unknown('AWS did not report the rotations of this key.')
    WHEN material_at < threshold AND history_known IS NOT TRUE
      THEN unknown('Its rotations could not be read'
        || internal.because(failure_causes, ['kms:GetKeyRotationStatus', 'kms:ListKeyRotations']) || '.')
    WHEN last_rotated_at IS NULL THEN verdict_of(material_at >= threshold,
      'Its imported material was never rotated; the key was created on ' || strftime(created_at, '%Y-%m-%d') || '.')
    ELSE verdict_of(material_at >= threshold,
      'Its imported material was last rotated on ' || strftime(last_rotated_at, '%Y-%m-%d') || '.')
  END AS verdict
FROM candidate

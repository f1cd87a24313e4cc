-- id: key-rotation-imported
-- title: Imported material is rotated on demand
-- severity: medium
-- family: rotation
-- why: >-
--   KMS does not rotate imported material by itself, and a key with imported material counts as "rotation does not
--   apply" in most reports. Since 2025 a symmetric key can take new material under the same ARN, so that nothing
--   speaks against rotating it as any other key.
-- fix: >-
--   Generate new material outside, import it into the key as new material (for a multi-Region key into each replica,
--   too), then rotate on demand. Keep the old material imported and stored safely: what was encrypted under it needs
--   it. AWS does not tell when material was first imported, so a key that never rotated is as old as its creation.
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
--   Terraform cannot rotate imported material: key_material_base64 of aws_kms_external_key is imported once; import
--   and rotate with the CLI.
-- parameters:
--   days: {default: "365", about: "The greatest age of imported material, in days."}
WITH now AS (
  SELECT arg_max(started_at, run_id) AS moment FROM runs
), considered AS (
  SELECT *,
    rotation_status IN ('enabled', 'disabled') AND NOT list_contains(denied_actions, 'kms:ListKeyRotations') AS history_known,
    greatest(created_at, last_rotated_at) AS material_at, now.moment - to_days(CAST($days AS INTEGER)) AS oldest
  FROM internal.customer_keys, now
  WHERE origin IS NULL OR origin = 'EXTERNAL'
)
SELECT
  key_arn AS resource_arn, account_id, region, key_arn,
  CASE
    WHEN key_spec <> 'SYMMETRIC_DEFAULT' OR state <> 'Enabled' OR multi_region_type = 'REPLICA' THEN 'not_applicable'
    WHEN manager IS NULL OR origin IS NULL OR key_spec IS NULL OR state IS NULL OR created_at IS NULL THEN 'unknown'
    -- Unread rotations can only make the material younger.
    WHEN material_at < oldest AND history_known IS NOT TRUE THEN 'unknown'
    WHEN material_at < oldest THEN 'fail'
    WHEN material_at >= oldest THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN key_spec <> 'SYMMETRIC_DEFAULT' THEN 'Imported material of type ' || key_spec || ' cannot be rotated.'
    WHEN state <> 'Enabled' THEN 'The key is in state ' || state || ', in which it does not rotate.'
    WHEN multi_region_type = 'REPLICA' THEN 'The key is a replica: it rotates with its primary, which is evaluated instead.'
    WHEN manager IS NULL OR origin IS NULL OR key_spec IS NULL OR state IS NULL OR created_at IS NULL
      THEN 'The key could not be described' || denied_note || '.'
    WHEN material_at < oldest AND rotation_status = 'not_applicable'
      THEN 'AWS did not tell the rotations of this imported key.'
    WHEN material_at < oldest AND history_known IS NOT TRUE THEN 'Its rotations could not be read' || denied_note || '.'
    WHEN last_rotated_at IS NULL THEN 'Its imported material was never rotated; the key is that of '
      || strftime(created_at, '%Y-%m-%d') || '.'
    ELSE 'Its imported material was last rotated on ' || strftime(last_rotated_at, '%Y-%m-%d') || '.'
  END || stale_note AS reason
FROM considered

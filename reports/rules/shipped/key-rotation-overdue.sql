-- id: key-rotation-overdue
-- title: No key uses the same material for too long
-- severity: medium
-- family: rotation
-- why: >-
--   Enabled rotation does not prove that the material changed: a key that was disabled, whose rotation period was
--   extended, or whose type KMS cannot rotate may still use its original material. The actual age of the material
--   limits the damage of a leak, and auditors check it.
-- fix: >-
--   For a symmetric key with KMS material, rotate on demand and enable automatic rotation; data remains readable.
--   Signing keys, MAC keys, asymmetric encryption keys and keys in a CloudHSM key store cannot rotate: create a new
--   key, move the alias to it, publish the new public key if there is one, and keep the old key enabled while data or
--   signatures still need it.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key material and rotations", choose "Rotate now". To replace a
--   key, create a new one, then move the alias to it on its "Aliases" tab.
-- cli: |-
--   aws kms rotate-key-on-demand --key-id KEY_ARN
--   aws kms enable-key-rotation --key-id KEY_ARN --rotation-period-in-days 365
--   aws kms update-alias --alias-name alias/NAME --target-key-id NEW_KEY_ID
-- terraform: >-
--   In the aws_kms_key resource, set enable_key_rotation = true; Terraform cannot rotate on demand. To replace a key
--   manually, add a second aws_kms_key and point target_key_id of aws_kms_alias to it.
-- parameters:
--   days:
--     default: "400"
--     about: >-
--       Maximum age, in days, of key material that KMS can rotate; the default is a year and some weeks to act.
--   manual_days:
--     default: ""
--     about: >-
--       Maximum age, in days, of key material that KMS cannot rotate, so that the key must be replaced, for example
--       1095; if empty, such keys are not evaluated.
WITH candidate AS (
  SELECT *,
    key_spec <> 'SYMMETRIC_DEFAULT' OR origin = 'AWS_CLOUDHSM' AS manual_only,
    key_spec = 'SYMMETRIC_DEFAULT' AND origin = 'EXTERNAL' AS on_demand_only,
    rotation_status IN ('enabled', 'disabled') AND NOT list_contains(denied_actions, 'kms:ListKeyRotations') AS history_known,
    CASE WHEN manual_only THEN created_at ELSE greatest(created_at, last_rotated_at) END AS material_at,
    r.started_at - to_days(CAST(CASE WHEN manual_only THEN nullif($manual_days, '') ELSE $days END AS INTEGER)) AS threshold
  FROM internal.customer_keys, internal.latest_run r
)
SELECT key_arn AS resource_arn, account_id, region, key_arn, rotation_note AS note,
  CASE
    WHEN state <> 'Enabled' THEN not_applicable('The key is in state ' || state || ', so it encrypts nothing.')
    WHEN multi_region_type = 'REPLICA'
      THEN not_applicable('The key is a replica: it has the material of its primary, which is evaluated instead.')
    WHEN origin = 'EXTERNAL_KEY_STORE'
      THEN not_applicable('Its material is in an external key manager, which controls its rotation.')
    WHEN on_demand_only THEN not_applicable('Its material is imported: see key-rotation-imported.')
    WHEN manual_only AND $manual_days = '' THEN not_applicable('KMS cannot rotate keys with the spec ' || key_spec
      || ' and origin ' || origin || ', and manual_days sets no limit for their age.')
    WHEN manager IS NULL OR state IS NULL OR key_spec IS NULL OR origin IS NULL OR created_at IS NULL
      THEN internal.undescribed(failure_causes)
    -- Unread rotations can only make the material younger.
    WHEN material_at < threshold AND NOT manual_only AND history_known IS NOT TRUE
      THEN unknown('The last known rotation is older than ' || $days || ' days, but its rotations could not be read'
        || internal.because(failure_causes, ['kms:GetKeyRotationStatus', 'kms:ListKeyRotations']) || '.')
    WHEN manual_only THEN verdict_of(material_at >= threshold, 'KMS cannot rotate keys with the spec ' || key_spec
      || ' and origin ' || origin || '; its material dates from ' || strftime(material_at, '%Y-%m-%d') || '.')
    WHEN last_rotated_at IS NULL THEN verdict_of(material_at >= threshold,
      'The key was never rotated; its material dates from ' || strftime(material_at, '%Y-%m-%d') || '.')
    ELSE verdict_of(material_at >= threshold, 'The key was last rotated on ' || strftime(last_rotated_at, '%Y-%m-%d') || '.')
  END AS verdict
FROM candidate

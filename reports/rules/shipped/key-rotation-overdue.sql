-- id: key-rotation-overdue
-- title: No key goes on too long with the same material
-- severity: medium
-- family: rotation
-- why: >-
--   A switch that says "rotation is on" says nothing of what happened: a key that was disabled, whose period was
--   lengthened, or whose type KMS cannot rotate, may encrypt with the material of its first day. What limits the
--   damage of leaked material is its real age, and that is what an auditor asks for.
-- fix: >-
--   For a symmetric key with material from KMS, rotate on demand and switch automatic rotation on; data stays
--   readable. Keys for signing, for MACs, of asymmetric encryption, and those in a CloudHSM key store cannot rotate:
--   create a new key, move the alias to it, publish a new public key where there is one, and keep the old key enabled
--   as long as anything was encrypted or has to be verified with it.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key material and rotations", choose "Rotate now". To replace
--   a key: create the new one, then under "Aliases" move the alias to it.
-- cli: |-
--   aws kms rotate-key-on-demand --key-id KEY_ARN
--   aws kms enable-key-rotation --key-id KEY_ARN --rotation-period-in-days 365
--   aws kms update-alias --alias-name alias/NAME --target-key-id NEW_KEY_ID
-- terraform: >-
--   In the resource aws_kms_key set enable_key_rotation = true; Terraform cannot rotate on demand. To replace a key
--   by hand add a second aws_kms_key and point target_key_id of aws_kms_alias at it.
-- parameters:
--   days:
--     default: "400"
--     about: >-
--       The greatest age of key material that KMS can rotate, in days: a year and some weeks to act.
--   manual_days:
--     default: "1095"
--     about: >-
--       The greatest age of key material that KMS cannot rotate, where the key has to be replaced, in days.
WITH now AS (
  SELECT arg_max(started_at, run_id) AS moment FROM runs
), considered AS (
  SELECT *,
    key_spec <> 'SYMMETRIC_DEFAULT' OR origin = 'AWS_CLOUDHSM' AS by_hand,
    key_spec = 'SYMMETRIC_DEFAULT' AND origin = 'EXTERNAL' AS on_demand_only,
    rotation_status IN ('enabled', 'disabled') AND NOT list_contains(denied_actions, 'kms:ListKeyRotations') AS history_known
  FROM internal.customer_keys
), dated AS (
  SELECT *, CASE WHEN by_hand THEN created_at ELSE greatest(created_at, last_rotated_at) END AS material_at,
    now.moment - to_days(CAST(CASE WHEN by_hand THEN $manual_days ELSE $days END AS INTEGER)) AS oldest
  FROM considered, now
)
SELECT
  key_arn AS resource_arn, account_id, region, key_arn,
  CASE
    WHEN state <> 'Enabled' OR multi_region_type = 'REPLICA' OR origin = 'EXTERNAL_KEY_STORE' OR on_demand_only
      THEN 'not_applicable'
    WHEN manager IS NULL OR state IS NULL OR key_spec IS NULL OR origin IS NULL OR created_at IS NULL THEN 'unknown'
    -- Unread rotations can only make the material younger.
    WHEN material_at < oldest AND NOT by_hand AND history_known IS NOT TRUE THEN 'unknown'
    WHEN material_at < oldest THEN 'fail'
    WHEN material_at >= oldest THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN state <> 'Enabled' THEN 'The key is in state ' || state || ', in which it encrypts nothing.'
    WHEN multi_region_type = 'REPLICA' THEN 'The key is a replica: it has the material of its primary, which is judged.'
    WHEN origin = 'EXTERNAL_KEY_STORE' THEN 'Its material is in a key manager outside AWS, which rotates it or not.'
    WHEN on_demand_only THEN 'Its material is imported, which another rule judges.'
    WHEN manager IS NULL OR state IS NULL OR key_spec IS NULL OR origin IS NULL OR created_at IS NULL
      THEN 'The key could not be described' || denied_note || '.'
    WHEN material_at < oldest AND NOT by_hand AND history_known IS NOT TRUE
      THEN 'The last rotation that is known is older than ' || $days || ' days, but its rotations could not be read'
        || denied_note || '.'
    WHEN by_hand THEN 'KMS cannot rotate keys of type ' || key_spec || ' and origin ' || origin
      || '; its material is that of ' || strftime(material_at, '%Y-%m-%d') || '.'
    WHEN last_rotated_at IS NULL
      THEN 'The key never rotated; its material is that of ' || strftime(material_at, '%Y-%m-%d') || '.'
    ELSE 'The key last rotated on ' || strftime(last_rotated_at, '%Y-%m-%d') || '.'
  END || stale_note AS reason
FROM dated

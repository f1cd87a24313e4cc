-- id: key-rotation
-- title: Customer managed keys rotate automatically
-- severity: medium
-- family: rotation
-- why: >-
--   Rotation limits how much data is encrypted with the same key material and therefore the damage if that material
--   leaks. AWS keeps the old material, so nothing needs to be re-encrypted and applications are not affected.
-- fix: >-
--   Automatic rotation is disabled for the key: enable it. The old material is kept and still decrypts existing data,
--   so nothing breaks. Each of the first two rotations adds to the monthly price of the key. For a multi-Region key,
--   enable rotation on the primary key; the replicas follow.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key material and rotations", choose "Edit" and enable automatic
--   rotation.
-- cli: aws kms enable-key-rotation --key-id KEY_ARN --rotation-period-in-days 365
-- terraform: >-
--   In the aws_kms_key resource, set enable_key_rotation = true and optionally rotation_period_in_days = 365.
SELECT key_arn AS resource_arn, account_id, region, key_arn, rotation_note AS note,
  CASE
    WHEN manager = 'AWS' THEN not_applicable('AWS manages this key and its rotation.')
    WHEN key_spec <> 'SYMMETRIC_DEFAULT'
      THEN not_applicable('KMS cannot rotate keys with the spec ' || key_spec || ' automatically.')
    WHEN origin <> 'AWS_KMS' THEN not_applicable('KMS cannot rotate key material of origin ' || origin || ' automatically.')
    WHEN state <> 'Enabled' THEN not_applicable('The key is in state ' || state || ', so it does not rotate.')
    WHEN primary_is_known
      THEN not_applicable('The key is a replica: its rotation is set on its primary ' || primary_arn
        || ', which is evaluated instead.')
    WHEN manager IS NULL OR key_spec IS NULL OR origin IS NULL OR state IS NULL THEN internal.undescribed(failure_causes)
    WHEN multi_region_type = 'REPLICA' THEN unknown('The key is a replica: its rotation is set on its primary, and '
      || coalesce(primary_arn, 'the primary') || ' is not in the inventory.')
    WHEN rotation_status = 'not_applicable'
      THEN not_applicable('Rotation does not apply' || coalesce(': ' || rotation_reason, '') || '.')
    WHEN rotation_status IS NULL THEN unknown('Its rotation status could not be read'
      || internal.because(failure_causes, ['kms:GetKeyRotationStatus']) || '.')
    WHEN rotation_status = 'disabled' THEN fail('Automatic rotation is disabled'
      || coalesce('; its material dates from ' || strftime(coalesce(last_rotated_at, created_at), '%Y-%m-%d'), '') || '.')
    WHEN rotation_status = 'enabled' THEN pass('The key rotates every ' || coalesce(rotation_period_days || ' days', 'year')
      || coalesce(', next on ' || strftime(next_rotation_at, '%Y-%m-%d'), '') || '.')
    ELSE unknown('Its rotation status ' || rotation_status || ' is not recognized by this rule.')
  END AS verdict
FROM (
  SELECT k.*, c.rotation_note, multi_region_type = 'REPLICA' AND primary_arn IN (SELECT key_arn FROM keys) AS primary_is_known
  FROM keys k
  LEFT JOIN (SELECT key_arn, rotation_note FROM internal.customer_keys) c ON c.key_arn = k.key_arn
)

-- id: key-rotation-period
-- title: Automatic rotation is frequent enough
-- severity: low
-- family: rotation
-- why: >-
--   Since 2024, the period of automatic rotation can be anything from 90 to 2560 days: a key with rotation enabled can
--   keep the same material for seven years. That does not meet standards that require yearly rotation.
-- fix: >-
--   Set the period to the number of days that your policy requires. It counts from the last rotation, so a key with
--   older material rotates soon after. Nothing needs to be re-encrypted. For a multi-Region key, change the primary
--   key.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key material and rotations", choose "Edit" and set the
--   rotation period.
-- cli: |-
--   aws kms enable-key-rotation --key-id KEY_ARN --rotation-period-in-days 365
-- terraform: >-
--   In the aws_kms_key resource, set rotation_period_in_days = 365 together with enable_key_rotation = true.
-- parameters:
--   days: {default: "365", about: "Maximum period of automatic rotation, in days."}
SELECT key_arn AS resource_arn, account_id, region, key_arn, rotation_note AS note,
  CASE
    WHEN key_spec <> 'SYMMETRIC_DEFAULT'
      THEN not_applicable('KMS cannot rotate keys with the spec ' || key_spec || ' automatically.')
    WHEN origin <> 'AWS_KMS' THEN not_applicable('KMS cannot rotate key material of origin ' || origin || ' automatically.')
    WHEN state <> 'Enabled' THEN not_applicable('The key is in state ' || state || ', so it does not rotate.')
    WHEN multi_region_type = 'REPLICA'
      THEN not_applicable('The key is a replica: its rotation is set on its primary, which is evaluated instead.')
    WHEN manager IS NULL OR key_spec IS NULL OR origin IS NULL OR state IS NULL THEN internal.undescribed(failure_causes)
    WHEN rotation_status IS NULL THEN unknown('Its rotation status could not be read'
      || internal.because(failure_causes, ['kms:GetKeyRotationStatus']) || '.')
    WHEN rotation_status IN ('disabled', 'not_applicable')
      THEN not_applicable('Automatic rotation is disabled: see key-rotation.')
    WHEN rotation_period_days IS NULL THEN unknown('AWS did not report its rotation period.')
    WHEN rotation_status = 'enabled' THEN verdict_of(rotation_period_days <= CAST($days AS INTEGER),
      'The key rotates every ' || rotation_period_days || ' days; the maximum is ' || $days || ' days.')
  END AS verdict
FROM internal.customer_keys

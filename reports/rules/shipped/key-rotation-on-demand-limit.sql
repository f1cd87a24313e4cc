-- id: key-rotation-on-demand-limit
-- title: Enough on-demand rotations are left
-- severity: low
-- family: rotation
-- why: >-
--   A key can be rotated on demand 25 times in its lifetime, and AWS does not raise this limit. Scripts that rotate
--   regularly fail at the 26th rotation, which may be the urgent one after a leak. For imported material, there is no
--   other way to rotate.
-- fix: >-
--   Use automatic rotation, which is not limited, for regular rotation, and reserve on-demand rotations for
--   emergencies. For imported material, plan the successor now: create a new key, import the material there, and move
--   the alias.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key material and rotations", which shows the remaining
--   rotations; enable automatic rotation there.
-- cli: |-
--   aws kms list-key-rotations --key-id KEY_ARN
--   aws kms enable-key-rotation --key-id KEY_ARN --rotation-period-in-days 365
-- terraform: >-
--   In the aws_kms_key resource, set enable_key_rotation = true. Terraform does not manage on-demand rotations.
-- parameters:
--   limit: {default: "25", about: "Number of on-demand rotations that AWS allows per key."}
--   left: {default: "5", about: "Minimum number of on-demand rotations that must be left."}
WITH candidate AS (
  SELECT k.*, coalesce(d.rotations, 0) AS rotations,
    k.rotation_status IN ('enabled', 'disabled') AND NOT list_contains(k.denied_actions, 'kms:ListKeyRotations') AS history_known,
    coalesce(d.rotations, 0) <= CAST($limit AS INTEGER) - CAST($left AS INTEGER) AS enough_left
  FROM internal.customer_keys k
  LEFT JOIN (
    SELECT key_arn, count(*) AS rotations FROM key_rotations WHERE rotation_type = 'ON_DEMAND' GROUP BY key_arn
  ) d ON d.key_arn = k.key_arn
)
SELECT key_arn AS resource_arn, account_id, region, key_arn, rotation_note AS note,
  CASE
    WHEN key_spec <> 'SYMMETRIC_DEFAULT' THEN not_applicable('Keys with the spec ' || key_spec || ' cannot rotate.')
    WHEN origin IN ('AWS_CLOUDHSM', 'EXTERNAL_KEY_STORE') THEN not_applicable('Keys of origin ' || origin || ' cannot rotate.')
    WHEN multi_region_type = 'REPLICA'
      THEN not_applicable('The key is a replica: it rotates with its primary, which is evaluated instead.')
    WHEN state IN ('PendingDeletion', 'PendingReplicaDeletion') THEN not_applicable('The key is scheduled for deletion.')
    WHEN manager IS NULL OR key_spec IS NULL OR origin IS NULL OR state IS NULL THEN internal.undescribed(failure_causes)
    WHEN NOT enough_left OR history_known
      THEN verdict_of(enough_left, rotations || ' of ' || $limit || ' on-demand rotations are used.')
    WHEN rotation_status = 'not_applicable' THEN not_applicable('AWS reports that the key cannot rotate.')
    ELSE unknown('Its rotations could not be read'
      || internal.because(failure_causes, ['kms:GetKeyRotationStatus', 'kms:ListKeyRotations']) || '.')
  END AS verdict
FROM candidate

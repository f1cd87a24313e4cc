-- id: key-never-used
-- title: Customer managed keys are put to use
-- severity: low
-- family: use
-- why: >-
--   A key that was made weeks ago and never encrypted anything is a leftover of an attempt, or, worse, the key that a
--   team believes its data is under. The second case is worth a question before the key is removed.
-- fix: >-
--   Ask its owner which resource was meant to use it and look there what encrypts the data really. If nothing was,
--   schedule the deletion: data cannot be lost with a key that never encrypted any, but wait out the full period.
-- console: >-
--   In KMS, "Customer managed keys", open the key, which shows its last use, and choose "Key actions", "Schedule key
--   deletion".
-- cli: |-
--   aws kms get-key-last-usage --key-id KEY_ARN
--   aws kms schedule-key-deletion --key-id KEY_ARN --pending-window-in-days 30
-- terraform: >-
--   Remove the resource aws_kms_key with deletion_window_in_days = 30, or set kms_key_id where the key was meant to
--   be used.
-- parameters:
--   days: {default: "30", about: "Days after its creation within which a key has to be used."}
WITH considered AS (
  SELECT k.*, n.denied_resource_actions AS blind,
    (SELECT arg_max(started_at, run_id) FROM runs) - to_days(CAST($days AS INTEGER)) AS oldest
  FROM internal.customer_keys k
  LEFT JOIN internal.key_unknowns n ON n.key_arn = k.key_arn
)
SELECT
  key_arn AS resource_arn, account_id, region, key_arn,
  CASE
    WHEN state IN ('PendingDeletion', 'PendingReplicaDeletion') OR created_at > oldest THEN 'not_applicable'
    WHEN manager IS NULL OR state IS NULL OR created_at IS NULL THEN 'unknown'
    WHEN last_use <> 'used' AND dependent_resources = 0 AND coalesce(grants, 0) = 0
      AND (grants IS NULL OR len(blind) > 0 OR last_use <> 'never_used'
        OR (last_use_reported_at - to_days(CAST($days AS INTEGER)) >= created_at) IS NOT TRUE) THEN 'unknown'
    WHEN last_use = 'never_used' AND dependent_resources = 0 AND grants = 0 THEN 'fail'
    WHEN last_use = 'used' OR dependent_resources > 0 OR grants > 0 THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN state IN ('PendingDeletion', 'PendingReplicaDeletion') THEN 'The key is scheduled for deletion.'
    WHEN created_at > oldest THEN 'The key is new: it was created on ' || strftime(created_at, '%Y-%m-%d') || '.'
    WHEN manager IS NULL OR state IS NULL OR created_at IS NULL THEN 'The key could not be described' || denied_note || '.'
    WHEN last_use = 'used' THEN 'The key has been used.'
    WHEN dependent_resources > 0 THEN dependent_resources || ' resource(s) name it as their key.'
    WHEN grants > 0 THEN 'It has ' || grants || ' grant(s).'
    WHEN grants IS NULL THEN 'No crawled resource uses it, but its grants could not be read' || denied_note || '.'
    WHEN len(blind) > 0 THEN 'No crawled resource uses it, but some listings were denied: '
      || array_to_string(blind, ', ') || '.'
    WHEN last_use = 'unknown' THEN 'Whether it was ever used is not known'
      || coalesce(' (' || last_use_reason || ')', '') || '.'
    WHEN (last_use_reported_at - to_days(CAST($days AS INTEGER)) >= created_at) IS NOT TRUE
      THEN 'It had not been used when AWS was last asked, which was too early to tell.'
    ELSE 'It was never used since it was created on ' || strftime(created_at, '%Y-%m-%d') || '.'
  END || stale_note AS reason
FROM considered

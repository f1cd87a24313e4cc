-- id: key-never-used
-- title: Customer managed keys have been used at least once
-- severity: low
-- family: use
-- why: >-
--   A key created weeks ago that never encrypted anything is a leftover of an experiment or, worse, the key that a team
--   believes protects its data. Clarify the second case before removing the key.
-- fix: >-
--   Ask the owner which resource was supposed to use the key, and check which key actually encrypts its data. If there
--   is no such resource, schedule the deletion with the full waiting period; a key that never encrypted anything can be
--   deleted without data loss.
-- console: >-
--   In KMS, "Customer managed keys", open the key, which shows its last use, and choose "Key actions", "Schedule key
--   deletion".
-- cli: |-
--   aws kms get-key-last-usage --key-id KEY_ARN
--   aws kms schedule-key-deletion --key-id KEY_ARN --pending-window-in-days 30
-- terraform: >-
--   Remove the aws_kms_key resource with deletion_window_in_days = 30, or set kms_key_id in the resource that was
--   supposed to use the key.
-- parameters:
--   days: {default: "30", about: "Number of days after its creation within which a key must be used."}
WITH candidate AS (
  SELECT k.*, n.unread_uses, r.started_at - to_days(CAST($days AS INTEGER)) AS oldest
  FROM internal.customer_keys k
  CROSS JOIN internal.latest_run r
  LEFT JOIN internal.key_unknowns n ON n.key_arn = k.key_arn
)
SELECT key_arn AS resource_arn, account_id, region, key_arn, stale_note AS note,
  CASE
    WHEN state IN ('PendingDeletion', 'PendingReplicaDeletion') THEN not_applicable('The key is scheduled for deletion.')
    WHEN created_at > oldest
      THEN not_applicable('The key is new: it was created on ' || strftime(created_at, '%Y-%m-%d') || '.')
    WHEN manager IS NULL OR state IS NULL OR created_at IS NULL THEN internal.undescribed(failure_causes)
    WHEN last_use = 'used' THEN pass('The key has been used.')
    WHEN dependent_resources > 0 THEN pass(internal.counted(dependent_resources, 'resource uses it.', 'resources use it.'))
    WHEN grants > 0 THEN pass('It has ' || internal.counted(grants, 'grant.', 'grants.'))
    WHEN unread_uses IS NOT NULL THEN unknown(unread_uses)
    WHEN last_use = 'unknown'
      THEN unknown('Could not determine whether it was ever used' || coalesce(' (' || last_use_reason || ')', '') || '.')
    WHEN (last_use_reported_at - to_days(CAST($days AS INTEGER)) >= created_at) IS NOT TRUE
      THEN unknown('It had not been used when its last use was polled, but that was too soon after its creation.')
    WHEN last_use = 'never_used' AND dependent_resources = 0
      THEN fail('It has not been used since it was created on ' || strftime(created_at, '%Y-%m-%d') || '.')
  END AS verdict
FROM candidate

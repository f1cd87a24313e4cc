-- id: key-unused
-- title: Customer managed keys are used
-- severity: low
-- family: use
-- why: >-
--   A key that nothing uses costs its monthly price and is one more thing to rotate, review and explain. It also
--   keeps a way to old data open that nobody watches any more.
-- fix: >-
--   Disable the key first and wait a full cycle of your longest jobs, restores included, while you look for
--   DisabledException in CloudTrail; only then schedule its deletion with 30 days. No use is no proof: an attached
--   volume makes no calls for months, public keys that were downloaded make none at all, and objects in buckets are
--   not listed here.
-- console: >-
--   In KMS, "Customer managed keys", open the key, which shows its last use, and choose "Key actions", "Disable".
-- cli: |-
--   aws kms get-key-last-usage --key-id KEY_ARN
--   aws kms disable-key --key-id KEY_ARN
--   aws kms schedule-key-deletion --key-id KEY_ARN --pending-window-in-days 30
-- terraform: >-
--   In the resource aws_kms_key set is_enabled = false first; later remove the resource with deletion_window_in_days
--   = 30.
-- parameters:
--   days: {default: "90", about: "Days without any use after which a key counts as unused."}
WITH considered AS (
  SELECT k.*, n.denied_resource_actions AS blind,
    (SELECT arg_max(started_at, run_id) FROM runs) - to_days(CAST($days AS INTEGER)) AS oldest
  FROM internal.customer_keys k
  LEFT JOIN internal.key_unknowns n ON n.key_arn = k.key_arn
), weighed AS (
  SELECT *, CASE WHEN last_use = 'used' THEN last_used_at ELSE last_use_tracked_since END AS idle_since,
    last_use_reported_at - to_days(CAST($days AS INTEGER)) AS idle_before
  FROM considered
)
SELECT
  key_arn AS resource_arn, account_id, region, key_arn,
  CASE
    WHEN state IN ('PendingDeletion', 'PendingReplicaDeletion') OR created_at > oldest
      OR (manager IS NOT NULL AND last_use = 'never_used' AND last_use_reported_at IS NOT NULL
        AND dependent_resources = 0 AND grants = 0 AND len(blind) = 0)
      THEN 'not_applicable'
    WHEN manager IS NULL OR state IS NULL OR created_at IS NULL THEN 'unknown'
    WHEN dependent_resources = 0 AND coalesce(grants, 0) = 0 AND (last_used_at < oldest) IS NOT FALSE
      AND (grants IS NULL OR len(blind) > 0 OR (idle_since <= idle_before) IS NOT TRUE) THEN 'unknown'
    WHEN dependent_resources = 0 AND grants = 0 AND (last_used_at < oldest) IS NOT FALSE AND idle_since <= idle_before THEN 'fail'
    WHEN dependent_resources > 0 OR grants > 0 OR last_used_at >= oldest THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN state IN ('PendingDeletion', 'PendingReplicaDeletion') THEN 'The key is scheduled for deletion.'
    WHEN created_at > oldest THEN 'The key is new: it was created on ' || strftime(created_at, '%Y-%m-%d') || '.'
    WHEN manager IS NULL OR state IS NULL OR created_at IS NULL THEN 'The key could not be described' || denied_note || '.'
    WHEN dependent_resources > 0 THEN dependent_resources || ' resource(s) use it.'
    WHEN grants > 0 THEN 'It has ' || grants || ' grant(s).'
    WHEN last_used_at >= oldest THEN 'It was used in the last ' || $days || ' days.'
    WHEN grants IS NULL THEN 'No crawled resource uses it, but its grants could not be read' || denied_note || '.'
    WHEN len(blind) > 0 THEN 'No crawled resource uses it, but some listings were denied: '
      || array_to_string(blind, ', ') || '.'
    WHEN last_use = 'never_used' AND last_use_reported_at IS NOT NULL THEN 'It was never used, which another rule judges.'
    WHEN (idle_since <= idle_before) IS NOT TRUE
      THEN 'No crawled resource uses it; whether it was called in the last '
      || $days || ' days is not known' || coalesce(' (' || last_use_reason || ')', '') || '.'
    WHEN last_use = 'used' THEN 'No crawled resource uses it; it was last used on '
      || strftime(last_used_at, '%Y-%m-%d') || coalesce(' (' || last_used_operation || ')', '') || '.'
    ELSE 'No crawled resource uses it, and it was not used since AWS began to watch, on '
      || strftime(idle_since, '%Y-%m-%d') || '.'
  END || stale_note AS reason
FROM weighed

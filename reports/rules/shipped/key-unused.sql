-- id: key-unused
-- title: Customer managed keys are in use
-- severity: low
-- family: use
-- why: >-
--   An unused key costs its monthly price and must still be rotated, reviewed and explained. It also keeps access to
--   old data open without anyone monitoring it.
-- fix: >-
--   First disable the key, wait for a full cycle of your longest jobs, including restores, and monitor CloudTrail for
--   DisabledException. Only then schedule its deletion with 30 days. Missing usage is no proof: an attached volume
--   makes no calls for months, downloaded public keys cause none at all, and the encryption of individual S3 objects is
--   not visible here.
-- console: >-
--   In KMS, "Customer managed keys", open the key, which shows its last use, and choose "Key actions", "Disable".
-- cli: |-
--   aws kms get-key-last-usage --key-id KEY_ARN
--   aws kms disable-key --key-id KEY_ARN
--   aws kms schedule-key-deletion --key-id KEY_ARN --pending-window-in-days 30
-- terraform: >-
--   In the aws_kms_key resource, first set is_enabled = false; later remove the resource with deletion_window_in_days =
--   30.
-- parameters:
--   days: {default: "90", about: "Number of days without use after which a key counts as unused."}
WITH candidate AS (
  SELECT k.*, n.unread_uses, r.started_at - to_days(CAST($days AS INTEGER)) AS oldest,
    CASE WHEN k.last_use = 'used' THEN k.last_used_at ELSE k.last_use_tracked_since END AS idle_since,
    k.last_use_reported_at - to_days(CAST($days AS INTEGER)) AS idle_before
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
    WHEN dependent_resources > 0 THEN pass(internal.counted(dependent_resources, 'resource uses it.', 'resources use it.'))
    WHEN grants > 0 THEN pass('It has ' || internal.counted(grants, 'grant.', 'grants.'))
    WHEN last_used_at >= oldest THEN pass('It was used in the last ' || $days || ' days.')
    WHEN unread_uses IS NOT NULL THEN unknown(unread_uses)
    WHEN last_use = 'never_used' AND last_use_reported_at IS NOT NULL
      THEN not_applicable('It was never used: see key-never-used.')
    WHEN (idle_since <= idle_before) IS NOT TRUE
      THEN unknown('No crawled resource uses it; could not determine whether it was called in the last ' || $days || ' days'
        || coalesce(' (' || last_use_reason || ')', '') || '.')
    WHEN last_use = 'used' THEN fail('No crawled resource uses it; it was last used on '
      || strftime(last_used_at, '%Y-%m-%d') || coalesce(' (' || last_used_operation || ')', '') || '.')
    WHEN dependent_resources = 0 THEN fail('No crawled resource uses it, and it has not been used since AWS started tracking, on '
      || strftime(idle_since, '%Y-%m-%d') || '.')
  END AS verdict
FROM candidate

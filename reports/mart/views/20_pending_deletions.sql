-- The customer managed keys that are scheduled for deletion, and whether something uses them.
--! internal
--! stored
--: key_arn | The key.
--: in_use | Whether a resource or a grant needs the key, or AWS recorded a use in the last 90 days; NULL if that is unknown.
--: is_unused | Whether it has no grants and nothing else is known to use it; NULL if its grants are unknown.
--: unknown_reason | Why it is unknown, in parentheses; empty text otherwise.
--: message | When the key will be deleted, without a full stop.
SELECT k.key_arn,
  CASE
    WHEN k.dependent_resources > 0 OR k.grants > 0 OR k.last_used_at > k.last_use_polled_at - INTERVAL 90 DAY THEN true
    WHEN k.grants IS NULL OR len(n.unread_resources) > 0 OR k.last_use_reported_at IS NULL THEN NULL
    -- It cannot be used in this state: a later poll is conclusive.
    WHEN k.last_use = 'never_used' AND k.last_use_reported_at >= k.current_version_since THEN false
    WHEN coalesce(k.last_used_at, k.last_use_tracked_since) <= k.last_use_reported_at - INTERVAL 90 DAY THEN false
  END AS in_use,
  k.grants = 0 AND in_use IS NOT TRUE AS is_unused,
  CASE
    WHEN in_use IS NOT NULL THEN ''
    WHEN k.grants IS NULL THEN internal.because(k.failure_causes, ['kms:ListGrants'])
    WHEN len(n.unread_resources) > 0 THEN ' (' || array_to_string(n.unread_resources, '; ') || ')'
    ELSE coalesce(' (' || k.last_use_reason || ')', '')
  END AS unknown_reason,
  CASE WHEN k.state = 'PendingReplicaDeletion' THEN 'The key will be deleted after its replicas are deleted'
      || coalesce(' and after another ' || k.pending_window_days || ' days', '')
    ELSE coalesce('The key will be deleted on ' || strftime(k.deletion_date, '%Y-%m-%d'), 'The key is scheduled for deletion')
  END AS message
FROM keys_as_of(as_of_run) k
LEFT JOIN internal.key_unknowns_as_of(as_of_run) n ON n.key_arn = k.key_arn
WHERE k.state IN ('PendingDeletion', 'PendingReplicaDeletion') AND k.manager IS DISTINCT FROM 'AWS'

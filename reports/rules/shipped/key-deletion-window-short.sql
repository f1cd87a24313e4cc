-- id: key-deletion-window-short
-- title: Scheduled key deletions leave enough time to notice them
-- severity: high
-- family: state
-- why: >-
--   A backup restored once a month, or a volume attached once a quarter, only then reveals that its key is scheduled
--   for deletion. The loss can only be averted during the waiting period, and AWS lets any principal that may schedule
--   the deletion choose as little as seven days.
-- fix: >-
--   Cancel the deletion and schedule it again with a longer waiting period. To enforce this, deny
--   kms:ScheduleKeyDeletion if kms:ScheduleKeyDeletionPendingWindowInDays is less than the required number of days, in
--   a service control policy or in the key policies. AWS does not report when a deletion was scheduled, so the days
--   count from the run that first detected it.
-- console: >-
--   In KMS, "Customer managed keys", select the key, choose "Key actions", "Cancel key deletion", then "Schedule key
--   deletion" and a waiting period of 30 days.
-- cli: |-
--   aws kms cancel-key-deletion --key-id KEY_ARN
--   aws kms schedule-key-deletion --key-id KEY_ARN --pending-window-in-days 30
-- terraform: >-
--   In the aws_kms_key resource, set deletion_window_in_days = 30 before removing the resource.
-- parameters:
--   days:
--     default: "14"
--     about: >-
--       Minimum number of days until the deletion when it is first detected; AWS allows waiting periods of 7 to 30 days.
WITH deletion_candidate AS (
  SELECT *
  FROM internal.customer_keys
  WHERE state IS NULL OR state IN ('PendingDeletion', 'PendingReplicaDeletion')
), deletion_history AS (
  SELECT l.key_arn, min(h.valid_from_at) AS first_crawled_at,
    min(h.valid_from_at) FILTER (h.state = 'PendingDeletion' AND h.deletion_date = l.deletion_date) AS detected_at
  FROM deletion_candidate l
  JOIN keys_history h ON h.key_arn = l.key_arn
  GROUP BY l.key_arn
), candidate AS (
  SELECT l.*, h.detected_at, h.first_crawled_at < h.detected_at AS crawled_before,
    -- A started day counts as a full day, so that a daily crawl determines the chosen waiting period.
    CASE WHEN l.state = 'PendingReplicaDeletion' THEN l.pending_window_days
      ELSE CAST(ceil(epoch(l.deletion_date - h.detected_at) / 86400) AS INTEGER) END AS days
  FROM deletion_candidate l
  LEFT JOIN deletion_history h ON h.key_arn = l.key_arn
)
SELECT key_arn AS resource_arn, account_id, region, key_arn, stale_note AS note,
  CASE
    WHEN manager IS NULL OR state IS NULL THEN internal.undescribed(failure_causes)
    WHEN days IS NULL THEN unknown('AWS did not report when the key will be deleted.')
    WHEN state = 'PendingReplicaDeletion' THEN verdict_of(days >= CAST($days AS INTEGER),
      'After its replicas are deleted, the key will be deleted after a waiting period of ' || days || ' days.')
    WHEN days < CAST($days AS INTEGER) AND NOT crawled_before THEN unknown('The key will be deleted on '
      || strftime(deletion_date, '%Y-%m-%d') || '; the deletion was scheduled before the key was first crawled, on '
      || strftime(detected_at, '%Y-%m-%d') || ', so the waiting period could not be determined.')
    ELSE verdict_of(days >= CAST($days AS INTEGER), 'The key will be deleted on ' || strftime(deletion_date, '%Y-%m-%d') || ', '
      || days || ' days after the scheduled deletion was first detected, on ' || strftime(detected_at, '%Y-%m-%d') || '.')
  END AS verdict
FROM candidate

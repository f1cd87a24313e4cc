-- id: key-deletion-window-short
-- title: A scheduled deletion of a key leaves enough days to notice it
-- severity: high
-- family: state
-- why: >-
--   A backup that is restored once a month, or a volume that is attached once a quarter, shows only then that its key
--   is going. The waiting period is the time in which such a loss can still be averted, and AWS lets anyone who may
--   schedule the deletion choose as little as seven days.
-- fix: >-
--   Cancel the deletion and schedule it again with a longer waiting period. To have it always so, deny
--   kms:ScheduleKeyDeletion where kms:ScheduleKeyDeletionPendingWindowInDays is less than the days wanted, in a
--   service control policy or in the key policies. AWS does not tell when a deletion was asked for: the days count
--   from the night that first saw it.
-- console: >-
--   In KMS, "Customer managed keys", select the key, choose "Key actions", "Cancel key deletion", then "Schedule key
--   deletion" and a waiting period of 30 days.
-- cli: |-
--   aws kms cancel-key-deletion --key-id KEY_ARN
--   aws kms schedule-key-deletion --key-id KEY_ARN --pending-window-in-days 30
-- terraform: >-
--   In the resource aws_kms_key set deletion_window_in_days = 30 before the resource is removed.
-- parameters:
--   days:
--     default: "14"
--     about: >-
--       Days that the deletion must be away when it is first seen; AWS allows waiting periods of 7 to 30 days.
WITH leaving AS (
  SELECT *
  FROM internal.customer_keys
  WHERE (state IS NULL OR state IN ('PendingDeletion', 'PendingReplicaDeletion'))
), history AS (
  SELECT l.key_arn, min(h.valid_from_at) AS known_at,
    min(h.valid_from_at) FILTER (h.state = 'PendingDeletion' AND h.deletion_date = l.deletion_date) AS seen_at
  FROM leaving l
  JOIN keys_history h ON h.key_arn = l.key_arn
  GROUP BY l.key_arn
), considered AS (
  SELECT l.*, h.seen_at, h.known_at < h.seen_at AS seen_before,
    -- A day that has begun counts: a nightly crawl then finds the waiting period that was chosen.
    CASE WHEN l.state = 'PendingReplicaDeletion' THEN l.pending_window_days
      ELSE CAST(ceil(epoch(l.deletion_date - h.seen_at) / 86400) AS INTEGER) END AS days
  FROM leaving l
  LEFT JOIN history h ON h.key_arn = l.key_arn
)
SELECT
  key_arn AS resource_arn, account_id, region, key_arn,
  CASE
    WHEN manager IS NULL OR state IS NULL OR days IS NULL THEN 'unknown'
    WHEN days < CAST($days AS INTEGER) AND state = 'PendingDeletion' AND NOT seen_before THEN 'unknown'
    WHEN days < CAST($days AS INTEGER) THEN 'fail'
    WHEN days >= CAST($days AS INTEGER) THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN manager IS NULL OR state IS NULL THEN 'The key could not be described' || denied_note || '.'
    WHEN days IS NULL THEN 'AWS did not tell when the key will be deleted.'
    WHEN state = 'PendingReplicaDeletion'
      THEN 'Once its replicas are gone the key waits ' || days || ' days for its deletion.'
    WHEN days < CAST($days AS INTEGER) AND NOT seen_before THEN 'The key will be deleted on '
      || strftime(deletion_date, '%Y-%m-%d') || '; its deletion was scheduled before the key was first crawled, on '
      || strftime(seen_at, '%Y-%m-%d') || ', so the waiting period is not known.'
    ELSE 'The key will be deleted on ' || strftime(deletion_date, '%Y-%m-%d') || ', ' || days
      || ' days after that was first seen, on ' || strftime(seen_at, '%Y-%m-%d') || '.'
  END || stale_note AS reason
FROM considered

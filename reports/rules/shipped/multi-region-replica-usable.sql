-- id: multi-region-replica-usable
-- title: Every replica of a multi-Region key is usable
-- severity: high
-- family: multi-region
-- why: >-
--   A replica is needed on the day the other region fails. If it is disabled, has no material or is scheduled for
--   deletion, nobody notices before that day, because everything works in the region of the primary.
-- fix: >-
--   Cancel the deletion of the replica, enable it, or import the material into it, depending on the reason. If the
--   replica is no longer needed, delete it; the primary then no longer lists it. A replica in a region that was not
--   crawled is unknown: add the region to the crawl.
-- console: >-
--   Switch to the region of the replica; in KMS, "Customer managed keys", select the key and choose "Key actions",
--   "Cancel key deletion" or "Enable".
-- cli: |-
--   aws kms cancel-key-deletion --region REPLICA_REGION --key-id KEY_ID
--   aws kms enable-key --region REPLICA_REGION --key-id KEY_ID
-- terraform: >-
--   In the aws_kms_replica_key resource, set enabled = true.
WITH candidate AS (
  SELECT * FROM internal.customer_keys
  -- The ID of a multi-Region key is not a UUID, so a key with a UUID is excluded even if it could not be described.
  WHERE multi_region_type = 'PRIMARY' OR (multi_region IS NULL
    AND NOT regexp_full_match(key_id, '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}'))
), listed_replica AS (
  SELECT key_arn AS primary_arn, unnest(replica_arns) AS replica_arn FROM candidate
), replica AS (
  SELECT l.primary_arn, r.state IN ('Enabled', 'Creating', 'Updating') AS usable,
    r.key_arn IS NULL AND s.keys_listed IS TRUE AS deleted,
    'the replica in ' || split_part(l.replica_arn, ':', 4) || CASE
      WHEN deleted THEN ' does not exist'
      WHEN r.key_arn IS NULL THEN ' was not crawled'
      WHEN r.state IS NULL THEN ' could not be described'
      WHEN r.state = 'PendingDeletion' THEN coalesce(' will be deleted on ' || strftime(r.deletion_date, '%Y-%m-%d'),
        ' is scheduled for deletion')
      ELSE ' is in state ' || r.state
    END AS problem
  FROM listed_replica l
  LEFT JOIN keys r ON r.key_arn = l.replica_arn
  LEFT JOIN internal.key_listings s ON s.account_id = split_part(l.replica_arn, ':', 5)
    AND s.region = split_part(l.replica_arn, ':', 4)
), replica_counts AS (
  SELECT primary_arn, count(*) AS replicas, count(*) FILTER (NOT usable OR deleted) AS unusable,
    'Of ' || internal.counted(replicas, 'replica: ', 'replicas: ')
      || array_to_string(list_sort(list(problem) FILTER (usable IS NOT TRUE)), ', ') || '.'
      AS message
  FROM replica
  GROUP BY primary_arn
)
SELECT k.key_arn AS resource_arn, k.account_id, k.region, k.key_arn, k.stale_note AS note,
  CASE
    WHEN k.multi_region AND c.replicas IS NULL THEN not_applicable('The primary has no replicas.')
    WHEN k.manager IS NULL OR k.multi_region IS NULL THEN internal.undescribed(k.failure_causes)
    WHEN c.unusable > 0 THEN fail(c.message)
    WHEN c.message IS NOT NULL THEN unknown(c.message)
    WHEN c.unusable = 0 THEN pass(internal.counted(c.replicas, 'replica is usable.', 'replicas are usable.'))
  END AS verdict
FROM candidate k
LEFT JOIN replica_counts c ON c.primary_arn = k.key_arn

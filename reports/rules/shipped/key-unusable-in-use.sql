-- id: key-unusable-in-use
-- title: No key in use is disabled, unavailable or scheduled for deletion
-- severity: critical
-- family: state
-- why: >-
--   Data encrypted under an unusable key cannot be read, started or restored, and after the key is deleted, it is lost
--   permanently. An RDS database with an unusable key remains recoverable for seven days; after that, it can only be
--   restored from a backup.
-- fix: >-
--   If deletion is scheduled, cancel it, which leaves the key disabled; then enable it, like any disabled key. Reimport
--   expired material; reconnect the custom key store if the key is unavailable. Start an RDS database in status
--   inaccessible-encryption-credentials-recoverable within seven days (`aws rds start-db-instance`,
--   `start-db-cluster`). To retire a key, first move everything listed in the reason to another key. A deleted key
--   cannot be recovered: restore from copies encrypted with another key.
-- console: >-
--   In KMS, "Customer managed keys", select the key and choose "Key actions", "Cancel key deletion", then "Key actions",
--   "Enable".
-- cli: |-
--   aws kms cancel-key-deletion --key-id KEY_ARN
--   aws kms enable-key --key-id KEY_ARN
-- terraform: >-
--   In the aws_kms_key resource, set is_enabled = true. Terraform cannot cancel a scheduled deletion: cancel it first,
--   then import the key into the state again.
WITH usable AS (
  -- Usable keys are excluded early, because they are nearly all keys.
  SELECT key_arn FROM keys WHERE state IN ('Enabled', 'Creating', 'Updating')
), unusable_key_use AS (
  SELECT u.key_arn, count(DISTINCT u.resource_arn) AS resources,
    list_sort(list(DISTINCT u.service || ' ' || u.resource_name)) AS names,
    bool_or(u.key_class = 'dangling') AS dangling
  FROM resource_keys u
  ANTI JOIN usable k ON k.key_arn = u.key_arn
  WHERE u.key_arn IS NOT NULL
  GROUP BY u.key_arn
), inaccessible_resource AS (
  -- The date is that of the run that first saw the status, which may have started earlier.
  SELECT resource_arn, name, status, min(valid_from_at) AS first_seen_at
  FROM (
    SELECT s.resource_arn, s.name, s.status, h.valid_from_at,
      max(h.valid_to_at) FILTER (h.status IS DISTINCT FROM s.status) OVER (PARTITION BY s.resource_arn) AS last_other_status_at
    FROM resources s
    JOIN resources_history h ON h.resource_arn = s.resource_arn
    WHERE starts_with(s.status, 'inaccessible-encryption-credentials')
  )
  WHERE last_other_status_at IS NULL OR valid_from_at >= last_other_status_at
  GROUP BY ALL
), inaccessible AS (
  -- The reason contains no remaining days and has a stable order: a reason that changes every run would create a new
  -- finding every run.
  SELECT u.key_arn, array_to_string(list_sort(list(
    DISTINCT s.name || ' is ' || s.status || ', first seen on ' || strftime(s.first_seen_at, '%Y-%m-%d')
      || CASE WHEN s.status LIKE '%-recoverable'
        THEN ': recoverable for seven days, until ' || strftime(s.first_seen_at + INTERVAL 7 DAY, '%Y-%m-%d') || ' at the latest'
        ELSE ': it can only be restored from a backup' END
    )), '; ') AS message
  FROM inaccessible_resource s
  JOIN resource_keys u ON u.resource_arn = s.resource_arn AND u.key_arn IS NOT NULL
  GROUP BY u.key_arn
), candidate AS (
  SELECT key_arn, account_id, region, manager, state, grants, deletion_date, material_expires_at, 0 AS resources,
    CAST([] AS VARCHAR[]) AS names, failure_causes, freshness, false AS deleted, CAST(NULL AS VARCHAR) AS unread_uses
  FROM keys
  WHERE state IS NULL OR state IN ('Enabled', 'Creating', 'Updating')
  UNION ALL
  SELECT k.key_arn, k.account_id, k.region, k.manager, k.state, k.grants, k.deletion_date, k.material_expires_at,
    coalesce(u.resources, 0), u.names, k.failure_causes, k.freshness, false, n.unread_uses
  FROM keys k
  LEFT JOIN unusable_key_use u ON u.key_arn = k.key_arn
  LEFT JOIN internal.key_unknowns n ON n.key_arn = k.key_arn
  WHERE k.state NOT IN ('Enabled', 'Creating', 'Updating')
  UNION ALL
  SELECT u.key_arn, split_part(u.key_arn, ':', 5), split_part(u.key_arn, ':', 4), NULL, NULL, 0, NULL, NULL,
    u.resources, u.names, NULL, 'current', true, NULL
  FROM unusable_key_use u
  WHERE u.dangling AND NOT EXISTS (FROM keys k WHERE k.key_arn = u.key_arn)
), described AS (
  SELECT *,
    CASE
      WHEN deleted THEN 'The key no longer exists.'
      WHEN state = 'PendingDeletion' THEN coalesce('The key will be deleted on ' || strftime(deletion_date, '%Y-%m-%d'),
        'The key is scheduled for deletion') || '.'
      WHEN state = 'PendingReplicaDeletion' THEN 'The key will be deleted after its replicas are deleted.'
      WHEN state = 'PendingImport' THEN 'The key has no material'
        || coalesce(': it expired on ' || strftime(material_expires_at, '%Y-%m-%d'), '') || '.'
      WHEN state = 'Unavailable' THEN 'The key is unavailable: its custom key store is not reachable.'
      ELSE 'The key is in state ' || state || '.'
    END AS state_text
  FROM candidate
)
SELECT key_arn AS resource_arn, account_id, region, key_arn,
  CASE
    WHEN manager = 'AWS' THEN not_applicable('AWS manages this key; it cannot be disabled or deleted.')
    WHEN state IN ('Enabled', 'Creating', 'Updating') THEN pass('The key can be used.')
    WHEN state IS NULL AND NOT deleted THEN unknown('The state of the key could not be read'
      || internal.because(failure_causes, ['kms:DescribeKey']) || '.')
    WHEN deleted OR resources > 0 OR grants > 0 THEN fail(state_text
      || CASE WHEN resources > 0 THEN ' ' || internal.counted(resources, 'resource uses it: ', 'resources use it: ')
        || array_to_string(names[1:5], ', ')
        || CASE WHEN resources > 5 THEN ' and ' || (resources - 5) || ' more' ELSE '' END || '.' ELSE '' END
      || CASE WHEN grants > 0 THEN ' It has ' || internal.counted(grants, 'grant.', 'grants.') ELSE '' END)
    WHEN unread_uses IS NOT NULL THEN unknown(state_text || ' ' || unread_uses)
    WHEN grants = 0 THEN pass(state_text || ' No crawled resource uses it, and it has no grants.')
  END AS verdict,
  coalesce(' ' || message || '.', '')
    || CASE WHEN freshness = 'stale' THEN ' This is the last known state.' ELSE '' END AS note
FROM described
LEFT JOIN inaccessible USING (key_arn)

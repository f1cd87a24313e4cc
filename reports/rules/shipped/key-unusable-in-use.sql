-- id: key-unusable-in-use
-- title: No key that is in use is disabled, unavailable or about to be deleted
-- severity: critical
-- family: state
-- why: >-
--   What is encrypted under a key that cannot be used cannot be read, started or restored, and once the key is deleted it
--   is lost for good. An RDS database whose key is unusable stays recoverable for seven days, and can only be restored from
--   a backup after that.
-- fix: >-
--   If deletion is scheduled, cancel it, which leaves the key disabled; then, as for any disabled key, enable it. Import the
--   material again if it expired; connect the custom key store again if the key is unavailable. Start an RDS database in
--   status inaccessible-encryption-credentials-recoverable within seven days (`aws rds start-db-instance`,
--   `start-db-cluster`). To retire a key, move everything in the reason to another key first. A key that is deleted cannot
--   be brought back: restore from copies under another key.
-- console: >-
--   In KMS, "Customer managed keys", select the key and choose "Key actions", "Cancel key deletion", then "Key actions",
--   "Enable".
-- cli: |-
--   aws kms cancel-key-deletion --key-id KEY_ARN
--   aws kms enable-key --key-id KEY_ARN
-- terraform: >-
--   In the resource aws_kms_key set is_enabled = true. A scheduled deletion cannot be cancelled with Terraform: cancel it
--   first, then import the key into the state again.
WITH usable AS (
  -- Who uses them is not asked: they are nearly all.
  SELECT key_arn FROM keys WHERE state IN ('Enabled', 'Creating', 'Updating')
), use_of AS (
  SELECT u.key_arn, count(DISTINCT u.resource_arn) AS resources,
    list_sort(list(DISTINCT u.service || ' ' || u.resource_name)) AS names,
    any_value(u.account_id) AS account_id, any_value(u.region) AS region,
    bool_or(u.key_class = 'dangling') AS dangling
  FROM resource_keys u
  ANTI JOIN usable k ON k.key_arn = u.key_arn
  WHERE u.key_arn IS NOT NULL
  GROUP BY u.key_arn
), different AS (
  SELECT s.resource_arn, max(h.valid_to_at) AS last_different
  FROM resources s
  JOIN resources_history h ON h.resource_arn = s.resource_arn AND h.status IS DISTINCT FROM s.status
  WHERE starts_with(s.status, 'inaccessible-encryption-credentials')
  GROUP BY s.resource_arn
), inaccessible AS (
  -- Days left are not counted here, and the order is always the same: a reason that differs every night would be a new
  -- finding every night.
  -- The day counts from the run that first saw the status: it can only have begun earlier.
  SELECT u.key_arn, array_to_string(list_sort(list(
    DISTINCT s.name || ' is ' || s.status || ', first seen on ' || strftime(b.seen_at, '%Y-%m-%d')
      || CASE WHEN s.status LIKE '%-recoverable'
        THEN ': recoverable for seven days, until ' || strftime(b.seen_at + INTERVAL 7 DAY, '%Y-%m-%d') || ' at the latest'
        ELSE ': it can only be restored from a backup' END
    )), '; ') AS message
  FROM resources s
  JOIN resource_keys u ON u.resource_arn = s.resource_arn AND u.key_arn IS NOT NULL
  JOIN (
    SELECT h.resource_arn, min(h.valid_from_at) AS seen_at
    FROM resources_history h
    LEFT JOIN different d USING (resource_arn)
    WHERE (d.last_different IS NULL OR h.valid_from_at >= d.last_different)
      AND h.resource_arn IN (
        SELECT resource_arn FROM resources WHERE starts_with(status, 'inaccessible-encryption-credentials')
      )
    GROUP BY h.resource_arn
  ) b ON b.resource_arn = s.resource_arn
  WHERE starts_with(s.status, 'inaccessible-encryption-credentials')
  GROUP BY u.key_arn
), considered AS (
  SELECT key_arn, account_id, region, manager, state, grants, deletion_date, material_expires_at, 0 AS resources,
    CAST([] AS VARCHAR[]) AS names, denied_actions, freshness, false AS gone, CAST([] AS VARCHAR[]) AS blind
  FROM keys
  WHERE state IS NULL OR state IN ('Enabled', 'Creating', 'Updating')
  UNION ALL
  SELECT k.key_arn, k.account_id, k.region, k.manager, k.state, k.grants, k.deletion_date, k.material_expires_at,
    coalesce(u.resources, 0), u.names, k.denied_actions, k.freshness, false, n.denied_resource_actions
  FROM keys k
  LEFT JOIN use_of u ON u.key_arn = k.key_arn
  LEFT JOIN internal.key_unknowns n ON n.key_arn = k.key_arn
  WHERE k.state NOT IN ('Enabled', 'Creating', 'Updating')
  UNION ALL
  SELECT u.key_arn, split_part(u.key_arn, ':', 5), split_part(u.key_arn, ':', 4), NULL, NULL, 0, NULL, NULL,
    u.resources, u.names, CAST([] AS VARCHAR[]), 'current', true, CAST([] AS VARCHAR[])
  FROM use_of u
  WHERE u.dangling AND NOT EXISTS (FROM keys k WHERE k.key_arn = u.key_arn)
)
SELECT
  key_arn AS resource_arn, account_id, region, key_arn,
  CASE
    WHEN manager = 'AWS' THEN 'not_applicable'
    WHEN NOT gone AND state IS NULL THEN 'unknown'
    WHEN NOT gone AND state NOT IN ('Enabled', 'Creating', 'Updating') AND resources = 0
      AND (grants IS NULL OR (grants = 0 AND len(blind) > 0)) THEN 'unknown'
    WHEN gone THEN 'fail'
    WHEN state NOT IN ('Enabled', 'Creating', 'Updating') AND (resources > 0 OR grants > 0) THEN 'fail'
    WHEN state NOT IN ('Enabled', 'Creating', 'Updating') AND resources = 0 AND grants = 0 THEN 'pass'
    WHEN state IN ('Enabled', 'Creating', 'Updating') THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN manager = 'AWS' THEN 'AWS manages this key: it can be neither disabled nor deleted.'
    WHEN NOT gone AND state IS NULL THEN 'The state of the key could not be read'
      || CASE WHEN len(denied_actions) > 0 THEN ' (denied: ' || array_to_string(denied_actions, ', ') || ')' ELSE '' END || '.'
    WHEN gone THEN 'The key no longer exists.'
    WHEN state IN ('Enabled', 'Creating', 'Updating') THEN 'The key can be used.'
    ELSE CASE state
        WHEN 'PendingDeletion' THEN coalesce('The key will be deleted on ' || strftime(deletion_date, '%Y-%m-%d'),
          'The key is scheduled for deletion') || '.'
        WHEN 'PendingReplicaDeletion' THEN 'The key will be deleted once its replicas are.'
        WHEN 'PendingImport' THEN 'The key has no material'
          || coalesce(': it expired on ' || strftime(material_expires_at, '%Y-%m-%d'), '') || '.'
        WHEN 'Unavailable' THEN 'The key is unavailable: its custom key store does not answer.'
        ELSE 'The key is in state ' || state || '.'
      END
      || CASE WHEN resources = 0 AND grants IS NULL
        THEN ' No crawled resource uses it, but its grants could not be read.' ELSE '' END
      || CASE WHEN resources = 0 AND grants = 0 AND len(blind) > 0
        THEN ' No crawled resource uses it, but some listings were denied: ' || array_to_string(blind, ', ') || '.'
        WHEN resources = 0 AND grants = 0 THEN ' No crawled resource uses it, and it has no grants.' ELSE '' END
  END
    || CASE WHEN coalesce(manager, '') <> 'AWS' AND (gone OR state NOT IN ('Enabled', 'Creating', 'Updating')) THEN
      CASE WHEN resources > 0 THEN ' ' || resources || ' resource(s) use it: ' || array_to_string(names[1:5], ', ')
        || CASE WHEN resources > 5 THEN ' and ' || (resources - 5) || ' more' ELSE '' END || '.' ELSE '' END
      || CASE WHEN grants > 0 THEN ' It has ' || grants || ' grant(s).' ELSE '' END
    ELSE '' END
    || coalesce(' ' || message || '.', '')
    || CASE WHEN freshness <> 'current' AND len(denied_actions) = 0 THEN ' This is the last known state.' ELSE '' END AS reason
FROM considered c
LEFT JOIN inaccessible i USING (key_arn)

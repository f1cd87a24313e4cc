-- Created and deleted keys.
INSERT INTO stage
SELECT v.valid_from, v.account_id, v.region, v.key_arn, NULL, NULL, 'key_created', 'info', 'Key ',
  CASE WHEN v.valid_from = k.first_seen_run THEN ' was created.' ELSE ' is listed again.' END, true, NULL, NULL, NULL, NULL
FROM internal.key v
JOIN known_key k ON k.key_arn = v.key_arn
WHERE v.valid_from > k.crawled_from AND v.valid_to IS DISTINCT FROM v.valid_from
  AND NOT EXISTS (
    FROM first_listed l WHERE l.account_id = v.account_id AND l.region = v.region AND l.operation = 'ListKeys'
      AND l.run_id = v.valid_from
  );
INSERT INTO stage
SELECT e.run_id, k.account_id, k.region, e.key_arn, NULL, NULL, 'key_gone', severity_of('key-unusable-in-use'), 'Key ',
  ' no longer exists.', true, NULL, NULL, NULL, NULL
FROM key_ends e
JOIN known_key k ON k.key_arn = e.key_arn
WHERE NOT EXISTS (FROM key_begins b WHERE b.key_arn = e.key_arn AND b.run_id = e.run_id);

-- State and the other metadata.
CREATE TEMP TABLE metadata_pair AS
SELECT n.valid_from AS run_id, k.account_id, k.region, n.key_arn, o.state AS old_state, n.state AS new_state,
  o.deletion_date AS old_date, n.deletion_date AS new_date,
  list_filter([
    {'name': 'description', 'old': o.description, 'new': n.description},
    {'name': 'material expiry', 'old': CAST(o.material_expires_at AS VARCHAR), 'new': CAST(n.material_expires_at AS VARCHAR)},
    {'name': 'expiration model', 'old': o.expiration_model, 'new': n.expiration_model},
    {'name': 'multi-Region type', 'old': o.multi_region_type, 'new': n.multi_region_type},
    {'name': 'primary', 'old': o.primary_arn, 'new': n.primary_arn},
    {'name': 'replicas', 'old': o.replica_arns, 'new': n.replica_arns},
    {'name': 'custom key store', 'old': o.custom_key_store_id, 'new': n.custom_key_store_id},
    {'name': 'usage', 'old': o.key_usage, 'new': n.key_usage}
  ], lambda field: field.old IS DISTINCT FROM field.new) AS fields
FROM internal.key_metadata n
JOIN internal.key_metadata o ON o.key_arn = n.key_arn AND o.valid_to = n.valid_from AND o.valid_from < n.valid_from
JOIN known_key k ON k.key_arn = n.key_arn
WHERE n.valid_to IS DISTINCT FROM n.valid_from;

INSERT INTO stage
SELECT run_id, account_id, region, key_arn, NULL, NULL,
  CASE
    WHEN new_state IN ('PendingDeletion', 'PendingReplicaDeletion') THEN 'deletion_scheduled'
    WHEN old_state IN ('PendingDeletion', 'PendingReplicaDeletion') THEN 'deletion_cancelled'
    ELSE 'key_state'
  END,
  CASE
    WHEN new_state IN ('PendingDeletion', 'PendingReplicaDeletion') THEN severity_of('key-pending-deletion')
    WHEN old_state IN ('PendingDeletion', 'PendingReplicaDeletion') THEN 'medium'
    WHEN new_state IN ('Enabled', 'Creating', 'Updating') THEN 'low'
    ELSE severity_of('key-unusable-in-use')
  END,
  CASE WHEN old_state IN ('PendingDeletion', 'PendingReplicaDeletion')
    AND new_state NOT IN ('PendingDeletion', 'PendingReplicaDeletion') THEN 'The deletion of key ' ELSE 'Key ' END,
  CASE
    WHEN new_state = 'PendingReplicaDeletion' THEN ' was scheduled for deletion after its replicas.'
    WHEN new_state = 'PendingDeletion' THEN ' was scheduled for deletion' || coalesce(' on ' || day(new_date), '') || '.'
    WHEN old_state IN ('PendingDeletion', 'PendingReplicaDeletion') THEN ' was cancelled; its state is now ' || new_state || '.'
    ELSE ' is now in state ' || coalesce(new_state, 'unknown') || ' (was ' || coalesce(old_state, 'unknown') || ').'
  END,
  true,
  old_state || coalesce(', ' || day(old_date), ''), new_state || coalesce(', ' || day(new_date), ''), NULL, NULL
FROM metadata_pair
WHERE old_state IS DISTINCT FROM new_state
  OR (new_state = 'PendingDeletion' AND old_date IS DISTINCT FROM new_date);

INSERT INTO stage
SELECT run_id, account_id, region, key_arn, NULL, NULL, 'metadata_changed', 'low', 'Key ',
  ' changed: ' || array_to_string(list_transform(fields, lambda field: field.name), ', ') || '.', false,
  array_to_string(list_transform(fields, lambda field: field.name || ': ' || coalesce(field.old, '-')), '; '),
  array_to_string(list_transform(fields, lambda field: field.name || ': ' || coalesce(field.new, '-')), '; '), NULL, NULL
FROM metadata_pair
WHERE len(fields) > 0;

-- Rotation.
INSERT INTO stage
SELECT n.valid_from, k.account_id, k.region, n.key_arn, NULL, NULL, 'rotation_changed',
  CASE WHEN n.status = 'disabled' THEN severity_of('key-rotation') ELSE 'info' END,
  CASE WHEN n.status <> o.status THEN 'Automatic rotation of key ' ELSE 'The rotation period of key ' END,
  CASE
    WHEN n.status <> o.status AND n.status = 'not_applicable' THEN ' no longer applies.'
    WHEN n.status <> o.status THEN ' was ' || n.status || '.'
    ELSE ' is now ' || coalesce(n.period_days || ' days', 'not set') || coalesce(' (was ' || o.period_days || ')', '') || '.'
  END,
  false,
  o.status || coalesce(', every ' || o.period_days || ' days', ''),
  n.status || coalesce(', every ' || n.period_days || ' days', ''), NULL, NULL
FROM internal.key_rotation n
JOIN internal.key_rotation o ON o.key_arn = n.key_arn AND o.valid_to = n.valid_from AND o.valid_from < n.valid_from
JOIN known_key k ON k.key_arn = n.key_arn
WHERE n.valid_to IS DISTINCT FROM n.valid_from
  AND (n.status <> o.status OR n.period_days IS DISTINCT FROM o.period_days);

-- Aliases, except those created or deleted together with their key.
INSERT INTO stage
SELECT n.valid_from, n.account_id, n.region, coalesce(n.target_key_arn, o.target_key_arn), NULL, n.alias_name,
  CASE WHEN o.alias_arn IS NULL THEN 'alias_created' ELSE 'alias_moved' END,
  CASE WHEN o.alias_arn IS NULL THEN 'low' ELSE severity_of('alias-moved') END,
  'Alias ',
  CASE
    WHEN o.alias_arn IS NULL THEN ' was created' || coalesce(' for key ' || id_of(n.target_key_arn), '') || '.'
    ELSE ' moved from ' || coalesce('key ' || id_of(o.target_key_arn), 'no key') || ' to '
      || coalesce('key ' || id_of(n.target_key_arn), 'no key') || '.'
  END,
  false, o.target_key_arn, n.target_key_arn, NULL, NULL
FROM internal.alias n
JOIN first_crawl f ON f.account_id = n.account_id AND f.region = n.region
LEFT JOIN internal.alias o ON o.alias_arn = n.alias_arn AND o.valid_to = n.valid_from AND o.valid_from < n.valid_from
WHERE n.valid_to IS DISTINCT FROM n.valid_from AND n.valid_from > f.run_id
  AND CASE WHEN o.alias_arn IS NULL
    THEN NOT EXISTS (FROM key_begins b WHERE b.key_arn = n.target_key_arn AND b.run_id = n.valid_from)
      AND NOT EXISTS (
        FROM first_listed l WHERE l.account_id = n.account_id AND l.region = n.region AND l.operation = 'ListAliases'
          AND l.run_id = n.valid_from
      )
    ELSE o.target_key_arn IS DISTINCT FROM n.target_key_arn END;
INSERT INTO stage
SELECT o.valid_to, o.account_id, o.region, o.target_key_arn, NULL, o.alias_name, 'alias_removed', severity_of('alias-target-missing'),
  'Alias ',
  coalesce(' of key ' || id_of(o.target_key_arn), '') || ' was removed.', false, o.target_key_arn, NULL, NULL, NULL
FROM internal.alias o
WHERE o.valid_to IS NOT NULL AND o.valid_to <> o.valid_from
  AND NOT EXISTS (
    FROM internal.alias n WHERE n.alias_arn = o.alias_arn AND n.valid_from = o.valid_to
      AND n.valid_to IS DISTINCT FROM n.valid_from
  )
  AND NOT EXISTS (FROM key_ends e WHERE e.key_arn = o.target_key_arn AND e.run_id = o.valid_to)

-- id: cache-encrypted
-- title: Caches are encrypted at rest
-- severity: medium
-- family: caches
-- why: >-
--   Caches write to disk when they make backups, synchronize replicas or swap, and what is in them is often what was
--   worth encrypting in the database: sessions, tokens, personal data.
-- fix: >-
--   Encryption and key of an existing cache cannot be changed: take a backup, restore it to a new replication group
--   with encryption and the key, and move the applications to its endpoint. Keys of caches cannot be exchanged behind
--   an alias either: the cache stays with the key that it began with. A single Redis node has to become a replication
--   group for it.
-- console: >-
--   In ElastiCache choose the cache, "Actions", "Backup"; on the backup choose "Restore" with encryption at rest and
--   the key.
-- cli: |-
--   aws elasticache create-snapshot --replication-group-id GROUP --snapshot-name BEFORE
--   aws elasticache create-replication-group --replication-group-id NEW_GROUP \
--     --replication-group-description TEXT --snapshot-name BEFORE --at-rest-encryption-enabled --kms-key-id KEY_ARN
-- terraform: >-
--   Set at_rest_encryption_enabled = true and kms_key_id in aws_elasticache_replication_group: it is replaced, so
--   restore with snapshot_name.
SELECT resource_arn, account_id, region, key_arn,
  CASE WHEN not_applicable_reason IS NOT NULL THEN 'not_applicable' WHEN encrypted = false THEN 'fail'
    WHEN encrypted = true THEN 'pass' ELSE 'unknown' END AS status,
  coalesce(not_applicable_reason, encrypted_reason) || stale_note AS reason
FROM resource_encryption
WHERE resource_type IN ('AWS::ElastiCache::ReplicationGroup', 'AWS::ElastiCache::CacheCluster') AND role = 'storage'

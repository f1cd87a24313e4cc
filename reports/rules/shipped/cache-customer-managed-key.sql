-- id: cache-customer-managed-key
-- title: Caches are encrypted with a customer managed key
-- severity: low
-- family: caches
-- why: >-
--   A cache that names no key is encrypted with a key that AWS owns: it appears in no account, nobody can withdraw it,
--   and its use is not recorded. A key of your own makes the copy of your data in the cache as controllable as the data
--   in the database.
-- fix: >-
--   Encryption and key of an existing cache cannot be changed: take a backup, restore it to a new replication group
--   with encryption and the key, and move the applications to its endpoint. Keys of caches cannot be exchanged behind
--   an alias either: the cache stays with the key that it began with.
-- console: >-
--   In ElastiCache choose the cache, "Actions", "Backup"; on the backup choose "Restore" with encryption at rest and
--   the key.
-- cli: |-
--   aws elasticache create-snapshot --replication-group-id GROUP --snapshot-name BEFORE
--   aws elasticache create-replication-group --replication-group-id NEW_GROUP \
--     --replication-group-description TEXT --snapshot-name BEFORE --at-rest-encryption-enabled --kms-key-id KEY_ARN
-- terraform: >-
--   Set kms_key_id in aws_elasticache_replication_group: it is replaced, so restore with snapshot_name.
SELECT resource_arn, account_id, region, key_arn,
  CASE WHEN not_applicable_reason IS NOT NULL THEN 'not_applicable' WHEN customer_managed = false THEN 'fail'
    WHEN customer_managed = true THEN 'pass' ELSE 'unknown' END AS status,
  coalesce(not_applicable_reason, customer_managed_reason) || stale_note AS reason
FROM resource_encryption
WHERE resource_type IN ('AWS::ElastiCache::ReplicationGroup', 'AWS::ElastiCache::CacheCluster') AND role = 'storage'

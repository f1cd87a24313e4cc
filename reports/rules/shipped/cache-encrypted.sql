-- id: cache-encrypted
-- title: Caches are encrypted at rest
-- severity: medium
-- family: caches
-- why: >-
--   Caches write to disk when they create backups, synchronize replicas or swap. Their content is often the most
--   sensitive part of the database: sessions, tokens, personal data.
-- fix: >-
--   The encryption and key of an existing cache cannot be changed. Take a backup, restore it to a new replication group
--   with encryption and the key, and switch the applications to its endpoint. Pointing an alias to another key has no
--   effect either: the cache keeps the key it was created with. A single Redis node must become a replication group
--   first.
-- console: >-
--   In ElastiCache, choose the cache, "Actions", "Backup"; on the backup, choose "Restore" with encryption at rest and
--   the key.
-- cli: |-
--   aws elasticache create-snapshot --replication-group-id GROUP --snapshot-name BEFORE
--   aws elasticache create-replication-group --replication-group-id NEW_GROUP \
--     --replication-group-description TEXT --snapshot-name BEFORE --at-rest-encryption-enabled --kms-key-id KEY_ARN
-- terraform: >-
--   Set at_rest_encryption_enabled = true and kms_key_id in aws_elasticache_replication_group. Terraform replaces the
--   cache, so restore it with snapshot_name.
SELECT resource_arn, account_id, region, key_arn, stale_note AS note,
  CASE
    WHEN not_applicable_reason IS NOT NULL THEN not_applicable(not_applicable_reason)
    ELSE verdict_of(encrypted, encrypted_reason)
  END AS verdict
FROM resource_encryption
WHERE resource_type IN ('AWS::ElastiCache::ReplicationGroup', 'AWS::ElastiCache::CacheCluster') AND role = 'storage'

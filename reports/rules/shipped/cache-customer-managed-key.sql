-- id: cache-customer-managed-key
-- title: Caches are encrypted with a customer managed key
-- severity: low
-- family: caches
-- why: >-
--   A cache created without a key is encrypted with an AWS owned key: the key is not visible in any account, cannot be
--   revoked, and its use is not recorded. A customer managed key gives the cached copy of your data the same protection
--   as the data in the database.
-- fix: >-
--   The encryption and key of an existing cache cannot be changed. Take a backup, restore it to a new replication group
--   with encryption and the key, and switch the applications to its endpoint. Pointing an alias to another key has no
--   effect either: the cache keeps the key it was created with.
-- console: >-
--   In ElastiCache, choose the cache, "Actions", "Backup"; on the backup, choose "Restore" with encryption at rest and
--   the key.
-- cli: |-
--   aws elasticache create-snapshot --replication-group-id GROUP --snapshot-name BEFORE
--   aws elasticache create-replication-group --replication-group-id NEW_GROUP \
--     --replication-group-description TEXT --snapshot-name BEFORE --at-rest-encryption-enabled --kms-key-id KEY_ARN
-- terraform: >-
--   Set kms_key_id in aws_elasticache_replication_group. Terraform replaces the cache, so restore it with
--   snapshot_name.
SELECT resource_arn, account_id, region, key_arn, stale_note AS note,
  CASE
    WHEN not_applicable_reason IS NOT NULL THEN not_applicable(not_applicable_reason)
    ELSE verdict_of(customer_managed, customer_managed_reason)
  END AS verdict
FROM resource_encryption
WHERE resource_type IN ('AWS::ElastiCache::ReplicationGroup', 'AWS::ElastiCache::CacheCluster') AND role = 'storage'

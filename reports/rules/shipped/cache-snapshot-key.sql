-- id: cache-snapshot-key
-- title: Cache snapshots are encrypted with a customer managed key
-- severity: low
-- family: caches
-- why: >-
--   A snapshot is the content of the cache as a file that can be exported to a bucket or restored elsewhere. Its key
--   decides who can do that; without a customer managed key, IAM is the only control.
-- fix: >-
--   Copy the snapshot with the key and delete the original. Snapshots of a cache with a customer managed key use that
--   key automatically. If ElastiCache does not report how a snapshot is encrypted, the result remains unknown; check
--   the source cache.
-- console: >-
--   In ElastiCache, "Backups", choose the backup, "Actions", "Copy", and choose the key.
-- cli: >-
--   aws elasticache copy-snapshot --source-snapshot-name SNAPSHOT --target-snapshot-name COPY --kms-key-id KEY_ARN
-- terraform: >-
--   Terraform has no resource for individual snapshots. Set kms_key_id in aws_elasticache_replication_group or
--   aws_elasticache_serverless_cache; their snapshots use the same key.
SELECT resource_arn, account_id, region, key_arn, stale_note AS note,
  verdict_of(customer_managed, customer_managed_reason) AS verdict
FROM resource_encryption
WHERE resource_type IN ('AWS::ElastiCache::Snapshot', 'AWS::ElastiCache::ServerlessCacheSnapshot') AND role = 'storage'

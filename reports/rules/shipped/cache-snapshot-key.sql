-- id: cache-snapshot-key
-- title: Snapshots of caches are encrypted with a customer managed key
-- severity: low
-- family: caches
-- why: >-
--   A snapshot is the content of the cache as a file that can be exported to a bucket or restored elsewhere. Its key
--   decides who can do so; without a key of your own only IAM does.
-- fix: >-
--   Copy the snapshot with the key and delete the first one. Snapshots taken from a cache under a customer managed key
--   have that key by themselves. Where ElastiCache does not say how a snapshot is encrypted, the answer stays unknown:
--   look at the cache that it was taken from.
-- console: >-
--   In ElastiCache, "Backups", choose the backup, "Actions", "Copy", and choose the key.
-- cli: >-
--   aws elasticache copy-snapshot --source-snapshot-name SNAPSHOT --target-snapshot-name COPY --kms-key-id KEY_ARN
-- terraform: >-
--   Terraform has no resource for single snapshots; set kms_key_id in aws_elasticache_replication_group or
--   aws_elasticache_serverless_cache, whose snapshots follow it.
SELECT resource_arn, account_id, region, key_arn,
  CASE customer_managed WHEN false THEN 'fail' WHEN true THEN 'pass' ELSE 'unknown' END AS status,
  customer_managed_reason || stale_note AS reason
FROM resource_encryption
WHERE resource_type IN ('AWS::ElastiCache::Snapshot', 'AWS::ElastiCache::ServerlessCacheSnapshot') AND role = 'storage'

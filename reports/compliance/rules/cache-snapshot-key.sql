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
WITH used AS (
  -- One row a resource; the role is unknown where the resource did not tell its key.
  SELECT * FROM key_usage
  WHERE resource_type IN ('AWS::ElastiCache::Snapshot', 'AWS::ElastiCache::ServerlessCacheSnapshot')
    AND role IN ('storage', 'unknown')
  QUALIFY row_number() OVER (PARTITION BY resource_arn ORDER BY position) = 1
)
SELECT
  s.resource_arn, s.account_id, s.region, u.key_arn,
  CASE
    WHEN u.key_class IS NULL OR u.key_class IN ('unknown', 'not_crawled') THEN 'unknown'
    WHEN u.key_class IN ('none', 'aws_owned', 'aws_managed', 'dangling') THEN 'fail'
    WHEN u.key_class = 'customer' THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN u.key_class IS NULL THEN 'The key of this snapshot is not known: the crawl has no answer for it.'
    WHEN u.key_class = 'unknown'
      THEN 'The key of this snapshot is not known: ' || coalesce(u.reason, 'no reason was given') || '.'
    WHEN u.key_class = 'not_crawled' THEN 'The key ' || coalesce(u.key_arn, u.raw, 'of this snapshot')
      || ' is in an account or region that was not crawled, so it is not known who manages it.'
    WHEN u.key_class = 'none' THEN 'It is not encrypted with a KMS key.'
    WHEN u.key_class = 'aws_owned'
      THEN 'A key that AWS owns encrypts it' || coalesce(' (' || s.encryption || ')', '') || '.'
    WHEN u.key_class = 'aws_managed'
      THEN 'The AWS managed key ' || coalesce(u.key_alias, u.raw, u.key_arn, 'of the service') || ' encrypts it.'
    WHEN u.key_class = 'dangling'
      THEN 'The key ' || coalesce(u.key_alias, u.key_arn, u.raw, 'of this snapshot') || ' no longer exists.'
    WHEN u.key_class = 'customer'
      THEN 'The customer managed key ' || coalesce(u.key_alias, u.key_arn, u.raw, '') || ' encrypts it.'
    ELSE 'Its key is of class ' || u.key_class || ', which this rule does not know.'
  END || CASE WHEN s.known <> 'yes' THEN ' This is the last known state.' ELSE '' END AS reason
FROM resources s
LEFT JOIN used u ON u.resource_arn = s.resource_arn
WHERE s.resource_type IN ('AWS::ElastiCache::Snapshot', 'AWS::ElastiCache::ServerlessCacheSnapshot')

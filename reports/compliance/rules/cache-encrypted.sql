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
WITH used AS (
  -- One row a resource; the role is unknown where the resource did not tell its key.
  SELECT * FROM key_usage
  WHERE resource_type IN ('AWS::ElastiCache::ReplicationGroup', 'AWS::ElastiCache::CacheCluster')
    AND role IN ('storage', 'unknown')
  QUALIFY row_number() OVER (PARTITION BY resource_arn ORDER BY position) = 1
)
SELECT
  s.resource_arn, s.account_id, s.region, u.key_arn,
  CASE
    WHEN s.resource_type = 'AWS::ElastiCache::CacheCluster' AND (s.details ->> 'engine') = 'memcached'
      THEN 'not_applicable'
    WHEN u.raw IS NULL AND s.encryption IS NULL AND coalesce(u.key_class, 'unknown') = 'unknown' THEN 'unknown'
    WHEN u.raw IS NULL AND coalesce(s.encryption, u.key_class) IN ('none', 'false') THEN 'fail'
    WHEN u.raw IS NOT NULL OR s.encryption IN ('true', 'sse-kms', 'sse-rds', 'sse-elasticache') THEN 'pass'
    WHEN u.key_class IN ('customer', 'aws_managed', 'aws_owned', 'not_crawled', 'dangling') THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN s.resource_type = 'AWS::ElastiCache::CacheCluster' AND (s.details ->> 'engine') = 'memcached'
      THEN 'Memcached clusters with nodes keep nothing at rest that could be encrypted.'
    WHEN u.raw IS NULL AND s.encryption IS NULL AND u.key_class IS NULL
      THEN 'It is not known whether it is encrypted: the crawl has no answer for it.'
    WHEN u.raw IS NULL AND s.encryption IS NULL AND u.key_class = 'unknown'
      THEN 'It is not known whether it is encrypted: '
      || coalesce(u.reason, 'no reason was given') || '.'
    WHEN u.raw IS NULL AND coalesce(s.encryption, u.key_class) IN ('none', 'false') THEN 'It is not encrypted at rest.'
    WHEN u.key_class = 'aws_owned' OR s.encryption = 'sse-rds' THEN 'It is encrypted with a key that AWS owns.'
    WHEN u.key_class = 'dangling'
      THEN 'It is encrypted, with the key ' || coalesce(u.key_alias, u.key_arn, u.raw, '') || ' that no longer exists.'
    WHEN u.key_class IS NOT NULL OR s.encryption IN ('true', 'sse-kms', 'sse-elasticache')
      THEN 'It is encrypted with ' || coalesce(u.key_alias, u.key_arn, u.raw, 'a key of the service') || '.'
    ELSE 'What the service says of its encryption is not known to this rule: ' || coalesce(s.encryption, 'nothing')
      || '.'
  END || CASE WHEN s.known <> 'yes' THEN ' This is the last known state.' ELSE '' END AS reason
FROM resources s
LEFT JOIN used u ON u.resource_arn = s.resource_arn
WHERE s.resource_type IN ('AWS::ElastiCache::ReplicationGroup', 'AWS::ElastiCache::CacheCluster')

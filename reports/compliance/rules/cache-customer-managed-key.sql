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
    WHEN u.key_class IS NULL OR u.key_class IN ('unknown', 'not_crawled') THEN 'unknown'
    WHEN u.key_class IN ('none', 'aws_owned', 'aws_managed', 'dangling') THEN 'fail'
    WHEN u.key_class = 'customer' THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN s.resource_type = 'AWS::ElastiCache::CacheCluster' AND (s.details ->> 'engine') = 'memcached'
      THEN 'Memcached clusters with nodes keep nothing at rest that could be encrypted.'
    WHEN u.key_class IS NULL THEN 'The key of its storage is not known: the crawl has no answer for it.'
    WHEN u.key_class = 'unknown'
      THEN 'The key of its storage is not known: ' || coalesce(u.reason, 'no reason was given') || '.'
    WHEN u.key_class = 'not_crawled' THEN 'The key ' || coalesce(u.key_arn, u.raw, 'of its storage')
      || ' is in an account or region that was not crawled, so it is not known who manages it.'
    WHEN u.key_class = 'none' THEN 'It is not encrypted with a KMS key.'
    WHEN u.key_class = 'aws_owned'
      THEN 'A key that AWS owns encrypts it' || coalesce(' (' || s.encryption || ')', '') || '.'
    WHEN u.key_class = 'aws_managed'
      THEN 'The AWS managed key ' || coalesce(u.key_alias, u.raw, u.key_arn, 'of the service') || ' encrypts it.'
    WHEN u.key_class = 'dangling'
      THEN 'The key ' || coalesce(u.key_alias, u.key_arn, u.raw, 'of its storage') || ' no longer exists.'
    WHEN u.key_class = 'customer'
      THEN 'The customer managed key ' || coalesce(u.key_alias, u.key_arn, u.raw, '') || ' encrypts it.'
    ELSE 'Its key is of class ' || u.key_class || ', which this rule does not know.'
  END || CASE WHEN s.known <> 'yes' THEN ' This is the last known state.' ELSE '' END AS reason
FROM resources s
LEFT JOIN used u ON u.resource_arn = s.resource_arn
WHERE s.resource_type IN ('AWS::ElastiCache::ReplicationGroup', 'AWS::ElastiCache::CacheCluster')

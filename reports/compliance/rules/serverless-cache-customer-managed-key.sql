-- id: serverless-cache-customer-managed-key
-- title: Serverless caches are encrypted with a customer managed key
-- severity: low
-- family: caches
-- why: >-
--   Serverless caches are always encrypted, but with a key that AWS owns unless one is named. Such a key cannot be
--   seen, audited or withdrawn.
-- fix: >-
--   The key is chosen when the cache is made. Take a snapshot, create a new serverless cache from it with the key, and
--   move the applications to its endpoint.
-- console: >-
--   In ElastiCache choose the cache, "Actions", "Backup"; on the backup choose "Restore" and the customer managed key.
-- cli: |-
--   aws elasticache create-serverless-cache-snapshot --serverless-cache-name CACHE \
--     --serverless-cache-snapshot-name BEFORE
--   aws elasticache create-serverless-cache --serverless-cache-name NEW_CACHE --engine ENGINE \
--     --snapshot-arns-to-restore SNAPSHOT_ARN --kms-key-id KEY_ARN
-- terraform: >-
--   Set kms_key_id in aws_elasticache_serverless_cache: it is replaced, so restore with snapshot_arns_to_restore.
WITH used AS (
  -- One row a resource; the role is unknown where the resource did not tell its key.
  SELECT * FROM key_usage
  WHERE resource_type IN ('AWS::ElastiCache::ServerlessCache') AND role IN ('storage', 'unknown')
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
WHERE s.resource_type IN ('AWS::ElastiCache::ServerlessCache')

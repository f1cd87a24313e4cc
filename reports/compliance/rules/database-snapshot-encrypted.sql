-- id: database-snapshot-encrypted
-- title: Database snapshots are encrypted
-- severity: high
-- family: databases
-- why: >-
--   A snapshot is the whole database in one piece that can be copied and shared with a click. Unencrypted, nothing but
--   its sharing settings protects it, and those are easily changed.
-- fix: >-
--   Copy the snapshot with a key and delete the unencrypted one after restoring from the copy was tried. Encrypt the
--   database it comes from, or the next snapshot is unencrypted again.
-- console: >-
--   In RDS, "Snapshots", choose the snapshot, "Actions", "Copy snapshot", tick "Enable encryption" and choose the key.
-- cli: |-
--   aws rds copy-db-snapshot --source-db-snapshot-identifier SNAPSHOT --target-db-snapshot-identifier COPY \
--     --kms-key-id KEY_ARN
--   aws rds delete-db-snapshot --db-snapshot-identifier SNAPSHOT
-- terraform: >-
--   Add a resource aws_db_snapshot_copy with source_db_snapshot_identifier and kms_key_id
--   (aws_rds_cluster_snapshot_copy for clusters).
WITH used AS (
  -- One row a resource; the role is unknown where the resource did not tell its key.
  SELECT * FROM key_usage
  WHERE resource_type IN ('AWS::RDS::DBSnapshot', 'AWS::RDS::DBClusterSnapshot') AND role IN ('storage', 'unknown')
  QUALIFY row_number() OVER (PARTITION BY resource_arn ORDER BY position) = 1
)
SELECT
  s.resource_arn, s.account_id, s.region, u.key_arn,
  CASE
    WHEN u.raw IS NULL AND s.encryption IS NULL AND coalesce(u.key_class, 'unknown') = 'unknown' THEN 'unknown'
    WHEN u.raw IS NULL AND coalesce(s.encryption, u.key_class) IN ('none', 'false') THEN 'fail'
    WHEN u.raw IS NOT NULL OR s.encryption IN ('true', 'sse-kms', 'sse-rds', 'sse-elasticache') THEN 'pass'
    WHEN u.key_class IN ('customer', 'aws_managed', 'aws_owned', 'not_crawled', 'dangling') THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
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
WHERE s.resource_type IN ('AWS::RDS::DBSnapshot', 'AWS::RDS::DBClusterSnapshot')

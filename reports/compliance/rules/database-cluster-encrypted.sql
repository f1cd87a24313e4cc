-- id: database-cluster-encrypted
-- title: Database clusters are encrypted at rest
-- severity: high
-- family: databases
-- why: >-
--   All instances of a cluster share its storage: if that is not encrypted, neither are they, nor any snapshot or
--   clone. New Aurora clusters are always encrypted, older ones and Multi-AZ clusters may not be.
-- fix: >-
--   Encryption is chosen when a cluster is made. An existing cluster cannot be given another key in place: take a
--   snapshot, copy it with the key, restore from the copy, and move the applications to the new endpoint; plan a stop
--   of writes, and keep the old cluster until the new one is proved.
-- console: >-
--   In RDS open the cluster, choose "Actions", "Take snapshot"; on the snapshot choose "Copy snapshot" with encryption
--   and the key, then "Restore snapshot".
-- cli: |-
--   aws rds create-db-cluster-snapshot --db-cluster-identifier CLUSTER --db-cluster-snapshot-identifier BEFORE
--   aws rds copy-db-cluster-snapshot --source-db-cluster-snapshot-identifier BEFORE \
--     --target-db-cluster-snapshot-identifier UNDER_KEY --kms-key-id KEY_ARN
--   aws rds restore-db-cluster-from-snapshot --db-cluster-identifier NEW_CLUSTER --engine ENGINE \
--     --snapshot-identifier UNDER_KEY
-- terraform: >-
--   Set storage_encrypted = true and kms_key_id in aws_rds_cluster: Terraform replaces the cluster, so restore from the
--   encrypted copy with snapshot_identifier.
WITH used AS (
  -- One row a resource; the role is unknown where the resource did not tell its key.
  SELECT * FROM key_usage
  WHERE resource_type IN ('AWS::RDS::DBCluster', 'AWS::DocDB::DBCluster', 'AWS::Neptune::DBCluster')
    AND role IN ('storage', 'unknown')
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
WHERE s.resource_type IN ('AWS::RDS::DBCluster', 'AWS::DocDB::DBCluster', 'AWS::Neptune::DBCluster')

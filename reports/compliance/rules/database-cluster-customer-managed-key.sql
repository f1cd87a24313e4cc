-- id: database-cluster-customer-managed-key
-- title: Database clusters are encrypted with a customer managed key
-- severity: medium
-- family: databases
-- why: >-
--   A cluster under a key that AWS manages or owns cannot be shared as a snapshot with another account, and its key has
--   no policy of yours. Aurora clusters that name no key are encrypted with a key that AWS owns: not even the use of
--   that key is visible to you.
-- fix: >-
--   An existing cluster cannot be given another key in place: take a snapshot, copy it with the key, restore from the
--   copy, and move the applications to the new endpoint; plan a stop of writes, and keep the old cluster until the new
--   one is proved.
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
--   Set kms_key_id in aws_rds_cluster: it forces a replacement, so restore from a copy of the snapshot under the key
--   with snapshot_identifier.
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
WHERE s.resource_type IN ('AWS::RDS::DBCluster', 'AWS::DocDB::DBCluster', 'AWS::Neptune::DBCluster')

-- id: database-performance-insights-key
-- title: Performance Insights data is encrypted with a customer managed key
-- severity: low
-- family: databases
-- why: >-
--   Performance Insights keeps the text of queries, with values in them, for up to two years, under a key of its own
--   that is chosen apart from the key of the storage. A database under your key may well keep its queries under the AWS
--   managed one.
-- fix: >-
--   The key is chosen when Performance Insights is turned on and cannot be changed: turn it off, which deletes the data
--   that it collected, and on again with the key. There is no interruption of the database.
-- console: >-
--   In RDS choose the database, "Modify", turn Performance Insights off and apply; then turn it on with the key.
-- cli: |-
--   aws rds modify-db-instance --db-instance-identifier DATABASE --no-enable-performance-insights \
--     --apply-immediately
--   aws rds modify-db-instance --db-instance-identifier DATABASE --enable-performance-insights \
--     --performance-insights-kms-key-id KEY_ARN --apply-immediately
-- terraform: >-
--   Set performance_insights_kms_key_id in aws_db_instance or aws_rds_cluster_instance, after applying
--   performance_insights_enabled = false once.
WITH used AS (
  -- One row a resource; the role is unknown where the resource did not tell its key.
  SELECT * FROM key_usage
  WHERE resource_type IN ('AWS::RDS::DBInstance', 'AWS::DocDB::DBInstance', 'AWS::Neptune::DBInstance',
    'AWS::RDS::DBCluster', 'AWS::DocDB::DBCluster', 'AWS::Neptune::DBCluster')
    AND role IN ('performance-insights', 'unknown')
  QUALIFY row_number() OVER (PARTITION BY resource_arn ORDER BY position) = 1
)
SELECT
  s.resource_arn, s.account_id, s.region, u.key_arn,
  CASE
    WHEN u.resource_arn IS NULL THEN 'not_applicable'
    WHEN u.key_class IS NULL OR u.key_class IN ('unknown', 'not_crawled') THEN 'unknown'
    WHEN u.key_class IN ('none', 'aws_owned', 'aws_managed', 'dangling') THEN 'fail'
    WHEN u.key_class = 'customer' THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN u.resource_arn IS NULL THEN 'Performance Insights is not turned on.'
    WHEN u.key_class IS NULL THEN 'The key of Performance Insights is not known: the crawl has no answer for it.'
    WHEN u.key_class = 'unknown'
      THEN 'The key of Performance Insights is not known: ' || coalesce(u.reason, 'no reason was given') || '.'
    WHEN u.key_class = 'not_crawled' THEN 'The key ' || coalesce(u.key_arn, u.raw, 'of Performance Insights')
      || ' is in an account or region that was not crawled, so it is not known who manages it.'
    WHEN u.key_class = 'none' THEN 'It is not encrypted with a KMS key.'
    WHEN u.key_class = 'aws_owned'
      THEN 'A key that AWS owns encrypts it' || coalesce(' (' || s.encryption || ')', '') || '.'
    WHEN u.key_class = 'aws_managed'
      THEN 'The AWS managed key ' || coalesce(u.key_alias, u.raw, u.key_arn, 'of the service') || ' encrypts it.'
    WHEN u.key_class = 'dangling'
      THEN 'The key ' || coalesce(u.key_alias, u.key_arn, u.raw, 'of Performance Insights') || ' no longer exists.'
    WHEN u.key_class = 'customer'
      THEN 'The customer managed key ' || coalesce(u.key_alias, u.key_arn, u.raw, '') || ' encrypts it.'
    ELSE 'Its key is of class ' || u.key_class || ', which this rule does not know.'
  END || CASE WHEN s.known <> 'yes' THEN ' This is the last known state.' ELSE '' END AS reason
FROM resources s
LEFT JOIN used u ON u.resource_arn = s.resource_arn
WHERE s.resource_type IN ('AWS::RDS::DBInstance', 'AWS::DocDB::DBInstance', 'AWS::Neptune::DBInstance',
  'AWS::RDS::DBCluster', 'AWS::DocDB::DBCluster', 'AWS::Neptune::DBCluster')

-- id: database-activity-stream-key
-- title: Activity streams are encrypted with a customer managed key
-- severity: medium
-- family: databases
-- why: >-
--   An activity stream carries every statement that runs on the database to those who watch it. Its key decides who can
--   read the stream, apart from the administrators of the database, who must not; that needs a key with a policy of
--   your own.
-- fix: >-
--   Stop the stream and start it again with the key. The stream has a gap in between, so tell whoever watches it.
-- console: >-
--   In RDS choose the database, "Actions", "Stop database activity stream"; then "Start database activity stream" with
--   the key.
-- cli: |-
--   aws rds stop-activity-stream --resource-arn DATABASE_ARN --apply-immediately
--   aws rds start-activity-stream --resource-arn DATABASE_ARN --mode async --kms-key-id KEY_ARN --apply-immediately
-- terraform: >-
--   Set kms_key_id in the resource aws_rds_cluster_activity_stream; it is replaced, which interrupts the stream.
WITH used AS (
  -- One row a resource; the role is unknown where the resource did not tell its key.
  SELECT * FROM key_usage
  WHERE resource_type IN ('AWS::RDS::DBInstance', 'AWS::DocDB::DBInstance', 'AWS::Neptune::DBInstance',
    'AWS::RDS::DBCluster', 'AWS::DocDB::DBCluster', 'AWS::Neptune::DBCluster')
    AND role IN ('activity-stream', 'unknown')
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
    WHEN u.resource_arn IS NULL THEN 'It has no activity stream.'
    WHEN u.key_class IS NULL THEN 'The key of its activity stream is not known: the crawl has no answer for it.'
    WHEN u.key_class = 'unknown'
      THEN 'The key of its activity stream is not known: ' || coalesce(u.reason, 'no reason was given') || '.'
    WHEN u.key_class = 'not_crawled' THEN 'The key ' || coalesce(u.key_arn, u.raw, 'of its activity stream')
      || ' is in an account or region that was not crawled, so it is not known who manages it.'
    WHEN u.key_class = 'none' THEN 'It is not encrypted with a KMS key.'
    WHEN u.key_class = 'aws_owned'
      THEN 'A key that AWS owns encrypts it' || coalesce(' (' || s.encryption || ')', '') || '.'
    WHEN u.key_class = 'aws_managed'
      THEN 'The AWS managed key ' || coalesce(u.key_alias, u.raw, u.key_arn, 'of the service') || ' encrypts it.'
    WHEN u.key_class = 'dangling'
      THEN 'The key ' || coalesce(u.key_alias, u.key_arn, u.raw, 'of its activity stream') || ' no longer exists.'
    WHEN u.key_class = 'customer'
      THEN 'The customer managed key ' || coalesce(u.key_alias, u.key_arn, u.raw, '') || ' encrypts it.'
    ELSE 'Its key is of class ' || u.key_class || ', which this rule does not know.'
  END || CASE WHEN s.known <> 'yes' THEN ' This is the last known state.' ELSE '' END AS reason
FROM resources s
LEFT JOIN used u ON u.resource_arn = s.resource_arn
WHERE s.resource_type IN ('AWS::RDS::DBInstance', 'AWS::DocDB::DBInstance', 'AWS::Neptune::DBInstance',
  'AWS::RDS::DBCluster', 'AWS::DocDB::DBCluster', 'AWS::Neptune::DBCluster')

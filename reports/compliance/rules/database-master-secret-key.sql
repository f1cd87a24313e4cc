-- id: database-master-secret-key
-- title: Master passwords that RDS manages are encrypted with a customer managed key
-- severity: medium
-- family: databases
-- why: >-
--   RDS can keep the master password of a database as a secret. Under the AWS managed key of Secrets Manager everyone
--   in the account who may read secrets can decrypt it, and it cannot be shared with the account of your database
--   administrators.
-- fix: >-
--   The key is chosen when RDS takes over the password. To change it, take the password back by setting one of your
--   own, then let RDS manage it again with the key; the password changes both times, so stop what uses the master user
--   first.
-- console: >-
--   In RDS choose the database, "Modify", turn "Managed in AWS Secrets Manager" off with a new password and apply; then
--   turn it on with the key.
-- cli: |-
--   aws rds modify-db-instance --db-instance-identifier DATABASE --no-manage-master-user-password \
--     --master-user-password PASSWORD --apply-immediately
--   aws rds modify-db-instance --db-instance-identifier DATABASE --manage-master-user-password \
--     --master-user-secret-kms-key-id KEY_ARN --apply-immediately
-- terraform: >-
--   Set manage_master_user_password = true and master_user_secret_kms_key_id in aws_db_instance or aws_rds_cluster.
WITH used AS (
  -- One row a resource; the role is unknown where the resource did not tell its key.
  SELECT * FROM key_usage
  WHERE resource_type IN ('AWS::RDS::DBInstance', 'AWS::DocDB::DBInstance', 'AWS::Neptune::DBInstance',
    'AWS::RDS::DBCluster', 'AWS::DocDB::DBCluster', 'AWS::Neptune::DBCluster')
    AND role IN ('master-user-secret', 'unknown')
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
    WHEN u.resource_arn IS NULL THEN 'RDS does not manage its master password.'
    WHEN u.key_class IS NULL THEN 'The key of the master password is not known: the crawl has no answer for it.'
    WHEN u.key_class = 'unknown'
      THEN 'The key of the master password is not known: ' || coalesce(u.reason, 'no reason was given') || '.'
    WHEN u.key_class = 'not_crawled' THEN 'The key ' || coalesce(u.key_arn, u.raw, 'of the master password')
      || ' is in an account or region that was not crawled, so it is not known who manages it.'
    WHEN u.key_class = 'none' THEN 'It is not encrypted with a KMS key.'
    WHEN u.key_class = 'aws_owned'
      THEN 'A key that AWS owns encrypts it' || coalesce(' (' || s.encryption || ')', '') || '.'
    WHEN u.key_class = 'aws_managed'
      THEN 'The AWS managed key ' || coalesce(u.key_alias, u.raw, u.key_arn, 'of the service') || ' encrypts it.'
    WHEN u.key_class = 'dangling'
      THEN 'The key ' || coalesce(u.key_alias, u.key_arn, u.raw, 'of the master password') || ' no longer exists.'
    WHEN u.key_class = 'customer'
      THEN 'The customer managed key ' || coalesce(u.key_alias, u.key_arn, u.raw, '') || ' encrypts it.'
    ELSE 'Its key is of class ' || u.key_class || ', which this rule does not know.'
  END || CASE WHEN s.known <> 'yes' THEN ' This is the last known state.' ELSE '' END AS reason
FROM resources s
LEFT JOIN used u ON u.resource_arn = s.resource_arn
WHERE s.resource_type IN ('AWS::RDS::DBInstance', 'AWS::DocDB::DBInstance', 'AWS::Neptune::DBInstance',
  'AWS::RDS::DBCluster', 'AWS::DocDB::DBCluster', 'AWS::Neptune::DBCluster')

-- id: database-master-secret-key
-- title: RDS-managed master passwords are encrypted with a customer managed key
-- severity: medium
-- family: databases
-- why: >-
--   RDS can store the master password of a database as a secret. With the AWS managed key of Secrets Manager, every
--   principal in the account that may read secrets can decrypt it, and it cannot be shared with the account of your
--   database administrators.
-- fix: >-
--   The key is set when RDS starts to manage the password. To change it, turn off RDS management by setting a password
--   of your own, then turn it on again with the key. The password changes both times, so stop everything that uses the
--   master user first.
-- console: >-
--   In RDS, choose the database, "Modify", turn off "Managed in AWS Secrets Manager" with a new password and apply;
--   then turn it on with the key.
-- cli: |-
--   aws rds modify-db-instance --db-instance-identifier DATABASE --no-manage-master-user-password \
--     --master-user-password PASSWORD --apply-immediately
--   aws rds modify-db-instance --db-instance-identifier DATABASE --manage-master-user-password \
--     --master-user-secret-kms-key-id KEY_ARN --apply-immediately
-- terraform: >-
--   Set manage_master_user_password = true and master_user_secret_kms_key_id in aws_db_instance or aws_rds_cluster.
SELECT s.resource_arn, s.account_id, s.region, e.key_arn,
  CASE
    WHEN e.resource_arn IS NULL THEN not_applicable('RDS does not manage its master password.')
    ELSE verdict_of(e.customer_managed, e.customer_managed_reason)
  END AS verdict,
  CASE WHEN s.freshness <> 'current' THEN ' This is the last known state.' END AS note
FROM resources s
LEFT JOIN resource_encryption e ON e.resource_arn = s.resource_arn AND e.role = 'master-user-secret'
WHERE s.resource_type IN ('AWS::RDS::DBInstance', 'AWS::DocDB::DBInstance', 'AWS::Neptune::DBInstance',
  'AWS::RDS::DBCluster', 'AWS::DocDB::DBCluster', 'AWS::Neptune::DBCluster')

-- id: database-key-usable
-- title: All keys of every database are usable
-- severity: critical
-- family: databases
-- why: >-
--   A database loses access to its storage when its key is disabled or deleted. RDS stops it and allows seven days to
--   restore the key; after that, only a backup encrypted with another key helps. Keys of Performance Insights, activity
--   streams and the master password fail less visibly.
-- fix: >-
--   Enable the key, or cancel its deletion and then enable it. A database in status
--   inaccessible-encryption-credentials-recoverable must then be started within seven days. A database in status
--   inaccessible-encryption-credentials can only be restored from a backup.
-- console: >-
--   In KMS, open the key and choose "Key actions", "Cancel key deletion" and "Enable"; then in RDS choose the database,
--   "Actions", "Start".
-- cli: |-
--   aws kms cancel-key-deletion --key-id KEY_ARN
--   aws kms enable-key --key-id KEY_ARN
--   aws rds start-db-instance --db-instance-identifier DATABASE
-- terraform: >-
--   Set is_enabled = true in the resource aws_kms_key; Terraform can neither cancel a deletion nor start the database.
WITH database AS (
  SELECT *, coalesce(starts_with(status, 'inaccessible-encryption-credentials'), false) AS inaccessible
  FROM key_usability
  WHERE resource_type IN ('AWS::RDS::DBInstance', 'AWS::DocDB::DBInstance', 'AWS::Neptune::DBInstance',
    'AWS::RDS::DBCluster', 'AWS::DocDB::DBCluster', 'AWS::Neptune::DBCluster')
)
SELECT resource_arn, account_id, region, key_arn,
  usability_verdict(CASE WHEN inaccessible THEN 'unusable' ELSE usability END, reason) AS verdict,
  CASE WHEN inaccessible THEN ' Its status is ' || status || '.' ELSE '' END || stale_note AS note
FROM database

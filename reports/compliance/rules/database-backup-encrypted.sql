-- id: database-backup-encrypted
-- title: Automated backups of databases are encrypted
-- severity: high
-- family: databases
-- why: >-
--   Automated backups hold the database and its log for up to 35 days, and can be kept after it is deleted. They
--   inherit the encryption of the database; an unencrypted one shows data that was left unprotected, maybe of a
--   database long gone.
-- fix: >-
--   Encrypt the database (see database-encrypted): its new backups are then encrypted, and the old ones expire with
--   their retention. Delete kept backups of deleted databases that nobody needs, or restore and copy them under a key.
-- console: >-
--   In RDS, "Automated backups", tab "Retained", choose the backup and delete it; for current ones encrypt the
--   database.
-- cli: >-
--   aws rds delete-db-instance-automated-backup --dbi-resource-id RESOURCE_ID
-- terraform: >-
--   Set storage_encrypted = true in aws_db_instance or aws_rds_cluster; set delete_automated_backups = true where
--   backups need not outlive the database.
WITH used AS (
  -- One row a resource; the role is unknown where the resource did not tell its key.
  SELECT * FROM key_usage
  WHERE resource_type IN ('AWS::RDS::DBInstanceAutomatedBackup', 'AWS::RDS::DBClusterAutomatedBackup')
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
WHERE s.resource_type IN ('AWS::RDS::DBInstanceAutomatedBackup', 'AWS::RDS::DBClusterAutomatedBackup')

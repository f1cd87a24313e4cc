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
SELECT resource_arn, account_id, region, key_arn,
  CASE encrypted WHEN false THEN 'fail' WHEN true THEN 'pass' ELSE 'unknown' END AS status,
  encrypted_reason || stale_note AS reason
FROM resource_encryption
WHERE resource_type IN ('AWS::RDS::DBInstanceAutomatedBackup', 'AWS::RDS::DBClusterAutomatedBackup')
  AND role = 'storage'

-- id: database-backup-encrypted
-- title: Automated database backups are encrypted
-- severity: high
-- family: databases
-- why: >-
--   Automated backups contain the database and its log for up to 35 days and can be retained after the database is
--   deleted. They inherit the encryption of the database, so an unencrypted backup is unprotected data, possibly of a
--   database that no longer exists.
-- fix: >-
--   Encrypt the database (see database-encrypted): new backups are then encrypted, and the old ones expire with their
--   retention period. Delete retained backups of deleted databases that are no longer needed, or restore them and copy
--   them with a key.
-- console: >-
--   In RDS, "Automated backups", tab "Retained", choose the backup and delete it; for current backups, encrypt the
--   database.
-- cli: >-
--   aws rds delete-db-instance-automated-backup --dbi-resource-id RESOURCE_ID
-- terraform: >-
--   Set storage_encrypted = true in aws_db_instance or aws_rds_cluster; set delete_automated_backups = true if backups
--   need not outlive the database.
SELECT resource_arn, account_id, region, key_arn, stale_note AS note, verdict_of(encrypted, encrypted_reason) AS verdict
FROM resource_encryption
WHERE resource_type IN ('AWS::RDS::DBInstanceAutomatedBackup', 'AWS::RDS::DBClusterAutomatedBackup') AND role = 'storage'

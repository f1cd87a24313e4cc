-- id: database-encrypted
-- title: Database instances are encrypted at rest
-- severity: high
-- family: databases
-- why: >-
--   If the storage of a database is not encrypted, anyone who gains access to the disk, a replica or a shared snapshot
--   can read the data without needing a key.
-- fix: >-
--   Encryption is set when a database is created, and the key of an existing database cannot be changed in place. Take
--   a snapshot, copy it with the key, restore from the copy, and switch the applications to the new endpoint. Schedule
--   downtime for writes, and keep the old database until the new one is verified.
-- console: >-
--   In RDS, open the database, choose "Actions", "Take snapshot"; on the snapshot, choose "Copy snapshot" with
--   encryption and the key, then "Restore snapshot".
-- cli: |-
--   aws rds create-db-snapshot --db-instance-identifier DATABASE --db-snapshot-identifier BEFORE
--   aws rds copy-db-snapshot --source-db-snapshot-identifier BEFORE --target-db-snapshot-identifier UNDER_KEY \
--     --kms-key-id KEY_ARN
--   aws rds restore-db-instance-from-db-snapshot --db-instance-identifier NEW_DATABASE \
--     --db-snapshot-identifier UNDER_KEY
-- terraform: >-
--   Set storage_encrypted = true and kms_key_id in aws_db_instance. Terraform replaces the database, so restore it with
--   snapshot_identifier from the encrypted copy.
SELECT resource_arn, account_id, region, key_arn, stale_note AS note,
  CASE
    WHEN not_applicable_reason IS NOT NULL THEN not_applicable(not_applicable_reason)
    ELSE verdict_of(encrypted, encrypted_reason)
  END AS verdict
FROM resource_encryption
WHERE resource_type IN ('AWS::RDS::DBInstance', 'AWS::DocDB::DBInstance', 'AWS::Neptune::DBInstance') AND role = 'storage'

-- id: database-snapshot-key-usable
-- title: Database snapshots and backups can be decrypted
-- severity: high
-- family: databases
-- why: >-
--   A backup is only as good as its key. Snapshots outlive databases, so a key that appears unused may be required for
--   years of backups, and the loss is only noticed when a restore is needed.
-- fix: >-
--   First enable the key or cancel its deletion. To retire a key, copy the snapshots worth keeping with another key
--   while the old key still works, and delete the rest.
-- console: >-
--   In KMS, open the key and choose "Key actions", "Cancel key deletion" or "Enable"; in RDS, "Snapshots", copy the
--   snapshots to keep with another key.
-- cli: |-
--   aws kms cancel-key-deletion --key-id KEY_ARN
--   aws kms enable-key --key-id KEY_ARN
--   aws rds copy-db-snapshot --source-db-snapshot-identifier SNAPSHOT --target-db-snapshot-identifier COPY \
--     --kms-key-id OTHER_KEY_ARN
-- terraform: >-
--   Set is_enabled = true in the resource aws_kms_key; copies under another key are aws_db_snapshot_copy resources.
SELECT resource_arn, account_id, region, key_arn, stale_note AS note,
  usability_verdict(usability, reason) AS verdict
FROM key_usability
WHERE resource_type IN ('AWS::RDS::DBSnapshot', 'AWS::RDS::DBClusterSnapshot', 'AWS::RDS::DBInstanceAutomatedBackup',
  'AWS::RDS::DBClusterAutomatedBackup')

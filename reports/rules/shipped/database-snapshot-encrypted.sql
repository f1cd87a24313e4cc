-- id: database-snapshot-encrypted
-- title: Database snapshots are encrypted
-- severity: high
-- family: databases
-- why: >-
--   A snapshot is a complete copy of the database that can be copied and shared with a click. An unencrypted snapshot
--   is protected only by its sharing settings, which are easy to change.
-- fix: >-
--   Copy the snapshot with a key, test a restore from the copy, and delete the unencrypted snapshot. Encrypt the source
--   database; otherwise the next snapshot is unencrypted again.
-- console: >-
--   In RDS, "Snapshots", choose the snapshot, "Actions", "Copy snapshot", select "Enable encryption" and choose the
--   key.
-- cli: |-
--   aws rds copy-db-snapshot --source-db-snapshot-identifier SNAPSHOT --target-db-snapshot-identifier COPY \
--     --kms-key-id KEY_ARN
--   aws rds delete-db-snapshot --db-snapshot-identifier SNAPSHOT
-- terraform: >-
--   Add a resource aws_db_snapshot_copy with source_db_snapshot_identifier and kms_key_id
--   (aws_rds_cluster_snapshot_copy for clusters).
SELECT resource_arn, account_id, region, key_arn, stale_note AS note, verdict_of(encrypted, encrypted_reason) AS verdict
FROM resource_encryption
WHERE resource_type IN ('AWS::RDS::DBSnapshot', 'AWS::RDS::DBClusterSnapshot') AND role = 'storage'

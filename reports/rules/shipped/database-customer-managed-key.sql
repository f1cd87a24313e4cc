-- id: database-customer-managed-key
-- title: Database instances are encrypted with a customer managed key
-- severity: medium
-- family: databases
-- why: >-
--   Snapshots encrypted with the AWS managed key of RDS cannot leave their account: they cannot be shared with or
--   copied to another account, such as a backup account, and access to the key cannot be revoked in an emergency. A
--   customer managed key has its own policy, audit trail and off switch.
-- fix: >-
--   The key of an existing database cannot be changed in place. Take a snapshot, copy it with the key, restore from the
--   copy, and switch the applications to the new endpoint. Schedule downtime for writes, and keep the old database
--   until the new one is verified.
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
--   Set kms_key_id in aws_db_instance. It forces a replacement, so restore with snapshot_identifier from a snapshot
--   copy that uses the key.
SELECT resource_arn, account_id, region, key_arn, stale_note AS note,
  CASE
    WHEN not_applicable_reason IS NOT NULL THEN not_applicable(not_applicable_reason)
    ELSE verdict_of(customer_managed, customer_managed_reason)
  END AS verdict
FROM resource_encryption
WHERE resource_type IN ('AWS::RDS::DBInstance', 'AWS::DocDB::DBInstance', 'AWS::Neptune::DBInstance') AND role = 'storage'

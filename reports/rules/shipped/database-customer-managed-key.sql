-- id: database-customer-managed-key
-- title: Database instances are encrypted with a customer managed key
-- severity: medium
-- family: databases
-- why: >-
--   Under the AWS managed key of RDS every snapshot stays in its account: it cannot be shared or copied to another
--   account, for example a backup account, and nobody can withdraw the key in an emergency. A key of your own has a
--   policy, an audit trail and an off-switch.
-- fix: >-
--   An existing database cannot be given another key in place: take a snapshot, copy it with the key, restore from the
--   copy, and move the applications to the new endpoint; plan a stop of writes, and keep the old database until the new
--   one is proved.
-- console: >-
--   In RDS open the database, choose "Actions", "Take snapshot"; on the snapshot choose "Copy snapshot" with encryption
--   and the key, then "Restore snapshot".
-- cli: |-
--   aws rds create-db-snapshot --db-instance-identifier DATABASE --db-snapshot-identifier BEFORE
--   aws rds copy-db-snapshot --source-db-snapshot-identifier BEFORE --target-db-snapshot-identifier UNDER_KEY \
--     --kms-key-id KEY_ARN
--   aws rds restore-db-instance-from-db-snapshot --db-instance-identifier NEW_DATABASE \
--     --db-snapshot-identifier UNDER_KEY
-- terraform: >-
--   Set kms_key_id in aws_db_instance: it forces a replacement, so restore from a copy of the snapshot under the key
--   with snapshot_identifier.
SELECT resource_arn, account_id, region, key_arn,
  CASE WHEN not_applicable_reason IS NOT NULL THEN 'not_applicable' WHEN customer_managed = false THEN 'fail'
    WHEN customer_managed = true THEN 'pass' ELSE 'unknown' END AS status,
  coalesce(not_applicable_reason, customer_managed_reason) || stale_note AS reason
FROM resource_encryption
WHERE resource_type IN ('AWS::RDS::DBInstance', 'AWS::DocDB::DBInstance', 'AWS::Neptune::DBInstance')
  AND role = 'storage'

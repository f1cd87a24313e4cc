-- id: database-cluster-customer-managed-key
-- title: Database clusters are encrypted with a customer managed key
-- severity: medium
-- family: databases
-- why: >-
--   A cluster under a key that AWS manages or owns cannot be shared as a snapshot with another account, and its key has
--   no policy of yours. Aurora clusters that name no key are encrypted with a key that AWS owns: not even the use of
--   that key is visible to you.
-- fix: >-
--   An existing cluster cannot be given another key in place: take a snapshot, copy it with the key, restore from the
--   copy, and move the applications to the new endpoint; plan a stop of writes, and keep the old cluster until the new
--   one is proved.
-- console: >-
--   In RDS open the cluster, choose "Actions", "Take snapshot"; on the snapshot choose "Copy snapshot" with encryption
--   and the key, then "Restore snapshot".
-- cli: |-
--   aws rds create-db-cluster-snapshot --db-cluster-identifier CLUSTER --db-cluster-snapshot-identifier BEFORE
--   aws rds copy-db-cluster-snapshot --source-db-cluster-snapshot-identifier BEFORE \
--     --target-db-cluster-snapshot-identifier UNDER_KEY --kms-key-id KEY_ARN
--   aws rds restore-db-cluster-from-snapshot --db-cluster-identifier NEW_CLUSTER --engine ENGINE \
--     --snapshot-identifier UNDER_KEY
-- terraform: >-
--   Set kms_key_id in aws_rds_cluster: it forces a replacement, so restore from a copy of the snapshot under the key
--   with snapshot_identifier.
SELECT resource_arn, account_id, region, key_arn,
  CASE customer_managed WHEN false THEN 'fail' WHEN true THEN 'pass' ELSE 'unknown' END AS status,
  customer_managed_reason || stale_note AS reason
FROM resource_encryption
WHERE resource_type IN ('AWS::RDS::DBCluster', 'AWS::DocDB::DBCluster', 'AWS::Neptune::DBCluster') AND role = 'storage'

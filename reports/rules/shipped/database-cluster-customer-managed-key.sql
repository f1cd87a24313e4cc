-- id: database-cluster-customer-managed-key
-- title: Database clusters are encrypted with a customer managed key
-- severity: medium
-- family: databases
-- why: >-
--   Snapshots of a cluster with an AWS managed or AWS owned key cannot be shared with another account, and you do not
--   control the key policy. Aurora clusters created without a key use an AWS owned key, whose use is not even visible
--   to you.
-- fix: >-
--   The key of an existing cluster cannot be changed in place. Take a snapshot, copy it with the key, restore from the
--   copy, and switch the applications to the new endpoint. Schedule downtime for writes, and keep the old cluster until
--   the new one is verified.
-- console: >-
--   In RDS, open the cluster, choose "Actions", "Take snapshot"; on the snapshot, choose "Copy snapshot" with
--   encryption and the key, then "Restore snapshot".
-- cli: |-
--   aws rds create-db-cluster-snapshot --db-cluster-identifier CLUSTER --db-cluster-snapshot-identifier BEFORE
--   aws rds copy-db-cluster-snapshot --source-db-cluster-snapshot-identifier BEFORE \
--     --target-db-cluster-snapshot-identifier UNDER_KEY --kms-key-id KEY_ARN
--   aws rds restore-db-cluster-from-snapshot --db-cluster-identifier NEW_CLUSTER --engine ENGINE \
--     --snapshot-identifier UNDER_KEY
-- terraform: >-
--   Set kms_key_id in aws_rds_cluster. It forces a replacement, so restore with snapshot_identifier from a snapshot
--   copy that uses the key.
SELECT resource_arn, account_id, region, key_arn, stale_note AS note,
  verdict_of(customer_managed, customer_managed_reason) AS verdict
FROM resource_encryption
WHERE resource_type IN ('AWS::RDS::DBCluster', 'AWS::DocDB::DBCluster', 'AWS::Neptune::DBCluster') AND role = 'storage'

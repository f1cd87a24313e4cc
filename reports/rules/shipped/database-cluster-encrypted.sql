-- id: database-cluster-encrypted
-- title: Database clusters are encrypted at rest
-- severity: high
-- family: databases
-- why: >-
--   All instances of a cluster share its storage: if the storage is not encrypted, neither are the instances, snapshots
--   and clones. New Aurora clusters are always encrypted; older clusters and Multi-AZ clusters may not be.
-- fix: >-
--   Encryption is set when a cluster is created, and the key of an existing cluster cannot be changed in place. Take a
--   snapshot, copy it with the key, restore from the copy, and switch the applications to the new endpoint. Schedule
--   downtime for writes, and keep the old cluster until the new one is verified.
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
--   Set storage_encrypted = true and kms_key_id in aws_rds_cluster. Terraform replaces the cluster, so restore it with
--   snapshot_identifier from the encrypted copy.
SELECT resource_arn, account_id, region, key_arn, stale_note AS note, verdict_of(encrypted, encrypted_reason) AS verdict
FROM resource_encryption
WHERE resource_type IN ('AWS::RDS::DBCluster', 'AWS::DocDB::DBCluster', 'AWS::Neptune::DBCluster') AND role = 'storage'

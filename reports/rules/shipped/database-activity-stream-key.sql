-- id: database-activity-stream-key
-- title: Activity streams are encrypted with a customer managed key
-- severity: medium
-- family: databases
-- why: >-
--   An activity stream delivers every statement that runs on the database to its consumers. Its key controls who can
--   read the stream, which must exclude the database administrators; that requires a key whose policy you control.
-- fix: >-
--   Stop the stream and start it again with the key. The stream has a gap in between, so notify its consumers.
-- console: >-
--   In RDS, choose the database, "Actions", "Stop database activity stream"; then "Start database activity stream" with
--   the key.
-- cli: |-
--   aws rds stop-activity-stream --resource-arn DATABASE_ARN --apply-immediately
--   aws rds start-activity-stream --resource-arn DATABASE_ARN --mode async --kms-key-id KEY_ARN --apply-immediately
-- terraform: >-
--   Set kms_key_id in aws_rds_cluster_activity_stream. Terraform replaces the stream, which interrupts it.
SELECT s.resource_arn, s.account_id, s.region, e.key_arn,
  CASE
    WHEN e.resource_arn IS NULL THEN not_applicable('It has no activity stream.')
    ELSE verdict_of(e.customer_managed, e.customer_managed_reason)
  END AS verdict,
  CASE WHEN s.freshness <> 'current' THEN ' This is the last known state.' END AS note
FROM resources s
LEFT JOIN resource_encryption e ON e.resource_arn = s.resource_arn AND e.role = 'activity-stream'
WHERE s.resource_type IN ('AWS::RDS::DBInstance', 'AWS::DocDB::DBInstance', 'AWS::Neptune::DBInstance',
  'AWS::RDS::DBCluster', 'AWS::DocDB::DBCluster', 'AWS::Neptune::DBCluster')

-- id: database-performance-insights-key
-- title: Performance Insights data is encrypted with a customer managed key
-- severity: low
-- family: databases
-- why: >-
--   Performance Insights stores query texts, including values, for up to two years, under a key that is configured
--   separately from the storage key. A database encrypted with your key may still store its queries under the AWS
--   managed key.
-- fix: >-
--   The key is set when Performance Insights is turned on and cannot be changed. Turn Performance Insights off, which
--   deletes the collected data, and on again with the key. The database is not interrupted.
-- console: >-
--   In RDS, choose the database, "Modify", turn off Performance Insights and apply; then turn it on with the key.
-- cli: |-
--   aws rds modify-db-instance --db-instance-identifier DATABASE --no-enable-performance-insights \
--     --apply-immediately
--   aws rds modify-db-instance --db-instance-identifier DATABASE --enable-performance-insights \
--     --performance-insights-kms-key-id KEY_ARN --apply-immediately
-- terraform: >-
--   Set performance_insights_kms_key_id in aws_db_instance or aws_rds_cluster_instance, after applying
--   performance_insights_enabled = false once.
SELECT s.resource_arn, s.account_id, s.region, e.key_arn,
  CASE
    WHEN e.resource_arn IS NULL THEN not_applicable('Performance Insights is not turned on.')
    ELSE verdict_of(e.customer_managed, e.customer_managed_reason)
  END AS verdict,
  CASE WHEN s.freshness <> 'current' THEN ' This is the last known state.' END AS note
FROM resources s
LEFT JOIN resource_encryption e ON e.resource_arn = s.resource_arn AND e.role = 'performance-insights'
WHERE s.resource_type IN ('AWS::RDS::DBInstance', 'AWS::DocDB::DBInstance', 'AWS::Neptune::DBInstance',
  'AWS::RDS::DBCluster', 'AWS::DocDB::DBCluster', 'AWS::Neptune::DBCluster')

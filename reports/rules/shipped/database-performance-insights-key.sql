-- id: database-performance-insights-key
-- title: Performance Insights data is encrypted with a customer managed key
-- severity: low
-- family: databases
-- why: >-
--   Performance Insights keeps the text of queries, with values in them, for up to two years, under a key of its own
--   that is chosen apart from the key of the storage. A database under your key may well keep its queries under the AWS
--   managed one.
-- fix: >-
--   The key is chosen when Performance Insights is turned on and cannot be changed: turn it off, which deletes the data
--   that it collected, and on again with the key. There is no interruption of the database.
-- console: >-
--   In RDS choose the database, "Modify", turn Performance Insights off and apply; then turn it on with the key.
-- cli: |-
--   aws rds modify-db-instance --db-instance-identifier DATABASE --no-enable-performance-insights \
--     --apply-immediately
--   aws rds modify-db-instance --db-instance-identifier DATABASE --enable-performance-insights \
--     --performance-insights-kms-key-id KEY_ARN --apply-immediately
-- terraform: >-
--   Set performance_insights_kms_key_id in aws_db_instance or aws_rds_cluster_instance, after applying
--   performance_insights_enabled = false once.
SELECT s.resource_arn, s.account_id, s.region, e.key_arn,
  CASE WHEN e.resource_arn IS NULL THEN 'not_applicable' WHEN e.customer_managed = false THEN 'fail'
    WHEN e.customer_managed = true THEN 'pass' ELSE 'unknown' END AS status,
  coalesce(e.customer_managed_reason, 'Performance Insights is not turned on.')
    || CASE WHEN s.freshness <> 'current' THEN ' This is the last known state.' ELSE '' END AS reason
FROM resources s
LEFT JOIN resource_encryption e ON e.resource_arn = s.resource_arn AND e.role = 'performance-insights'
WHERE s.resource_type IN ('AWS::RDS::DBInstance', 'AWS::DocDB::DBInstance', 'AWS::Neptune::DBInstance',
  'AWS::RDS::DBCluster', 'AWS::DocDB::DBCluster', 'AWS::Neptune::DBCluster')

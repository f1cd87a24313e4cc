-- id: serverless-cache-customer-managed-key
-- title: Serverless caches are encrypted with a customer managed key
-- severity: low
-- family: caches
-- why: >-
--   Serverless caches are always encrypted, but with an AWS owned key by default. Such a key cannot be viewed, audited
--   or revoked.
-- fix: >-
--   The key is set when the cache is created. Take a snapshot, create a new serverless cache from it with the key, and
--   switch the applications to its endpoint.
-- console: >-
--   In ElastiCache, choose the cache, "Actions", "Backup"; on the backup, choose "Restore" and the customer managed
--   key.
-- cli: |-
--   aws elasticache create-serverless-cache-snapshot --serverless-cache-name CACHE \
--     --serverless-cache-snapshot-name BEFORE
--   aws elasticache create-serverless-cache --serverless-cache-name NEW_CACHE --engine ENGINE \
--     --snapshot-arns-to-restore SNAPSHOT_ARN --kms-key-id KEY_ARN
-- terraform: >-
--   Set kms_key_id in aws_elasticache_serverless_cache. Terraform replaces the cache, so restore it with
--   snapshot_arns_to_restore.
SELECT resource_arn, account_id, region, key_arn, stale_note AS note,
  verdict_of(customer_managed, customer_managed_reason) AS verdict
FROM resource_encryption
WHERE resource_type = 'AWS::ElastiCache::ServerlessCache' AND role = 'storage'

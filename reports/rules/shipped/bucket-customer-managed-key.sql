-- id: bucket-customer-managed-key
-- title: Buckets encrypt new objects with a customer managed key
-- severity: low
-- family: buckets
-- why: >-
--   The AWS managed key aws/s3 cannot be used from other accounts, and its policy cannot be restricted: every principal
--   in the account that may read the object may also use the key. A customer managed key separates the two permissions.
-- fix: >-
--   Set the default encryption of the bucket. It applies to new objects only; re-encrypt existing objects by copying
--   them onto themselves, for example with S3 Batch Operations. Writers and readers need kms:GenerateDataKey and
--   kms:Decrypt on the key, including those in other accounts and services that deliver logs. Specify the key by ARN,
--   because an alias is resolved in the account of the writer.
-- console: >-
--   In S3 open the bucket, "Properties", "Default encryption", "Edit": choose SSE-KMS, the key, and leave the bucket
--   key enabled.
-- cli: >-
--   aws s3api put-bucket-encryption --bucket BUCKET --server-side-encryption-configuration
--   '{"Rules":[{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"aws:kms","KMSMasterKeyID":"KEY_ARN"},"BucketKeyEnabled":true}]}'
-- terraform: >-
--   Add an aws_s3_bucket_server_side_encryption_configuration with sse_algorithm = "aws:kms", kms_master_key_id and
--   bucket_key_enabled = true.
SELECT resource_arn, account_id, region, key_arn, stale_note AS note,
  verdict_of(customer_managed, customer_managed_reason) AS verdict
FROM resource_encryption
WHERE resource_type = 'AWS::S3::Bucket' AND role = 'default-encryption'

-- id: bucket-kms-encryption
-- title: Buckets encrypt new objects with KMS
-- severity: medium
-- family: buckets
-- why: >-
--   With keys of S3 everyone who may read an object can read it in clear. With a KMS key reading takes a second
--   permission, each use is recorded, and one switch closes all of the bucket.
-- fix: >-
--   Set the bucket's default encryption. It counts for new objects only: encrypt those that are there by copying them
--   over themselves, for example with S3 Batch Operations. Writers and readers need kms:GenerateDataKey and kms:Decrypt
--   on the key, also those of other accounts and services that deliver logs; name the key by its ARN, for an alias is
--   looked up in the account of whoever writes.
-- console: >-
--   In S3 open the bucket, "Properties", "Default encryption", "Edit": choose SSE-KMS, the key, and leave the bucket
--   key enabled.
-- cli: >-
--   aws s3api put-bucket-encryption --bucket BUCKET --server-side-encryption-configuration
--   '{"Rules":[{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"aws:kms","KMSMasterKeyID":"KEY_ARN"},"BucketKeyEnabled":true}]}'
-- terraform: >-
--   Add a resource aws_s3_bucket_server_side_encryption_configuration with sse_algorithm = "aws:kms", kms_master_key_id
--   and bucket_key_enabled = true.
WITH used AS (
  -- One row a resource; the role is unknown where the resource did not tell its key.
  SELECT * FROM resource_keys
  WHERE resource_type IN ('AWS::S3::Bucket') AND role IN ('default-encryption', 'unknown')
  QUALIFY row_number() OVER (PARTITION BY resource_arn ORDER BY position) = 1
)
SELECT
  s.resource_arn, s.account_id, s.region, u.key_arn AS key_arn,
  CASE
    WHEN u.key_class IS NULL THEN 'unknown'
    WHEN u.key_class = 'unknown' AND u.raw_value IS NULL THEN 'unknown'
    WHEN u.key_class IN ('none', 'aws_owned') THEN 'fail'
    WHEN u.raw_value IS NOT NULL OR u.key_class IN ('aws_managed', 'customer', 'not_crawled', 'dangling') THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN u.key_class IS NULL THEN 'Its default encryption is not known: the crawl has no answer for it.'
    WHEN u.key_class = 'unknown' AND u.raw_value IS NULL
      THEN 'Its default encryption is not known: ' || coalesce(u.reason, 'no reason was given') || '.'
    WHEN u.key_class IN ('none', 'aws_owned') THEN 'Its default encryption uses keys of S3, not KMS.'
    WHEN u.raw_value IS NOT NULL OR u.key_class IN ('aws_managed', 'customer', 'not_crawled', 'dangling')
      THEN 'New objects are encrypted with ' || coalesce(u.key_alias, u.key_arn, u.raw_value, 'aws/s3') || '.'
    ELSE 'Its key is of class ' || u.key_class || ', which this rule does not know.'
  END || CASE WHEN s.freshness <> 'current' THEN ' This is the last known state.' ELSE '' END AS reason
FROM resources s
LEFT JOIN used u ON u.resource_arn = s.resource_arn
WHERE s.resource_type IN ('AWS::S3::Bucket')

-- id: bucket-customer-managed-key
-- title: Buckets encrypt new objects with a customer managed key
-- severity: low
-- family: buckets
-- why: >-
--   The AWS managed key aws/s3 cannot be used from other accounts and has no policy that you could narrow: everyone in
--   the account who may read the object may also use the key. A key of your own separates the two.
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
  SELECT * FROM key_usage
  WHERE resource_type IN ('AWS::S3::Bucket') AND role IN ('default-encryption', 'unknown')
  QUALIFY row_number() OVER (PARTITION BY resource_arn ORDER BY position) = 1
)
SELECT
  s.resource_arn, s.account_id, s.region, u.key_arn,
  CASE
    WHEN u.key_class IS NULL OR u.key_class IN ('unknown', 'not_crawled') THEN 'unknown'
    WHEN u.key_class IN ('none', 'aws_owned', 'aws_managed', 'dangling') THEN 'fail'
    WHEN u.key_class = 'customer' THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN u.key_class IS NULL THEN 'The key of its default encryption is not known: the crawl has no answer for it.'
    WHEN u.key_class = 'unknown'
      THEN 'The key of its default encryption is not known: ' || coalesce(u.reason, 'no reason was given') || '.'
    WHEN u.key_class = 'not_crawled' THEN 'The key ' || coalesce(u.key_arn, u.raw, 'of its default encryption')
      || ' is in an account or region that was not crawled, so it is not known who manages it.'
    WHEN u.key_class = 'none' THEN 'It is not encrypted with a KMS key.'
    WHEN u.key_class = 'aws_owned'
      THEN 'A key that AWS owns encrypts it' || coalesce(' (' || s.encryption || ')', '') || '.'
    WHEN u.key_class = 'aws_managed'
      THEN 'The AWS managed key ' || coalesce(u.key_alias, u.raw, u.key_arn, 'of the service') || ' encrypts it.'
    WHEN u.key_class = 'dangling'
      THEN 'The key ' || coalesce(u.key_alias, u.key_arn, u.raw, 'of its default encryption') || ' no longer exists.'
    WHEN u.key_class = 'customer'
      THEN 'The customer managed key ' || coalesce(u.key_alias, u.key_arn, u.raw, '') || ' encrypts it.'
    ELSE 'Its key is of class ' || u.key_class || ', which this rule does not know.'
  END || CASE WHEN s.known <> 'yes' THEN ' This is the last known state.' ELSE '' END AS reason
FROM resources s
LEFT JOIN used u ON u.resource_arn = s.resource_arn
WHERE s.resource_type IN ('AWS::S3::Bucket')

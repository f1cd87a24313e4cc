-- id: bucket-kms-encryption
-- title: Buckets encrypt new objects with KMS
-- severity: medium
-- family: buckets
-- why: >-
--   With S3 managed keys, every principal that may read an object gets it decrypted. A KMS key requires a second
--   permission, records each use, and lets you block access to the whole bucket at once.
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
WITH bucket_key AS (
  -- One row per resource; the role is unknown if the resource did not report its key.
  SELECT * FROM resource_keys
  WHERE resource_type = 'AWS::S3::Bucket' AND role IN ('default-encryption', 'unknown')
  QUALIFY row_number() OVER (PARTITION BY resource_arn ORDER BY position) = 1
)
SELECT s.resource_arn, s.account_id, s.region, u.key_arn,
  CASE
    WHEN u.key_class IS NULL
      THEN unknown('Its default encryption could not be determined: the crawl returned no data for it.')
    WHEN u.key_class = 'unknown' AND u.raw_value IS NULL
      THEN unknown('Its default encryption could not be determined: ' || coalesce(u.reason, 'no reason reported') || '.')
    WHEN u.key_class IN ('none', 'aws_owned') THEN fail('Its default encryption uses S3 managed keys, not KMS.')
    WHEN u.raw_value IS NOT NULL OR u.key_class IN ('aws_managed', 'customer', 'not_crawled', 'dangling')
      THEN pass('New objects are encrypted with ' || coalesce(u.key_alias, u.key_arn, u.raw_value, 'aws/s3') || '.')
    ELSE unknown('Its key has class ' || u.key_class || ', which this rule does not recognize.')
  END AS verdict,
  CASE WHEN s.freshness <> 'current' THEN ' This is the last known state.' END AS note
FROM resources s
LEFT JOIN bucket_key u ON u.resource_arn = s.resource_arn
WHERE s.resource_type = 'AWS::S3::Bucket'

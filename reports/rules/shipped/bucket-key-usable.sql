-- id: bucket-key-usable
-- title: The key of every bucket is usable
-- severity: critical
-- family: buckets
-- why: >-
--   If the default key of a bucket is unusable, every write that does not specify another key fails, and existing
--   objects under the key cannot be read. Log and backup deliveries stop silently.
-- fix: >-
--   Enable the key or cancel its deletion. To retire a key, set another default key and re-encrypt the objects while
--   the old key still works. S3 does not report which objects use which key; an S3 Inventory report does.
-- console: >-
--   In KMS open the key and choose "Key actions", "Cancel key deletion" or "Enable"; in S3 change "Default encryption"
--   under "Properties".
-- cli: |-
--   aws kms cancel-key-deletion --key-id KEY_ARN
--   aws kms enable-key --key-id KEY_ARN
-- terraform: >-
--   Set is_enabled = true in the resource aws_kms_key, or kms_master_key_id of the
--   aws_s3_bucket_server_side_encryption_configuration to another key.
SELECT resource_arn, account_id, region, key_arn, stale_note AS note,
  usability_verdict(usability, reason) AS verdict
FROM key_usability
WHERE resource_type = 'AWS::S3::Bucket'
